"""Business days across clock changes: 23 and 25 hours, boundaries in hours that are skipped or repeated."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.calendar import BusinessCalendar, TimeWindow

BERLIN = BusinessCalendar("Europe/Berlin")
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)  # 02:00 -> 03:00, 03:00 -> 02:00
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Beirut",
)
CLOCKS = (time(0, 0), time(0, 30), time(2, 0), time(2, 30), time(3, 0), time(6, 0), time(23, 59))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]  # year, month, day, hour, minute


def test_a_day_has_23_24_or_25_hours() -> None:
    assert BERLIN.end_of(SPRING) - BERLIN.start_of(SPRING) == timedelta(hours=23)
    assert BERLIN.end_of(AUTUMN) - BERLIN.start_of(AUTUMN) == timedelta(hours=25)
    assert BERLIN.end_of(date(2026, 7, 1)) - BERLIN.start_of(date(2026, 7, 1)) == timedelta(hours=24)


def test_an_instant_near_midnight_belongs_to_the_local_day() -> None:
    assert BERLIN.day_of(utc(2026, 3, 28, 22, 59)) == date(2026, 3, 28)
    assert BERLIN.day_of(utc(2026, 3, 28, 23, 0)) == SPRING
    assert BERLIN.day_of(utc(2026, 3, 29, 21, 59)) == SPRING
    assert BERLIN.day_of(utc(2026, 3, 29, 22, 0)) == date(2026, 3, 30)


def test_a_day_may_start_in_the_morning() -> None:
    six = BusinessCalendar("Europe/Berlin", time(6, 0))
    assert six.day_of(utc(2026, 3, 29, 3, 59)) == date(2026, 3, 28)
    assert six.day_of(utc(2026, 3, 29, 4, 0)) == SPRING
    assert six.end_of(date(2026, 3, 28)) - six.start_of(date(2026, 3, 28)) == timedelta(hours=23)


def test_a_boundary_in_a_skipped_hour_moves_forward() -> None:
    half_past_two = BusinessCalendar("Europe/Berlin", time(2, 30))
    assert half_past_two.start_of(SPRING) == utc(2026, 3, 29, 1, 30)  # 03:30, an hour after 01:30 local
    assert half_past_two.day_of(utc(2026, 3, 29, 1, 15)) == date(2026, 3, 28)
    assert half_past_two.day_of(utc(2026, 3, 29, 1, 30)) == SPRING


def test_a_boundary_in_a_repeated_hour_is_the_first_of_the_two() -> None:
    half_past_two = BusinessCalendar("Europe/Berlin", time(2, 30))
    assert half_past_two.start_of(AUTUMN) == utc(2026, 10, 25, 0, 30)
    assert half_past_two.day_of(utc(2026, 10, 25, 1, 10)) == AUTUMN  # 02:10 for the second time


def around(first: datetime, days: int) -> st.SearchStrategy[datetime]:
    """Instants of some days from ``first`` on."""
    return st.integers(0, days * 86_400 - 1).map(lambda second: first + timedelta(seconds=second))


instants = st.one_of(
    around(utc(2025, 1, 1), 1_000),
    around(utc(2026, 3, 28), 3),
    around(utc(2026, 4, 4), 2),
    around(utc(2026, 10, 24), 3),
)
calendars = st.builds(BusinessCalendar, st.sampled_from(ZONES), st.sampled_from(CLOCKS))


@settings(max_examples=300, deadline=None)
@given(calendars, instants)
def test_every_instant_lies_between_the_start_and_the_end_of_its_day(calendar: BusinessCalendar, at: datetime) -> None:
    day = calendar.day_of(at)
    assert calendar.start_of(day) <= at < calendar.end_of(day)


@settings(max_examples=100, deadline=None)
@given(calendars, st.lists(instants, min_size=1, max_size=20))
def test_many_instants_have_the_days_of_each(calendar: BusinessCalendar, several: list[datetime]) -> None:
    times = pd.Series(several, index=range(5, 5 + len(several)), dtype="datetime64[us, UTC]")
    days = calendar.days_of(times)
    assert [d.date() for d in days] == [calendar.day_of(at) for at in several]
    assert days.index.equals(times.index)
    assert str(days.dtype) == "datetime64[ns]"


def test_no_instants_have_no_days_and_a_missing_one_has_none() -> None:
    assert BERLIN.days_of(pd.Series([], dtype="datetime64[us, UTC]")).empty
    gap = pd.Series([pd.NaT, pd.Timestamp("2026-07-01", tz="UTC")], dtype="datetime64[us, UTC]")
    assert BERLIN.days_of(gap).isna().tolist() == [True, False]


@settings(max_examples=200, deadline=None)
@given(calendars, instants, st.integers(0, 30).map(lambda d: timedelta(days=d)))
def test_no_day_is_half_matured(calendar: BusinessCalendar, as_of: datetime, matures_after: timedelta) -> None:
    until = calendar.matured_until(as_of, matures_after)
    assert until == calendar.start_of(calendar.day_of(until))
    assert until + matures_after <= as_of  # the last event before it is old enough
    assert calendar.end_of(calendar.day_of(until)) + matures_after > as_of  # the next day is not


def test_maturity_is_elapsed_time_across_a_clock_change() -> None:
    # 168 hours after the first instant of the 23-hour day it is 01:00 local, a week later.
    week = timedelta(days=7)
    start = BERLIN.start_of(SPRING)
    assert BERLIN.matured_until(start + week, week) == start
    assert BERLIN.matured_until(start + week - timedelta(microseconds=1), week) == BERLIN.start_of(date(2026, 3, 28))


def test_a_range_of_days_holds_both_ends() -> None:
    assert BERLIN.day_range(SPRING, SPRING) == [SPRING]
    assert len(BERLIN.day_range(date(2026, 3, 1), date(2026, 3, 31))) == 31
    assert BERLIN.day_range(SPRING, SPRING - timedelta(days=1)) == []


def test_local_wall_times_show_the_skipped_hour() -> None:
    times = pd.Series(pd.to_datetime(["2026-03-29T00:59:00Z", "2026-03-29T01:00:00Z"])).dt.as_unit("us")
    assert BERLIN.local(times).dt.strftime("%H:%M").tolist() == ["01:59", "03:00"]


def test_a_window_needs_zones_and_a_length() -> None:
    with pytest.raises(ValueError, match="needs aware datetimes"):
        TimeWindow(datetime(2026, 1, 1), utc(2026, 1, 2))  # noqa: DTZ001 - the mistake under test
    with pytest.raises(ValueError, match="must end after it starts"):
        TimeWindow(utc(2026, 1, 2), utc(2026, 1, 2))
