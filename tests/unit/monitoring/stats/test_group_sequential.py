"""Fixed decision days: published bounds, spending, level under simulated looks."""

import numpy as np
import pytest

from monitoring.stats.group_sequential import (
    boundaries,
    decision_look,
    lan_demets_mean,
    lan_demets_ratio,
    next_decision_day,
    spent_level,
)

DAYS = (14, 28, 42, 56)


@pytest.mark.parametrize(
    ("days", "published"),
    [
        ((1, 2), (2.9626, 1.9686)),
        ((1, 2, 3, 4), (4.3326, 2.9631, 2.3590, 2.0141)),
        ((1, 2, 3, 4, 5), (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),
    ],
)
def test_the_bounds_are_the_published_ones(days: tuple[int, ...], published: tuple[float, ...]) -> None:
    assert boundaries(days) == pytest.approx(published, abs=2e-4)


def test_the_whole_level_is_spent_at_the_end_and_almost_nothing_early() -> None:
    assert spent_level(1.0) == pytest.approx(0.05)
    assert spent_level(0.25) < 1e-4


def test_one_decision_day_is_the_ordinary_t_interval() -> None:
    from monitoring.stats.intervals import mean_interval

    values = [3, -1, 4, 1, 5, -2, 2, 6, 0, 3, 1, 4, 2, -1]
    test, plain = lan_demets_mean(values, 0.05, (14,)), mean_interval(values)
    assert (test.low, test.high) == (pytest.approx(plain.low), pytest.approx(plain.high))


def test_between_two_decision_days_nothing_changes() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1, 2, 60)
    assert lan_demets_mean(values[:13], 0.05, DAYS).low is None
    assert lan_demets_mean(values[:28], 0.05, DAYS) == lan_demets_mean(values[:41], 0.05, DAYS)
    ratios = [lan_demets_ratio(values[:n], np.full(n, 100.0), 0.05, DAYS) for n in (13, 28, 41)]
    assert ratios[0].low is None
    assert ratios[1] == ratios[2]
    assert decision_look(13, DAYS) is None
    assert (next_decision_day(13, DAYS), next_decision_day(56, DAYS)) == (1, None)


def test_looking_on_all_decision_days_errs_at_the_level() -> None:
    rng = np.random.default_rng(3)
    series = rng.normal(size=(1500, 56))
    wrong = 0
    for row in series:
        looks = [lan_demets_mean(row[:day], 0.05, DAYS) for day in DAYS]
        wrong += any(
            look.low is not None and look.high is not None and not look.low <= 0 <= look.high for look in looks
        )
    assert 0.02 < wrong / len(series) < 0.075
