from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from bentos.usecase import load_usecase
from flows.steps.renewal import Renewal, retraining_due
from monitoring.store import Report, RoleChange, Store, memory_store
from tests.logged import at

FRAUD = load_usecase("fraud")
MODEL: Any = SimpleNamespace(metadata=SimpleNamespace(training_end=at(-10).isoformat()))


@pytest.fixture
def store() -> Iterator[Store]:
    opened = memory_store()
    yield opened
    opened.close()


def alarm(store: Store, day: int, band: str | None, score_moved: bool = True) -> None:
    payload = {"alarm": {"band": band, "score_moved": score_moved, "features": ["amount"]}, "performance": None}
    store.reports.add(Report("fraud", "drift", at(day), band or "insufficient_data", payload, "dev-fraud/1"))


def ask(store: Store, as_of: datetime, trained: bool = True) -> Renewal:
    label, model = ("dev-fraud/1", MODEL) if trained else (None, None)
    return retraining_due(store, FRAUD, "dev-fraud", as_of, label, model)


def test_nothing_calls_for_a_retraining_in_a_calm_world(store: Store) -> None:
    alarm(store, 1, "none")
    found = ask(store, at(1))
    assert (found.due, found.outcome, found.reason) == (False, "no", "nothing calls for it")


def test_without_a_champion_a_model_is_due(store: Store) -> None:
    assert ask(store, at(1), trained=False).due


def test_severe_drift_waits_until_the_training_fold_holds_enough_of_the_change(store: Store) -> None:
    for day in range(5, 18):
        alarm(store, day, "severe")
    found = ask(store, at(17))
    assert found.outcome == "blocked"
    assert "days since the change" in found.reason
    # Two windows of a day agreed on day 5, so the change began on day 3.
    assert found.change_since == at(3)


def test_severe_drift_retrains_once_the_fold_holds_it(store: Store) -> None:
    for day in range(5, 60):
        alarm(store, day, "severe")
    gap = timedelta(days=7 + 7 + 7 + 7)  # maturity, test, calibration, label delay
    first = at(3) + gap + FRAUD.retrain.wait_after_change
    assert not ask(store, first - timedelta(days=1)).due
    assert ask(store, first).due


def test_an_alarm_that_ended_is_no_change_to_wait_for(store: Store) -> None:
    alarm(store, 5, "severe")
    alarm(store, 6, "none")
    assert ask(store, at(6)).change_since is None


def test_old_training_data_are_a_reason_in_a_calm_world(store: Store) -> None:
    alarm(store, 25, "none")
    found = ask(store, at(25))
    assert found.due
    assert "35 days old" in found.reason


def test_later_reports_are_not_looked_at(store: Store) -> None:
    alarm(store, 9, "severe")
    assert ask(store, at(4)).change_since is None


def test_a_challenger_under_comparison_blocks(store: Store) -> None:
    change = RoleChange("dev-fraud", "challenger", "2", "c" * 64)
    store.decisions.append("fraud", "appointment", {}, "test", at(1), [change])
    found = ask(store, at(40))
    assert found.outcome == "blocked"
    assert "waits for its comparison" in found.reason


def test_the_cooldown_counts_from_the_last_retraining(store: Store) -> None:
    store.reports.add(Report("fraud", "retraining", at(38), "retrain", {}, "dev-fraud/1"))
    assert "cooldown" in ask(store, at(40)).reason
    assert ask(store, at(46)).due


def test_an_alarm_against_an_earlier_champion_is_no_reason_to_replace_this_one(store: Store) -> None:
    for day in range(5, 60):
        alarm(store, day, "severe")
    assert "severe drift" in ask(store, at(59)).reason
    young: Any = SimpleNamespace(metadata=SimpleNamespace(training_end=at(50).isoformat()))
    found = retraining_due(store, FRAUD, "dev-fraud", at(59), "dev-fraud/2", young)
    assert found.outcome == "no"


def test_a_shift_that_has_not_cleared_keeps_the_alarm(store: Store) -> None:
    alarm(store, 5, "severe")
    shift = {"name": "amount", "raises": True, "excess": 0.08}
    calm = {"alarm": {"band": "none", "score_moved": False, "features": []}, "performance": None}
    store.reports.add(
        Report(
            "fraud", "drift", at(6), "none", calm | {"reports": [{"features": [shift], "score": None}]}, "dev-fraud/1"
        )
    )
    assert ask(store, at(6)).change_since == at(3)
