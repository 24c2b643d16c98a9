"""Comparison: challenger and champion on the same matured events, and a verdict that is kept."""

from __future__ import annotations

from datetime import datetime

from prefect import flow

from flows.house import open_house
from flows.outcome import Outcome
from flows.recording import recorded
from flows.steps.duel import compare, contestants
from flows.views import comparison_view


@flow(name="comparison", description="Compare challenger and champion on matured traffic.")
def comparison(usecase: str | None = None, as_of: datetime | None = None) -> Outcome:
    """Compare challenger and champion on the same matured events and store a verdict. Changes no role.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the comparison; nothing later is looked at. Empty takes now.
    """
    house = open_house(usecase)
    with recorded(house, "comparison", as_of) as run:
        duel = contestants(house.store, house.registry, house.model, run.as_of)
        found = compare(house.store, house.usecase, house.snapshots, duel, run.as_of)
        run.keep("comparison", found.verdict.outcome, found.to_json(), model=duel.champion, challenger=duel.challenger)
        return run.conclude(comparison_view(found, run.as_of))
