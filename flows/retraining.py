"""Retraining: ask the policy whether a new model is due, write the answer down, train when it is yes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flows.notify.port import tell, telling_of_failure
from flows.runs.operation import operation
from flows.runs.parameters import LOG
from flows.runs.run_record import call, recorded
from flows.steps.drift.retraining_due import is_news, retraining_due, training_runs
from flows.training import training
from flows.views.reports import retraining_view
from flows.workspace.clock import machine_now
from flows.workspace.outcome import Outcome
from flows.workspace.workspace import open_house


@operation("ask whether {model} is due for retraining as of {time}")
def retraining(
    usecase: str | None = None,
    as_of: datetime | None = None,
    force: bool = False,
    reason: str = "",
    evidence: dict[str, Any] | None = None,
) -> Outcome:
    """Ask the retraining policy whether a new model is due, record the answer, and train when it is yes.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the question; nothing later is looked at. Empty takes now.
        force: Train whatever the policy says; the record shows it.
        reason: Why it is asked, for the record; an automation says here what it saw.
        evidence: What the automation saw, for the record; the policy reads the stored checks itself.
    """
    house = open_house(usecase)
    with recorded(house, "retraining", as_of) as run:
        champion = house.registry.roles(house.model).get("champion")
        label, model = (champion.label, house.load(champion)) if champion else (None, None)
        busy = training_runs(house.store, house.usecase.name, machine_now())
        decision = retraining_due(house.store, house.usecase, house.model, run.as_of, label, model, busy=busy)
        trains = decision.due or force
        told = decision.to_json() | {"asked": reason, "evidence": evidence or {}}
        news = is_news(house.store, house.usecase.name, decision, run.as_of)
        run.keep("retraining", decision.outcome_if(force), told, model=decision.model)
        if not trains:
            if news:
                tell(house, "retraining", decision.outcome, decision.reason, run.as_of)
            return run.conclude(retraining_view(decision, run.as_of))
        with telling_of_failure(house, "retraining", run.as_of):
            why = decision.reason if decision.due else f"forced: {reason or decision.reason}"
            trained = call(training, usecase=house.reference, until=run.as_of, source=LOG, reason=why)
        view = retraining_view(decision, run.as_of, trained)
        tell(house, "retraining", view.status, view.summary, run.as_of)
        return run.conclude(view)
