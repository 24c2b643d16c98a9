"""The simulation of drift rules against the rules themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from monitoring.core.calendar import TimeWindow
from monitoring.drift.feature_drift import combine_windows, compare_profile
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.policies import DriftPolicy
from monitoring.stats.distances import psi_critical
from tests.bench.quality.alarm_simulation import CELLS, RULES, DailyRows, days_until

POLICY = DriftPolicy()
START = datetime(2026, 3, 2, tzinfo=UTC)
FEATURES, REFERENCE, ROWS, DAYS = 3, 7 * CELLS, 300, 21
NAMES = [f"f{n}" for n in range(FEATURES)]


def drawn(rows: int, rng: np.random.Generator, shift: float) -> np.ndarray:
    values = rng.normal(size=(rows, FEATURES + 1)).astype(np.float32)
    values[:, 0] += shift
    values[:, -1] = (values[:, -1] + shift / 2) / 20 + 0.5  # the score
    return values


def test_our_rule_in_bulk_says_what_the_real_comparison_says() -> None:
    rng = np.random.default_rng(11)
    reference = drawn(REFERENCE, rng, 0.0)
    dates = pd.Series(pd.Timestamp("2026-02-23") + pd.to_timedelta(np.arange(REFERENCE) % 7, unit="D"))
    frame = pd.DataFrame(reference[:, :-1], columns=NAMES)
    profile = ReferenceProfile.fit(frame, reference[:, -1], POLICY, days=dates)
    edges = np.sort(reference, axis=0)[REFERENCE // CELLS - 1 :: REFERENCE // CELLS][:-1]

    def cells(values: np.ndarray) -> np.ndarray:
        found = [np.searchsorted(edges[:, i], values[:, i], side="left") for i in range(FEATURES + 1)]
        return np.stack([np.bincount(place, minlength=CELLS) for place in found])

    weekdays = np.stack([cells(reference[dates.dt.dayofweek.to_numpy() == day]) for day in range(7)])
    counts, reports = [], []
    for n in range(DAYS):
        day = drawn(ROWS, rng, (0.0, 0.35, 0.4, 0.8)[n // 2 % 4])
        window = TimeWindow(START + timedelta(days=n), START + timedelta(days=n + 1))
        days = pd.Series(pd.Timestamp(window.start.replace(tzinfo=None)), index=range(ROWS))
        frame = pd.DataFrame(day[:, :-1], columns=NAMES)
        reports.append(compare_profile(profile, frame, POLICY, day[:, -1], days=days, window=window))
        counts.append(cells(day))
    setting = DailyRows(ROWS, FEATURES, REFERENCE)
    banded = setting.banded(weekdays[np.arange(DAYS) % 7], np.stack(counts))
    real = [[f.band != "none" for f in (*r.features, r.score) if f is not None] for r in reports]
    assert banded.tolist() == real
    assert 0 < banded.sum() < banded.size, "the days hold both answers"
    alarms = [combine_windows(reports[max(0, n - 2) : n + 1], POLICY) for n in range(DAYS)]
    named = [[*(name in a.features for name in NAMES), a.score_moved] for a in alarms]
    assert setting.lasting(banded).tolist() == named


def test_the_bare_rule_alarms_as_often_as_its_null_says() -> None:
    found = DailyRows(200).simulate(1500, 3)["bare"][:, :-1]
    scale = 1 / 200 + 1 / 100_000
    assert found.mean() == pytest.approx(float(stats.chi2.sf(0.1 / scale, 9)), abs=0.006)
    assert psi_critical(1e5, 200, 10) == pytest.approx(0.0847640778)


def test_a_bare_limit_alarms_nearly_every_day_where_reference_and_day_are_small() -> None:
    """Twenty features at 200 rows a day against 200 rows: the published 99.98 % of days."""
    one = float(stats.chi2.sf(0.1 / (1 / 200 + 1 / 200), 9))
    assert one == pytest.approx(0.35, abs=0.005)
    assert 1 - (1 - one) ** 20 == pytest.approx(0.9998, abs=5e-5)


def test_evidently_s_distance_is_the_area_between_the_distributions() -> None:
    setting, rng = DailyRows(1000), np.random.default_rng(5)
    values = rng.normal(0.2, 1.0, 1000)
    edges = stats.norm.ppf(np.arange(1, CELLS) / CELLS)
    counts = np.bincount(np.searchsorted(edges, values), minlength=CELLS)
    exact = stats.wasserstein_distance(rng.normal(size=400_000), values)
    assert float(setting._wasserstein(counts[None, None, :])[0, 0]) == pytest.approx(exact, abs=0.01)


def test_rules_notice_what_they_should_and_ours_keeps_calm() -> None:
    quiet, loud = DailyRows(1000).simulate(365, 1), DailyRows(1000, shift=1.0).simulate(10, 1)
    assert set(quiet) == set(RULES)
    assert not quiet["ours"].any()
    assert quiet["evidently"].any()
    assert days_until(loud["ours"][:, 0]) == 2
    assert days_until(loud["bare"][:, 0]) == 1
    assert days_until(quiet["ours"][:, 0]) is None


def test_the_same_seed_gives_the_same_days() -> None:
    one, other = (DailyRows(200, 3).simulate(20, 9) for _ in range(2))
    assert all((one[rule] == other[rule]).all() for rule in RULES)
