"""Promotion: the challenger becomes champion, on the strength of a stored verdict."""

from __future__ import annotations

from datetime import datetime

from prefect.context import FlowRunContext

from bentos.errors import PromotionHeld
from bentos.promotion.promote import ReleaseOutcome as Release
from bentos.promotion.promote import promote
from flows.runs.approval_form import approved_verdict
from flows.runs.operation import SCHEDULED, is_scheduled, operation, quiet_when_scheduled
from flows.runs.run_record import record_run
from flows.steps.comparison.compare import latest_verdict, require_promotable, require_reason
from flows.steps.reports.dossier import write_promotion_page
from flows.views.reports import release_view
from flows.workspace.outcome import FlowOutcome
from flows.workspace.step import step
from flows.workspace.workspace import Workspace, open_workspace
from monitoring.core.verdict import Verdict


@operation("promotion of {model} as of {time}")
def promotion(
    usecase: str | None = None, as_of: datetime | None = None, preview: bool = True, reason: str = ""
) -> FlowOutcome:
    """Promote the challenger, if the latest stored comparison says promote.

    Where the use case requires approval, the run is suspended until a person answers its form.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the request; later verdicts are not looked at. Empty takes now.
        preview: Only show what would be written. Switch off to promote.
        reason: Why, in a few words, for the record. Required when preview is off; a schedule's runs say "scheduled".
    """
    if is_scheduled("preview"):
        preview, reason = False, reason or SCHEDULED
    workspace = open_workspace(usecase)
    with record_run(workspace, "promotion", as_of) as run:
        require_reason(preview, reason)
        verdict = latest_verdict(workspace.store, workspace.usecase, run.as_of)
        if FlowRunContext.get() is not None:
            require_promotable(workspace.store, verdict, workspace.model, workspace.registry.roles(workspace.model))
        if not preview:
            verdict = approved_verdict(workspace, run, verdict)
        release = _change_roles(workspace, verdict, run.as_of, reason, preview)
        page = None
        if not preview:
            page = write_promotion_page(workspace, verdict, run.as_of)
        return run.conclude(release_view(release, run.as_of, verdict, page))


@step(name="change the roles", run_name="promote {verdict.challenger}", tags=("roles",))
def _change_roles(workspace: Workspace, verdict: Verdict, as_of: datetime, reason: str, preview: bool) -> Release:
    """Carry a verdict out, or show what would be written; never repeated by itself."""
    with quiet_when_scheduled(PromotionHeld):  # the next night asks again
        return promote(workspace.release_context(wait_seconds=10.0), verdict, workspace.request(reason, as_of, preview))
