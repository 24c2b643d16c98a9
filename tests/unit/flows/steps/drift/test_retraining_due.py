from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from bentos.schema.row_times import LAST
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.steps.drift.retraining_due import RetrainingCheck, check_retraining, is_news, training_runs
from monitoring.store import Report, RoleChange, Run, Store, memory_store
from tests.support.log.logged import at, scored

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


def ask(store: Store, as_of: datetime, trained: bool = True) -> RetrainingCheck:
    label, model = ("dev-fraud/1", MODEL) if trained else (None, None)
    return check_retraining(store, FRAUD, "dev-fraud", as_of, label, model)


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


def test_a_training_that_runs_blocks_and_one_whose_process_died_does_not_for_ever(store: Store) -> None:
    now = datetime(2026, 3, 9, 12, tzinfo=UTC)
    store.runs.put(Run("asked", "fraud", "retraining", "running", now))
    assert not training_runs(store, "fraud", now)
    store.runs.put(Run("one", "fraud", "training", "running", now - timedelta(hours=1)))
    assert training_runs(store, "fraud", now)
    assert not training_runs(store, "fraud", now + timedelta(hours=6))
    found = check_retraining(store, FRAUD, "dev-fraud", at(40), "dev-fraud/1", MODEL, busy=True)
    assert found.outcome == "blocked"
    assert "a training runs" in found.reason


def test_what_people_forced_counts_for_the_cooldown(store: Store) -> None:
    store.reports.add(Report("fraud", "retraining", at(38), "forced", {}, "dev-fraud/1"))
    found = ask(store, at(40))
    assert "cooldown" in found.reason
    assert (found.outcome_if(force=True), ask(store, at(46)).outcome_if(force=True)) == ("forced", "retrain")


def test_a_vacant_office_waits_for_no_change(store: Store) -> None:
    alarm(store, 5, "severe")
    assert ask(store, at(6), trained=False).due


def test_people_are_told_once_that_a_retraining_is_held_back(store: Store) -> None:
    store.reports.add(Report("fraud", "retraining", at(38), "retrain", {}, "dev-fraud/1"))
    held = ask(store, at(40))
    assert is_news(store, "fraud", held, at(40))
    store.reports.add(Report("fraud", "retraining", at(40), held.outcome, held.to_json(), held.model))
    assert not is_news(store, "fraud", ask(store, at(41)), at(41))


def test_a_past_day_sees_its_reports_however_many_came_later(store: Store) -> None:
    alarm(store, 5, "severe")
    for hour in range(1100):
        payload = {"alarm": {"band": "none", "score_moved": False, "features": []}, "performance": None}
        store.reports.add(Report("fraud", "drift", at(60 + hour / 24), "none", payload, "dev-fraud/1"))
    assert ask(store, at(5)).change_since == at(3)


def test_the_cooldown_counts_from_the_last_retraining(store: Store) -> None:
    store.reports.add(Report("fraud", "retraining", at(38), "retrain", {}, "dev-fraud/1"))
    assert "cooldown" in ask(store, at(40)).reason
    assert ask(store, at(46)).due


def test_an_alarm_against_an_earlier_champion_is_no_reason_to_replace_this_one(store: Store) -> None:
    for day in range(5, 60):
        alarm(store, day, "severe")
    assert "severe drift" in ask(store, at(59)).reason
    young: Any = SimpleNamespace(metadata=SimpleNamespace(training_end=at(50).isoformat()))
    found = check_retraining(store, FRAUD, "dev-fraud", at(59), "dev-fraud/2", young)
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


SLOW = FRAUD.model_copy(update={"label": FRAUD.label.model_copy(update={"matures_after": timedelta(days=45)})})


def live_on(store: Store, usecase: UseCase, last: int, every: int) -> tuple[list[int], list[int]]:
    """Lasting severe drift, a question each ``every`` days: days of retrainings and of verdicts.

    A retraining appoints a challenger. Its verdict needs the policy's matured days, as in life, and puts
    it active; the drift is raised against that one too.
    """
    trained, verdicts, office, appointed = [], [], 1, None
    need = usecase.label.matures_after + timedelta(days=usecase.promotion.min_matured_days)
    fold = at(-10)
    for day in range(last):
        if appointed is not None and at(day) - at(appointed) >= need:
            office, appointed = office + 1, None
            changes = [RoleChange("dev-fraud", "champion", str(office)), RoleChange("dev-fraud", "challenger", None)]
            store.decisions.append("fraud", "promotion", {}, "test", at(day), changes)
            verdicts.append(day)
        label = f"dev-fraud/{office}"
        payload = {"alarm": {"band": "severe", "score_moved": True, "features": ["amount"]}, "performance": None}
        store.reports.add(Report("fraud", "drift", at(day), "severe", payload, label))
        if day % every:
            continue
        model: Any = SimpleNamespace(metadata=SimpleNamespace(training_end=fold.isoformat()))
        if check_retraining(store, usecase, "dev-fraud", at(day), label, model).due:
            assert appointed is None
            store.reports.add(Report("fraud", "retraining", at(day), "retrain", {}, label))
            challenger = RoleChange("dev-fraud", "challenger", str(office + 1), "c" * 64)
            store.decisions.append("fraud", "appointment", {}, "test", at(day), [challenger])
            trained.append(day)
            appointed, fold = day, at(day) - usecase.label.matures_after
    return trained, verdicts


def test_labels_of_45_days_and_a_question_each_week_still_reach_a_verdict(store: Store) -> None:
    trained, verdicts = live_on(store, SLOW, last=330, every=7)
    assert len(verdicts) >= 2
    # Every retraining but perhaps the last got its verdict before the next began.
    assert all(verdict <= later for verdict, later in zip(verdicts, trained[1:], strict=False))
    assert all(b - a >= 45 for a, b in pairwise(trained))


def test_lasting_drift_trains_again_and_again_but_never_over_a_comparison(store: Store) -> None:
    trained, verdicts = live_on(store, FRAUD, last=150, every=1)
    assert len(verdicts) >= 3
    assert len(trained) - len(verdicts) in (0, 1)
    assert all(b - a >= 7 + 14 for a, b in pairwise(trained))


def test_a_storm_of_questions_trains_once_in_a_cooldown(store: Store) -> None:
    for day in range(5, 60):
        alarm(store, day, "severe")
    yes = 0
    for minute in range(50):
        now = at(58) + timedelta(minutes=minute)
        if ask(store, now).due:
            store.reports.add(Report("fraud", "retraining", now, "retrain", {}, "dev-fraud/1"))
            yes += 1
    assert yes == 1


def test_a_table_without_a_time_ages_from_the_first_live_event_on(store: Store) -> None:
    churn = load_usecase("churn")
    table: Any = SimpleNamespace(metadata=SimpleNamespace(training_end=LAST.isoformat()))

    def asked(day: float) -> RetrainingCheck:
        return check_retraining(store, churn, "dev-churn", at(day), "dev-churn/1", table)

    assert not asked(500).due
    store.log.append([scored(1, 3.0, usecase="churn")])
    assert not asked(92).due
    assert "90 days old" in asked(93).reason
