"""Retraining: ask the policy whether a new model is due, write the answer down, train when it is yes."""

from __future__ import annotations

from datetime import datetime

from prefect import flow

from flows.forms import LOG
from flows.house import open_house
from flows.outcome import Outcome
from flows.recording import call, recorded
from flows.steps.notify import Notice, notify
from flows.steps.renewal import retraining_due
from flows.training import training
from flows.views import retraining_view


@flow(name="retraining", description="Train again where drift, loss, age or new rows call for it.")
def retraining(usecase: str | None = None, as_of: datetime | None = None, force: bool = False) -> Outcome:
    """Ask the retraining policy whether a new model is due, record the answer, and train when it is yes.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the question; nothing later is looked at. Empty takes now.
        force: Train whatever the policy says; the record shows it.
    """
    house = open_house(usecase)
    with recorded(house, "retraining", as_of) as run:
        champion = house.registry.roles(house.model).get("champion")
        label, model = (champion.label, house.load(champion)) if champion else (None, None)
        decision = retraining_due(house.store, house.usecase, house.model, run.as_of, label, model)
        run.keep("retraining", decision.outcome, decision.to_json(), model=decision.model)
        if not (decision.due or force):
            return run.conclude(retraining_view(decision, run.as_of))
        reason = decision.reason or "forced"
        trained = call(training, usecase=house.reference, until=run.as_of, source=LOG, reason=reason)
        view = retraining_view(decision, run.as_of, trained)
        where = (house.settings.env, house.usecase.name, house.model)
        notice = Notice("retraining", *where, view.status, view.summary, run.as_of.isoformat())
        notify(notice, house.settings.notify_url.get_secret_value())
        return run.conclude(view)
