"""The guards of the watch after a promotion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from monitoring.rollout.post_promotion_watch import (
    AlertCounts,
    Answers,
    ScorePair,
    WatchPolicy,
    breaches,
    judge_alerts,
    judge_answers,
    judge_harm,
    judge_scores,
    rate_ratio,
)
from monitoring.stats.anytime import anytime_t

POLICY = WatchPolicy()


def test_a_few_bad_answers_prove_nothing_and_many_break_the_guard() -> None:
    assert [c.status for c in judge_answers(POLICY, Answers(50, 0, 20.0))] == ["INSUFFICIENT", "INSUFFICIENT"]
    assert [c.status for c in judge_answers(POLICY, Answers(1000, 11, 99.0))] == ["PASS", "PASS"]
    assert [c.status for c in judge_answers(POLICY, Answers(1000, 100, 101.0))] == ["FAIL", "FAIL"]


def test_failures_are_certain_before_many_requests_are_there() -> None:
    assert judge_answers(POLICY, Answers(20, 20, None))[0].status == "FAIL"


def test_an_unknown_latency_is_no_breach() -> None:
    assert judge_answers(POLICY, Answers(1000, 0, None))[1].status == "INSUFFICIENT"


@pytest.mark.parametrize(
    ("alerts", "statuses"),
    [
        (AlertCounts(1000, 10, 1000, 10), ["PASS", "PASS"]),
        (AlertCounts(1000, 1000, 1000, 10), ["PASS", "FAIL"]),
        (AlertCounts(5000, 0, 5000, 100), ["FAIL", "PASS"]),
        (AlertCounts(1000, 25, 1000, 10), ["PASS", "PASS"]),  # 2.5 times, but one cannot be sure
        (AlertCounts(5000, 500, 5000, 100, expected=5.0), ["PASS", "PASS"]),  # the comparison said so
        (AlertCounts(5000, 500, 5000, 100), ["PASS", "FAIL"]),
        (AlertCounts(100, 100, 100, 1), ["INSUFFICIENT", "INSUFFICIENT"]),
        (AlertCounts(), ["INSUFFICIENT", "INSUFFICIENT"]),
    ],
)
def test_the_alert_rate_stays_in_its_band(alerts: AlertCounts, statuses: list[str]) -> None:
    assert [check.status for check in judge_alerts(POLICY, alerts)] == statuses


@given(st.integers(1, 5000), st.integers(1, 5000), st.data())
def test_the_ratio_lies_in_its_interval(events: int, control: int, data: st.DataObject) -> None:
    alerts, flagged = data.draw(st.integers(0, events)), data.draw(st.integers(1, control))
    ratio = rate_ratio(AlertCounts(events, alerts, control, flagged))
    assert ratio.low is not None
    assert ratio.value is not None
    assert ratio.high is not None
    assert ratio.low <= ratio.value <= ratio.high


def test_alerts_where_the_old_version_had_none_are_beyond_the_band() -> None:
    assert judge_alerts(POLICY, AlertCounts(1000, 200, 1000, 0))[1].status == "FAIL"
    assert judge_alerts(POLICY, AlertCounts(1000, 0, 1000, 0))[0].status == "INSUFFICIENT"


def test_scores_that_moved_break_the_guard_unless_the_old_ones_moved_too() -> None:
    rng = np.random.default_rng(7)
    calm = ScorePair(rng.beta(1, 9, 2000), rng.beta(1, 9, 5000))
    moved = ScorePair(rng.beta(5, 5, 2000), rng.beta(1, 9, 5000))
    assert judge_scores(POLICY, calm).status == "PASS"
    assert judge_scores(POLICY, moved).status == "FAIL"
    assert judge_scores(POLICY, moved, calm).status == "FAIL"
    assert judge_scores(POLICY, moved, moved).status == "INSUFFICIENT"
    assert judge_scores(POLICY, ScorePair(moved.now[:100], moved.before)).status == "INSUFFICIENT"


@pytest.mark.parametrize("to", [0.05, 0.11, 0.5, 0.99])
@pytest.mark.parametrize("others", [0.0, 0.02])
def test_scores_that_leave_the_one_number_that_nearly_all_events_had_have_moved(to: float, others: float) -> None:
    rng = np.random.default_rng(4)
    before = np.where(rng.random(2_000) < others, rng.random(2_000), 0.1)
    now = np.where(rng.random(5_000) < 0.5, to, rng.permutation(np.resize(before, 5_000)))
    assert judge_scores(POLICY, ScorePair(now, before)).status == "FAIL"
    assert judge_scores(POLICY, ScorePair(np.resize(before, 5_000), before)).status == "PASS"


def test_scores_that_are_all_equal_have_not_moved() -> None:
    assert judge_scores(POLICY, ScorePair(np.full(500, 0.1), np.full(500, 0.1))).status == "PASS"


def test_harm_is_what_the_anytime_valid_lower_bound_says() -> None:
    harm = [100.0, 104.0, 98.0, 101.0, 99.0, 103.0, 97.0, 102.0]
    found = judge_harm(POLICY, harm, "EUR")
    assert found.status == "FAIL"
    assert found.value == anytime_t(harm, 0.05, 7.0).low
    assert judge_harm(POLICY, [-value for value in harm], "EUR").status == "PASS"
    assert judge_harm(POLICY, [100.0], "EUR").status == "INSUFFICIENT"
    assert judge_harm(POLICY, [], "EUR").status == "INSUFFICIENT"


def test_only_failed_guards_are_breaches() -> None:
    checks = (*judge_answers(POLICY, Answers(1000, 100, None)), *judge_alerts(POLICY, AlertCounts()))
    assert len(breaches(checks)) == 1
    assert breaches(checks)[0].startswith("error_rate: 100 of 1000 requests failed")


def test_a_band_must_rise() -> None:
    with pytest.raises(ValidationError, match="must rise"):
        WatchPolicy(alert_rate_band=(2.0, 0.5))
