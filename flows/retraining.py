"""Retraining: ask the policy whether a new model is due, write the answer down, train when it is yes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flows.notify.port import notify_on_failure, send_notice
from flows.runs.operation import operation
from flows.runs.parameters import LOG
from flows.runs.run_record import call, record_run
from flows.steps.drift.retraining_due import check_retraining, is_news, training_runs
from flows.training import training
from flows.views.reports import retraining_view
from flows.workspace.clock import machine_now
from flows.workspace.outcome import FlowOutcome
from flows.workspace.workspace import open_workspace


@operation("ask whether {model} is due for retraining as of {time}")
def retraining(
    usecase: str | None = None,
    as_of: datetime | None = None,
    force: bool = False,
    reason: str = "",
    evidence: dict[str, Any] | None = None,
) -> FlowOutcome:
    """Ask the retraining policy whether a new model is due, record the answer, and train when it is yes.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the question; nothing later is looked at. Empty takes now.
        force: Train whatever the policy says; the record shows it.
        reason: Why it is asked, for the record; an automation says here what it saw.
        evidence: What the automation saw, for the record; the policy reads the stored checks itself.
    """
    workspace = open_workspace(usecase)
    with record_run(workspace, "retraining", as_of) as run:
        champion = workspace.registry.roles(workspace.model).get("champion")
        label, model = (champion.label, workspace.load(champion)) if champion else (None, None)
        busy = training_runs(workspace.store, workspace.usecase.name, machine_now())
        decision = check_retraining(
            workspace.store, workspace.usecase, workspace.model, run.as_of, label, model, busy=busy
        )
        trains = decision.due or force
        payload = decision.to_json() | {"asked": reason, "evidence": evidence or {}}
        news = is_news(workspace.store, workspace.usecase.name, decision, run.as_of)
        run.keep("retraining", decision.outcome_if(force), payload, model=decision.model)
        if not trains:
            if news:
                send_notice(workspace, "retraining", decision.outcome, decision.reason, run.as_of)
            return run.conclude(retraining_view(decision, run.as_of))
        with notify_on_failure(workspace, "retraining", run.as_of):
            cause = decision.reason if decision.due else f"forced: {reason or decision.reason}"
            training_outcome = call(training, usecase=workspace.reference, until=run.as_of, source=LOG, reason=cause)
        view = retraining_view(decision, run.as_of, training_outcome)
        send_notice(workspace, "retraining", view.status, view.summary, run.as_of)
        return run.conclude(view)
