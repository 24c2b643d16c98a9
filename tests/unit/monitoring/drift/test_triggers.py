"""When to train again, and what holds it back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.measured import Measurement
from monitoring.drift.retraining import DriftDay, RetrainDecision, RetrainInputs, should_retrain, standing_alarm
from monitoring.policies import RetrainPolicy

NOW = datetime(2026, 5, 1, tzinfo=UTC)
POLICY = RetrainPolicy()
QUIET = RetrainInputs(trained_until=NOW - timedelta(days=10), new_rows=500)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def test_a_young_healthy_champion_is_left_alone() -> None:
    decision = should_retrain(QUIET, POLICY, NOW)
    assert decision == RetrainDecision(False, (), (), (), NOW)


def test_age_and_new_rows_are_reasons() -> None:
    old = should_retrain(replace(QUIET, trained_until=ago(30)), POLICY, NOW)
    assert old.retrain
    assert "30 days old (limit 30d)" in old.reasons[0]
    assert should_retrain(replace(QUIET, new_rows=100_000), POLICY, NOW).retrain


def test_no_champion_at_all_is_a_reason() -> None:
    assert should_retrain(replace(QUIET, trained_until=None), POLICY, NOW).retrain


def test_drift_needs_a_moved_score() -> None:
    drifted = replace(QUIET, drift_severe=True, drifted=("amount",))
    alone = should_retrain(drifted, POLICY, NOW)
    assert not alone.retrain
    assert "investigate" in alone.notes[0]
    moved = should_retrain(replace(drifted, score_moved=True), POLICY, NOW)
    assert moved.retrain
    assert "amount" in moved.reasons[0]


def test_lost_recall_counts_only_with_its_whole_interval() -> None:
    certain = should_retrain(replace(QUIET, recall_loss=Measurement(0.12, 0.06, 0.18)), POLICY, NOW)
    assert certain.retrain
    assert "0.120 (interval 0.060 to 0.180)" in certain.reasons[0]
    doubtful = should_retrain(replace(QUIET, recall_loss=Measurement(0.12, 0.04, 0.2)), POLICY, NOW)
    assert not doubtful.retrain
    assert "interval still holds" in doubtful.notes[0]
    assert not should_retrain(replace(QUIET, recall_loss=Measurement(0.5)), POLICY, NOW).retrain


def test_reasons_that_the_policy_switches_off_do_not_count() -> None:
    policy = RetrainPolicy(on_drift=False, on_performance=False)
    bad = replace(QUIET, drift_severe=True, score_moved=True, recall_loss=Measurement(0.3, 0.2, 0.4))
    assert not should_retrain(bad, policy, NOW).retrain


def test_the_cooldown_blocks_and_says_so() -> None:
    old = replace(QUIET, trained_until=ago(40), retrainings=(ago(6.9), ago(20)))
    decision = should_retrain(old, POLICY, NOW)
    assert not decision.retrain
    assert decision.reasons
    assert "cooldown is 7d" in decision.blocked_by[0]
    assert should_retrain(replace(old, retrainings=(ago(7),)), POLICY, NOW).retrain


def test_labels_that_mature_slowly_lengthen_the_cooldown() -> None:
    old = replace(QUIET, trained_until=ago(40), retrainings=(ago(20),))
    assert should_retrain(old, POLICY, NOW, timedelta(days=7)).retrain
    assert not should_retrain(old, POLICY, NOW, timedelta(days=45)).retrain


def test_the_monthly_cap_blocks() -> None:
    past = (ago(8), ago(15), ago(22), ago(29))
    decision = should_retrain(replace(QUIET, trained_until=ago(40), retrainings=past), POLICY, NOW)
    assert not decision.retrain
    assert "4 retrainings in the last 30 days" in decision.blocked_by[0]


def test_one_job_at_a_time() -> None:
    decision = should_retrain(replace(QUIET, trained_until=ago(40), in_flight=True), POLICY, NOW)
    assert not decision.retrain
    assert "waits for its comparison" in decision.blocked_by[0]


def test_a_past_day_is_decided_with_what_was_known_then() -> None:
    later = replace(QUIET, trained_until=ago(40), retrainings=(NOW + timedelta(days=1),))
    assert should_retrain(later, POLICY, NOW).retrain


def test_a_decision_survives_json() -> None:
    decision = should_retrain(replace(QUIET, trained_until=ago(40), in_flight=True), POLICY, NOW)
    assert RetrainDecision.from_json(decision.to_json()) == decision


@given(st.lists(st.floats(0.01, 60), max_size=8), st.floats(0, 90), st.booleans())
def test_a_retraining_always_has_a_reason_and_respects_the_cooldown(
    past: list[float], age: float, flight: bool
) -> None:
    inputs = RetrainInputs(ago(age), retrainings=tuple(ago(d) for d in past), in_flight=flight)
    decision = should_retrain(inputs, POLICY, NOW)
    if decision.retrain:
        assert decision.reasons
        assert not flight
        assert all(NOW - t >= POLICY.cooldown for t in inputs.retrainings)
        assert sum(1 for d in past if d < 30) < POLICY.max_per_month


def check(day: int, band: str | None, size: float, score_moved: bool = True) -> DriftDay:
    return DriftDay(NOW + timedelta(days=day), band, score_moved, ("amount",) if band != "none" else (), size)


def test_an_alarm_stands_between_its_clear_level_and_its_trigger() -> None:
    days = [check(0, "severe", 0.3), check(1, "none", 0.08), check(2, None, 0.0), check(3, "none", 0.09)]
    alarm = standing_alarm(days, 0.07)
    assert alarm is not None
    assert (alarm.since, alarm.severe, alarm.score_moved, alarm.features) == (NOW, True, True, ("amount",))
    assert standing_alarm([*days, check(4, "none", 0.069)], 0.07) is None


def test_a_shift_below_its_trigger_raises_no_alarm_by_itself() -> None:
    assert standing_alarm([check(day, "none", 0.09) for day in range(5)], 0.07) is None


def test_an_alarm_that_cleared_begins_anew() -> None:
    days = [check(0, "severe", 0.3), check(1, "none", 0.0), check(2, "warning", 0.12)]
    alarm = standing_alarm(days, 0.07)
    assert alarm is not None
    assert (alarm.since, alarm.severe) == (NOW + timedelta(days=2), False)


@given(st.lists(st.tuples(st.sampled_from(["none", "warning", "severe", None]), st.floats(0.0, 1.0)), max_size=30))
def test_hysteresis_changes_its_mind_no_more_often_than_the_bare_trigger(seen: list[tuple[str | None, float]]) -> None:
    days = [check(n, band, size) for n, (band, size) in enumerate(seen)]
    held = [standing_alarm(days[: n + 1], 0.07) is not None for n in range(len(days))]
    bare = [d.band in ("warning", "severe") for d in days]
    assert all(h or not b for h, b in zip(held, bare, strict=True))
    assert sum(a != b for a, b in pairwise(held)) <= sum(a != b for a, b in pairwise(bare))
