"""Drift: the log's latest days against the frozen reference of whoever answered them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from flows.notify.port import send_notice
from flows.runs.artifacts import emit
from flows.runs.operation import operation
from flows.runs.run_record import record_run
from flows.steps.drift.check import check_drift, read_drift_inputs, version_to_check
from flows.steps.drift.recent_cost import daily_cost
from flows.steps.reports.drift_pages import write_drift_page
from flows.views.reports import drift_event, drift_view
from flows.workspace.installation import DRIFT_EVENT
from flows.workspace.outcome import FlowOutcome
from flows.workspace.workspace import open_workspace


@operation("check the drift of {model} as of {time}")
def drift(
    usecase: str | None = None,
    as_of: datetime | None = None,
    html: Literal["on_change", "always", "never"] = "always",
    skew: bool = True,
    aftermath: bool = True,
) -> FlowOutcome:
    """Compare the latest days of the log with the frozen reference of the model that answered them.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the check; nothing later is looked at. Empty takes now.
        html: When a page with Evidently's report is written: always, when the verdict changed, or never.
        skew: Whether logged features are compared with features recomputed from the raw events.
        aftermath: Whether matured days, estimates and change detectors are looked at too; most of the time goes there.
    """
    workspace = open_workspace(usecase)
    with record_run(workspace, "drift", as_of) as run:
        ref = version_to_check(workspace.store, workspace.registry, workspace.model, workspace.usecase, run.as_of)
        model = workspace.load(ref)
        last_report = workspace.store.reports.latest(workspace.usecase.name, "drift", as_of=run.as_of)
        inputs = read_drift_inputs(
            workspace.store, workspace.usecase, ref, model, run.as_of, skew=skew, aftermath=aftermath
        )
        finding = check_drift(workspace.store, workspace.usecase, ref, model, inputs)
        changed = finding.known and (last_report is None or last_report.outcome != finding.outcome)
        page = None
        if html == "always" or (html == "on_change" and changed):
            folder = workspace.settings.reports
            page = write_drift_page(workspace.snapshots, folder, workspace.usecase, model, finding, inputs)
        payload = finding.to_json() | {"money": daily_cost(workspace.usecase, inputs.answers)}
        run.keep("drift", finding.outcome, payload, model=ref.label, html=page)
        if changed and finding.raised:
            send_notice(workspace, "drift", finding.outcome, ", ".join(finding.alarm.features) or "score", run.as_of)
        if finding.raised:  # each time: at the onset a retraining waits, and nobody would ask again
            emit(workspace.settings.event_name(DRIFT_EVENT), f"model.{workspace.model}", drift_event(finding))
        return run.conclude(drift_view(finding, page))
