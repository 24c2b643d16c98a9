"""Drift: the log's latest days against the frozen reference of whoever answered them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from flows.notify.port import tell
from flows.runs.artifacts import emit
from flows.runs.operation import operation
from flows.runs.run_record import recorded
from flows.steps.drift.check import check_drift, in_office
from flows.steps.drift.recent_cost import daily_money
from flows.steps.reports.drift_pages import drift_page
from flows.views.reports import drift_event, drift_view
from flows.workspace.installation import DRIFT_EVENT
from flows.workspace.outcome import Outcome
from flows.workspace.workspace import open_house


@operation("check the drift of {model} as of {time}")
def drift(
    usecase: str | None = None,
    as_of: datetime | None = None,
    html: Literal["on_change", "always", "never"] = "always",
    skew: bool = True,
    aftermath: bool = True,
) -> Outcome:
    """Compare the latest days of the log with the frozen reference of the model that answered them.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the check; nothing later is looked at. Empty takes now.
        html: When a page with Evidently's report is written: always, when the verdict changed, or never.
        skew: Whether logged features are compared with features recomputed from the raw events.
        aftermath: Whether matured days, estimates and change detectors are looked at too; most of the time goes there.
    """
    house = open_house(usecase)
    with recorded(house, "drift", as_of) as run:
        ref = in_office(house.store, house.registry, house.model, house.usecase, run.as_of)
        model = house.load(ref)
        before = house.store.reports.latest(house.usecase.name, "drift", as_of=run.as_of)
        finding = check_drift(house.store, house.usecase, ref, model, run.as_of, skew=skew, aftermath=aftermath)
        changed = finding.known and (before is None or before.outcome != finding.outcome)
        wanted = html == "always" or (html == "on_change" and changed)
        page = (
            drift_page(house.store, house.snapshots, house.settings.reports, house.usecase, model, finding)
            if wanted
            else None
        )
        found = finding.to_json() | {"money": daily_money(house.store, house.usecase, run.as_of)}
        run.keep("drift", finding.outcome, found, model=ref.label, html=page)
        if changed and finding.raised:
            tell(house, "drift", finding.outcome, ", ".join(finding.alarm.features) or "score", run.as_of)
        if finding.raised:  # each time: at the onset a retraining waits, and nobody would ask again
            emit(house.settings.event_name(DRIFT_EVENT), f"model.{house.model}", drift_event(finding))
        return run.conclude(drift_view(finding, page))
