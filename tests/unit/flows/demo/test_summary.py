from __future__ import annotations

from collections.abc import Iterator

import pytest

from bentos.usecase.loading import load_usecase
from flows.demo.summary import find_swaps, summarise
from flows.steps.operations.replay_events import ReplayTally
from monitoring.store import Report, RoleChange, Store, memory_store
from monitoring.store.database.frames import to_us
from tests.support.log.logged import at, days, scored

FRAUD = load_usecase("fraud")
LIVE = days(0, 10)


@pytest.fixture
def store() -> Iterator[Store]:
    opened = memory_store()
    yield opened
    opened.close()


def moved(store: Store, kind: str, old: str | None, new: str) -> int:
    """The champion moves; returns the database's time of it."""
    change = RoleChange("dev-fraud", "champion", new, "c" * 64)
    payload = {"from_version": old, "to_version": new}
    decision = store.decisions.append("fraud", f"{kind}.champion_set", payload, "test", at(5), [change])
    return to_us(decision.recorded_at)


def answer(store: Store, number: int, version: str, received_at: int) -> None:
    store.log.append([scored(number, 5.0, version=version, received_at=received_at)])


def test_a_swap_lasts_from_the_alias_to_the_first_later_answer_of_the_new_version(store: Store) -> None:
    moment = moved(store, "promotion", "1", "2")
    answer(store, 1, "1", moment + 100_000)
    answer(store, 2, "2", moment + 250_000)
    answer(store, 3, "2", moment + 900_000)
    found = find_swaps(store, FRAUD, "dev-fraud", LIVE)["promotion"]
    assert (found.from_version, found.to_version, found.seconds) == ("1", "2", 0.25)


def test_a_version_that_answered_before_counts_from_its_return(store: Store) -> None:
    answer(store, 1, "1", 1)
    moved(store, "promotion", "1", "2")
    moment = moved(store, "rollback", "2", "1")
    answer(store, 2, "1", moment + 400_000)
    assert find_swaps(store, FRAUD, "dev-fraud", LIVE)["rollback"].seconds == 0.4


def test_a_swap_without_an_answer_has_no_duration(store: Store) -> None:
    moved(store, "promotion", "1", "2")
    assert find_swaps(store, FRAUD, "dev-fraud", LIVE)["promotion"].seconds is None


def test_the_summary_reads_what_was_stored(store: Store) -> None:
    for day, outcome in ((2, "warning"), (4, "none"), (6, "warning"), (7, "severe")):
        store.reports.add(Report("fraud", "drift", at(day), outcome, {}, "dev-fraud/1"))
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    result = {"champion": "dev-fraud/1", "challenger": "dev-fraud/2", "days": 14, "currency": "EUR"}
    result |= {f"{what}_{who}": figure for what in ("recall", "cost") for who in ("champion", "challenger")}  # type: ignore[misc]
    for day, outcome in ((8, "promote"), (9, "keep_watching")):
        store.reports.add(Report("fraud", "comparison", at(day), outcome, {"result": result}))
    answer(store, 1, "1", 1)
    found = summarise(store, FRAUD, "dev-fraud", LIVE, 3, ReplayTally(sent=3, answered=2, failed=1))
    assert (found["rows_scored"], found["rows_logged"], found["failed_requests"]) == (2, 1, 1)
    # An alarm before the change is no notice of it; the check of day 6 had seen day 5.
    assert (found["shift_day"], found["noticed_day"]) == (3, 5)
    assert found["champion"] == {"version": "dev-fraud/1", "recall": figure, "cost": figure}
    assert found["matured_days"] == 14
    assert found["promotion_seconds"] is None
