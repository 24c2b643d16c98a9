from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pandas as pd
import pytest

from monitoring.core.calendar import BusinessCalendar, TimeWindow

PARIS = BusinessCalendar("Europe/Paris")
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
CALENDARS = [
    BusinessCalendar(),
    PARIS,
    BusinessCalendar("Europe/Paris", time(2, 30)),
    BusinessCalendar("Europe/Paris", time(6, 0)),
    BusinessCalendar("America/New_York", time(1, 30)),
    BusinessCalendar("America/Santiago"),
    BusinessCalendar("Australia/Lord_Howe", time(2, 0)),
    BusinessCalendar("Pacific/Auckland", time(23, 59)),
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_day_has_23_or_25_hours_when_the_clocks_change() -> None:
    assert PARIS.end_of(SPRING) - PARIS.start_of(SPRING) == timedelta(hours=23)
    assert PARIS.end_of(AUTUMN) - PARIS.start_of(AUTUMN) == timedelta(hours=25)
    assert PARIS.end_of(date(2026, 6, 1)) - PARIS.start_of(date(2026, 6, 1)) == timedelta(hours=24)


def test_a_day_starts_at_local_midnight_or_at_the_declared_time() -> None:
    assert PARIS.start_of(date(2026, 7, 1)) == at("2026-06-30T22:00:00+00:00")
    six = BusinessCalendar("Europe/Paris", time(6))
    assert six.start_of(date(2026, 7, 1)) == at("2026-07-01T04:00:00+00:00")
    assert six.day_of(at("2026-07-01T03:59:59+00:00")) == date(2026, 6, 30)
    assert six.day_of(at("2026-07-01T04:00:00+00:00")) == date(2026, 7, 1)


def test_the_instants_around_a_clock_change_belong_to_their_local_day() -> None:
    assert PARIS.day_of(at("2026-03-28T22:59:59+00:00")) == date(2026, 3, 28)
    assert PARIS.day_of(at("2026-03-28T23:00:00+00:00")) == SPRING
    assert PARIS.day_of(at("2026-03-29T21:59:59+00:00")) == SPRING
    assert PARIS.day_of(at("2026-03-29T22:00:00+00:00")) == date(2026, 3, 30)
    assert PARIS.day_of(at("2026-10-25T22:59:59+00:00")) == AUTUMN


@pytest.mark.parametrize("calendar", CALENDARS, ids=str)
@pytest.mark.parametrize("around", ["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-04-05", "2026-09-06"])
def test_days_follow_each_other_without_gap_or_overlap(calendar: BusinessCalendar, around: str) -> None:
    first = date.fromisoformat(around) - timedelta(days=2)
    for day in calendar.day_range(first, first + timedelta(days=4)):
        start, end = calendar.start_of(day), calendar.end_of(day)
        assert timedelta(hours=22) < end - start < timedelta(hours=26)
        assert calendar.day_of(start) == day
        assert calendar.day_of(start - timedelta(microseconds=1)) == day - timedelta(days=1)
        assert calendar.day_of(end - timedelta(microseconds=1)) == day


@pytest.mark.parametrize("calendar", CALENDARS, ids=str)
def test_many_days_at_once_are_the_days_one_by_one(calendar: BusinessCalendar) -> None:
    start = at("2026-03-01T00:00:00+00:00")
    moments = [start + timedelta(minutes=37 * n) for n in range(0, 12_000, 7)] + [calendar.start_of(AUTUMN)]
    times = pd.Series(pd.to_datetime(moments, utc=True)).dt.as_unit("us")
    days = calendar.days_of(times)
    assert [d.date() for d in days] == [calendar.day_of(m) for m in moments]
    assert days.dt.tz is None


def test_days_of_keeps_the_index_and_missing_times() -> None:
    times = pd.Series(pd.to_datetime(["2026-01-01T12:00:00Z", None], utc=True), index=[5, 9], name="t")
    days = PARIS.days_of(times)
    assert days.index.tolist() == [5, 9]
    assert days.isna().tolist() == [False, True]
    assert PARIS.days_of(times.iloc[1:]).isna().all()
    assert PARIS.days_of(times.iloc[:0]).empty


def test_local_times_are_wall_times_without_a_zone() -> None:
    times = pd.Series(pd.to_datetime(["2026-01-01T12:00:00Z", "2026-07-01T12:00:00Z"], utc=True))
    assert PARIS.local(times).dt.hour.tolist() == [13, 14]
    assert PARIS.local(times).dt.tz is None


def test_no_day_is_half_matured() -> None:
    week = timedelta(days=7)
    assert PARIS.matured_until(at("2026-06-10T21:59:59+00:00"), week) == PARIS.start_of(date(2026, 6, 3))
    assert PARIS.matured_until(at("2026-06-10T22:00:00+00:00"), week) == PARIS.start_of(date(2026, 6, 4))
    rng = np.random.default_rng(2)
    for minutes in rng.integers(0, 500_000, 50).tolist():
        as_of = at("2026-01-01T00:00:00+00:00") + timedelta(minutes=minutes)
        until = PARIS.matured_until(as_of, week)
        assert until <= as_of - week
        assert PARIS.start_of(PARIS.day_of(until)) == until


def test_a_time_window_holds_its_start_and_not_its_end_and_needs_a_zone() -> None:
    window = TimeWindow(at("2026-01-01T00:00:00+00:00"), at("2026-01-02T00:00:00+01:00"))
    assert window.length == timedelta(hours=23)
    with pytest.raises(ValueError, match="aware"):
        TimeWindow(datetime(2026, 1, 1), datetime(2026, 1, 2, tzinfo=UTC))  # noqa: DTZ001 - the mistake under test
    with pytest.raises(ValueError, match="must end after it starts"):
        TimeWindow(window.end, window.start)
    with pytest.raises(ValueError, match="must end after it starts"):
        TimeWindow(window.start, window.start)
