"""Published rates of simulated comparisons: 60 days, Poisson(100) positives, recall .85, discordance .06.

Tolerances are a few standard errors of both simulations, ours and the published one.
"""

import numpy as np
import pytest

from monitoring.comparison.simulation import (
    SimulatedTraffic,
    daily_bounds,
    running_autocorrelation,
)
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.intervals import unpaired_factor
from tests.bench.quality.naive_tests import legacy_t, naive_mcnemar, naive_t
from tests.support.vectors import digits

RECALL, DISCORDANCE, TRIALS = 0.85, 0.06, 20_000
POLICY = PromotionPolicy()


def fourteen_days(effect: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return SimulatedTraffic(100.0, DISCORDANCE, effect).caught(TRIALS, 14, 5, RECALL)


def wrong(series: np.ndarray) -> float:
    """How often one of two equal models is declared better on any day."""
    declared = (daily_bounds(series, POLICY) > 0.0) | (daily_bounds(-series, POLICY) > 0.0)
    return float(np.mean(declared.any(axis=1)))


def test_the_unpaired_test_needs_four_and_a_quarter_times_the_data() -> None:
    digits(unpaired_factor(RECALL, RECALL, DISCORDANCE), "4.25")
    positives, caught_a, caught_b = fourteen_days(0.0)
    apart = caught_a / positives, caught_b / positives
    unpaired, paired = apart[0].var() + apart[1].var(), (apart[1] - apart[0]).var()
    assert unpaired / paired == pytest.approx(4.25, abs=0.1)


def test_the_unpaired_test_finds_a_fifth_where_the_paired_one_finds_four_fifths() -> None:
    positives, caught_a, caught_b = fourteen_days(0.02)
    assert np.mean(legacy_t(positives, caught_a, caught_b) < 0.05) == pytest.approx(0.202, abs=0.02)
    assert np.mean(naive_t(caught_b - caught_a)[:, -1] < 0.05) == pytest.approx(0.807, abs=0.02)


def test_the_unpaired_test_hardly_ever_errs_because_it_hardly_ever_speaks() -> None:
    positives, caught_a, caught_b = fourteen_days(0.0)
    assert np.mean(legacy_t(positives, caught_a, caught_b) < 0.05) == pytest.approx(0.0002, abs=0.0003)


def test_a_day_without_positives_leaves_the_unpaired_test_undefined() -> None:
    positives, caught = np.array([[10, 0, 12]]), np.array([[8, 0, 9]])
    assert np.isnan(legacy_t(positives, caught, caught)).all()


def test_a_recall_that_leaves_no_room_for_the_discordance_is_refused() -> None:
    with pytest.raises(ValueError, match="recall"):
        SimulatedTraffic(100.0, 0.06).caught(1, 1, 0, 0.99)
    with pytest.raises(ValueError, match="recall"):
        SimulatedTraffic(100.0, 0.06, clusters=3.0).caught(1, 1, 0, 0.85)


def test_campaigns_ruin_a_single_look_of_mcnemar() -> None:
    _, only_b, only_a = SimulatedTraffic(100.0, DISCORDANCE, clusters=3.0).pairs(1500, 60, 5)
    assert np.mean(naive_mcnemar(only_b, only_a)[:, -1] < 0.05) == pytest.approx(0.385, abs=0.04)


def test_daily_looks_err_as_published() -> None:
    _, only_b, only_a = SimulatedTraffic(100.0, DISCORDANCE).pairs(3000, 60, 8)
    late = np.arange(1, 61) >= 7
    gained = only_b - only_a
    assert np.mean(((naive_t(gained) < 0.05) & late).any(axis=1)) == pytest.approx(0.255, abs=0.03)
    assert np.mean(((naive_mcnemar(only_b, only_a) < 0.05) & late).any(axis=1)) == pytest.approx(0.246, abs=0.03)
    assert wrong(gained) == pytest.approx(0.018, abs=0.01)


def test_days_that_resemble_their_neighbours_err_more_until_they_are_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(4000, 120))
    for day in range(1, 120):
        noise[:, day] += 0.2 * noise[:, day - 1]
    series = noise[:, 60:]
    assert np.nanmean(running_autocorrelation(series)[:, -1]) == pytest.approx(0.17, abs=0.02)
    blocked = wrong(series)
    monkeypatch.setattr("monitoring.comparison.simulation.BLOCKING_AUTOCORRELATION", np.inf)
    assert wrong(series) == pytest.approx(0.070, abs=0.02)
    assert blocked < wrong(series)
