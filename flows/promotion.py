"""Promotion: the challenger takes office, on the strength of a stored verdict."""

from __future__ import annotations

from datetime import datetime

from prefect.context import FlowRunContext

from bentos.errors import PromotionHeld
from bentos.promotion.promote import Outcome as Release
from bentos.promotion.promote import promote
from flows.runs.approval_form import approved_verdict
from flows.runs.operation import SCHEDULED, is_scheduled, operation, quiet_when_scheduled
from flows.runs.run_record import recorded
from flows.steps.comparison.compare import close_promoted, latest_verdict, require_promotable, require_reason
from flows.steps.reports.dossier import promoted_page
from flows.views.reports import release_view
from flows.workspace.outcome import Outcome
from flows.workspace.step import step
from flows.workspace.workspace import House, open_house
from monitoring.core.verdict import Verdict


@operation("promotion of {model} as of {time}")
def promotion(
    usecase: str | None = None, as_of: datetime | None = None, preview: bool = True, reason: str = ""
) -> Outcome:
    """Put the challenger in office, if the latest stored comparison says promote.

    Where the use case requires approval, the run is suspended until a person answers its form.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the request; later verdicts are not looked at. Empty takes now.
        preview: Only show what would be written. Switch off to promote.
        reason: Why, in a few words, for the record. Required when preview is off; a schedule's runs say "scheduled".
    """
    if is_scheduled("preview"):
        preview, reason = False, reason or SCHEDULED
    house = open_house(usecase)
    with recorded(house, "promotion", as_of) as run:
        require_reason(preview, reason)
        verdict = latest_verdict(house.store, house.usecase, run.as_of)
        if FlowRunContext.get() is not None:
            require_promotable(house.store, verdict, house.model, house.registry.roles(house.model))
        if not preview:
            verdict = approved_verdict(house, run, verdict)
        done = _change_roles(house, verdict, run.as_of, reason, preview)
        page = None
        if not preview:
            close_promoted(house.store, verdict, run.as_of, house.actor)
            page = promoted_page(house, verdict, run.as_of)
        return run.conclude(release_view(done, run.as_of, verdict, page))


@step(name="change the roles", run_name="put {verdict.challenger} in office", tags=("roles",))
def _change_roles(house: House, verdict: Verdict, as_of: datetime, reason: str, preview: bool) -> Release:
    """Carry a verdict out, or show what would be written; never repeated by itself."""
    with quiet_when_scheduled(PromotionHeld):  # the next night asks again
        return promote(
            house.registry, house.store, verdict, usecase=house.usecase, actor=house.actor, now=as_of,
            reason=reason, preview=preview, wait_seconds=10.0,
        )  # fmt: skip
