"""Alerts of the running day."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.exporter.usecase_metrics import forecast_alerts

MONDAY = date(2026, 3, 16)


def back(counts: list[int]) -> dict[date, int]:
    """Counts of the days before the Monday, newest first."""
    return {MONDAY - timedelta(days=n): count for n, count in enumerate(counts, start=1)}


def test_a_week_that_repeats_is_forecast_exactly() -> None:
    week = [5, 6, 20, 21, 22, 23, 40]  # Sunday back to Monday
    assert forecast_alerts(back(week * 2), MONDAY) == pytest.approx(40)
    assert forecast_alerts(back(week * 2), MONDAY + timedelta(days=1)) is None  # Monday itself is not known


def test_a_level_that_rose_lifts_the_same_weekday() -> None:
    # Mondays of 40 and 20; the latest week is 4/3 of the level of both.
    assert forecast_alerts(back([20] * 6 + [40] + [10] * 6 + [20]), MONDAY) == pytest.approx(
        30 * (160 / 7) / ((160 + 80) / 14)
    )


def test_less_than_a_week_gives_no_forecast_rather_than_a_wrong_one() -> None:
    assert forecast_alerts(back([10] * 6), MONDAY) is None
    assert forecast_alerts({}, MONDAY) is None


def test_a_world_without_alerts_expects_none() -> None:
    assert forecast_alerts(back([0] * 14), MONDAY) == 0.0


@given(st.integers(1, 10_000), st.integers(7, 30))
def test_a_constant_world_stays_constant(count: int, days: int) -> None:
    assert forecast_alerts(back([count] * days), MONDAY) == pytest.approx(count)


def test_later_days_are_not_looked_at() -> None:
    known = back([10] * 14)
    assert forecast_alerts(known | {MONDAY: 900, MONDAY + timedelta(days=7): 900}, MONDAY) == pytest.approx(10)
