"""Folds follow each other in time, end at the last matured day, and never use context rows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.schema.row_times import LAST
from bentos.usecase.loading import load_usecase
from flows.errors import EvaluationError, TooFewRows
from flows.steps.data.split import (
    Split,
    business_time_before,
    context_end,
    days_needed,
    plan_split,
    retraining_case,
    split_at,
)
from monitoring.core.calendar import BusinessCalendar, TimeWindow

FRAUD = load_usecase("fraud")
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(day: int, hour: int = 0) -> datetime:
    return START + day * DAY + timedelta(hours=hour)


def test_the_folds_of_the_fraud_case_lie_back_from_the_last_matured_day():
    split = plan_split(FRAUD, START, at(120, 15))
    assert split.test == TimeWindow(at(106), at(113))
    assert split.calibration == TimeWindow(at(99), at(106))
    assert split.train == TimeWindow(at(64), at(92))  # seven days for labels, then calibration
    assert split.refit == TimeWindow(at(64), at(109))
    assert split.refit_calibration == TimeWindow(at(109), at(113))


def test_a_short_history_is_refused_with_the_days_that_are_needed():
    need = days_needed(FRAUD)
    assert need == 37 + 28 + 7 + 7 + 7 + 7
    with pytest.raises(TooFewRows, match=f"{need} are needed: 37 context, 28 train"):
        plan_split(FRAUD, START, at(need - 1))
    assert plan_split(FRAUD, START, at(need)).train.start == context_end(FRAUD, START)


@given(
    offset=st.integers(0, 86_399),
    days=st.integers(93, 400),
    zone=st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata"]),
    day_starts_at=st.sampled_from(["00:00", "06:00"]),
)
def test_folds_never_overlap_never_touch_context_and_are_matured(offset: int, days: int, zone: str, day_starts_at: str):
    usecase = FRAUD.model_copy(update={"timezone": zone, "day_starts_at": day_starts_at})
    as_of = START + timedelta(days=days + 2, seconds=offset)
    split = plan_split(usecase, START, as_of)
    calendar = usecase.calendar
    assert context_end(usecase, START) <= split.train.start
    assert split.train.end + 7 * DAY <= split.calibration.start + timedelta(hours=1)  # a clock change in the gap
    assert split.calibration.end == split.test.start
    assert split.test.end == split.matured_until == split.refit_calibration.end
    assert split.refit.end == split.refit_calibration.start
    assert as_of - split.matured_until >= usecase.label.matures_after
    for window in (split.train, split.calibration, split.test, split.refit_calibration):
        assert calendar.start_of(calendar.day_of(window.start)) == window.start


def test_a_fold_across_a_clock_change_still_starts_where_a_day_starts():
    paris = BusinessCalendar("Europe/Paris")
    end = paris.start_of(date(2026, 3, 31))  # the 29th has 23 hours
    assert business_time_before(paris, end, 7 * DAY) == paris.start_of(date(2026, 3, 24))
    assert business_time_before(paris, end, timedelta(hours=36)) == paris.start_of(date(2026, 3, 30)) - timedelta(
        hours=12
    )


def test_a_test_window_before_training_is_refused():
    early, late = TimeWindow(at(0), at(7)), TimeWindow(at(10), at(17))
    with pytest.raises(EvaluationError, match="after training"):
        Split(train=late, calibration=late, test=early, refit=late, refit_calibration=late)


def test_a_retraining_has_a_training_fold_of_its_own_where_one_is_declared():
    assert retraining_case(FRAUD) == FRAUD
    retrain = FRAUD.retrain.model_copy(update={"train": 10 * DAY})
    short = retraining_case(FRAUD.model_copy(update={"retrain": retrain}))
    split = plan_split(short, START, at(120))
    assert (split.train, split.test) == (TimeWindow(at(82), at(92)), TimeWindow(at(106), at(113)))
    assert split.refit == TimeWindow(at(82), at(109))
    assert days_needed(FRAUD) - days_needed(short) == 18


def test_a_table_without_a_time_is_known_as_a_whole_and_live_events_once_they_have_matured():
    churn = load_usecase("churn")
    assert split_at(churn, LAST).test.end == LAST
    live = split_at(churn, at(120))
    assert live.test.end == at(90)
    assert live.train.start == at(40)
    assert days_needed(churn) == 50 + 30
