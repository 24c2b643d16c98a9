"""Simulated comparisons: the fast bounds are the real ones, and a plan's power is what it says."""

import numpy as np
import pytest

from monitoring.comparison.sample_size import Simulation, Traffic, plan_under_rule
from monitoring.comparison.simulation import (
    SimulatedTraffic,
    daily_bounds,
    first_day,
    promoting_days,
    running_autocorrelation,
)
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.anytime import anytime_t, lag1_autocorrelation, running_log_e
from monitoring.stats.group_sequential import lan_demets_mean

POLICY = PromotionPolicy()
DECIDING = PromotionPolicy(method="lan_demets", decision_days=(14, 28, 42), max_shadow_days=60)


def series(trials: int = 12, days: int = 42) -> np.ndarray:
    rng = np.random.default_rng(8)
    noise = rng.normal(1.0, 3.0, (trials, days))
    noise[:4, 1:] += 0.5 * noise[:4, :-1]
    return noise


def test_the_bounds_of_many_series_are_those_of_each() -> None:
    x = series()
    fast = daily_bounds(x, POLICY)
    for row, found in zip(x, fast, strict=True):
        for day in (5, 9, 14, 27, 42):
            low = anytime_t(row[:day]).low
            assert found[day - 1] == pytest.approx(low) if low is not None else np.isnan(found[day - 1])


def test_the_bounds_on_decision_days_are_those_of_each() -> None:
    x = series()
    fast = daily_bounds(x, DECIDING)
    for row, found in zip(x, fast, strict=True):
        for day in (13, 14, 20, 28, 42):
            low = lan_demets_mean(row[:day], 0.05, (14, 28, 42)).low
            assert found[day - 1] == pytest.approx(low) if low is not None else np.isnan(found[day - 1])


def test_running_figures_are_those_of_each_beginning() -> None:
    x = series(3)
    found = running_autocorrelation(x)
    assert found[1, 20] == pytest.approx(lag1_autocorrelation(x[1, :21]))
    assert np.isnan(found[:, 4]).all()
    e = running_log_e(x, 0.05, 28)
    plain = anytime_t(x[0], block=1)
    assert e[0, -1] == pytest.approx(plain.log_e)
    assert plain.p == pytest.approx(min(1.0, np.exp(-max(0.0, np.nanmax(e[0])))))


@pytest.mark.parametrize("clusters", [1.0, 4.0])
def test_traffic_has_the_declared_effect_and_discordance(clusters: float) -> None:
    positives, gained = SimulatedTraffic(50.0, 0.2, 0.05, clusters).draw(400, 30, 1)
    assert positives.mean() == pytest.approx(50, rel=0.03)
    assert gained.sum() / positives.sum() == pytest.approx(0.05, abs=0.006)
    spread = gained.var() / positives.mean()
    assert spread == pytest.approx((0.2 - 0.05**2) if clusters == 1.0 else 0.2 * (2 * clusters - 1), rel=0.1)


def test_an_effect_beyond_the_discordance_is_refused() -> None:
    with pytest.raises(ValueError, match="discordance"):
        SimulatedTraffic(10.0, 0.1, 0.2).draw(1, 1, 0)
    with pytest.raises(ValueError, match="effect"):
        plan_under_rule(0.2, Traffic(0.1, 0.01, 1000), POLICY)


@pytest.mark.parametrize("policy", [POLICY, DECIDING])
def test_a_plan_reaches_its_power_in_comparisons_that_it_has_not_seen(policy: PromotionPolicy) -> None:
    plan = plan_under_rule(
        0.02, Traffic(0.06, 0.005, 20_000), policy, maturity_days=7, power=0.8, simulation=Simulation(1500)
    )
    assert plan.exposure_days is not None
    positives, gained = SimulatedTraffic(100.0, 0.06, 0.02).draw(600, plan.exposure_days, 12345)
    ended = first_day(promoting_days(positives, gained, policy))
    assert np.mean(ended > 0) > 0.76
    assert np.mean((ended > 0) & (ended < plan.exposure_days)) < 0.84


def test_a_plan_names_positives_events_and_calendar_days() -> None:
    plan = plan_under_rule(0.02, Traffic(0.06, 0.005, 20_000), POLICY, maturity_days=7, simulation=Simulation(500))
    assert plan.fixed.positives == 1175
    assert plan.exposure_days is not None
    assert plan.exposure_days >= POLICY.min_matured_days
    assert plan.positives == plan.exposure_days * 100
    assert plan.events == plan.exposure_days * 20_000
    assert plan.calendar_days == plan.exposure_days + 7
    smaller = plan_under_rule(0.015, Traffic(0.06, 0.005, 20_000), POLICY, simulation=Simulation(500))
    assert smaller.exposure_days is not None
    assert smaller.exposure_days > plan.exposure_days


def test_a_gain_below_what_is_asked_is_never_found() -> None:
    plan = plan_under_rule(0.005, Traffic(0.06, 0.005, 20_000), POLICY, simulation=Simulation(200, 90))
    assert plan.exposure_days is None
    assert plan.calendar_days is None
