"""The anytime-valid t against published digits, and its error rate under daily looks."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.stats.anytime import (
    anytime_path,
    anytime_ratio,
    anytime_t,
    critical_multiplier,
    days_needed,
    fieller,
    lag1_autocorrelation,
    log_e_value,
    mixture_scale,
)
from monitoring.stats.intervals import mean_interval
from tests.support.vectors import DAYS, digits

Z = [3, -1, 4, 1, 5, -2, 2, 6, 0, 3, 1, 4, 2, -1]


def test_the_example_series_has_the_published_digits() -> None:
    test = anytime_t(Z, 0.05, 28)
    digits(mixture_scale(0.05, 28) * 28, "7.93615460")
    digits(mixture_scale(0.05, 28), ".283434093")
    k = 1 + 14 * mixture_scale(0.05, 28)
    digits(k, "4.96807730")
    digits((k / 0.05**2) ** (1 / 14), "1.72024049")
    digits(mean_interval(Z).p, ".0101269961")
    digits(test.mean, "1.92857143")
    digits(test.sd, "2.40077826")
    digits(test.t, "3.00571429")
    digits(test.log_e, "1.97556928")
    assert test.log_e is not None
    digits(math.exp(test.log_e), "7.21072341")
    digits(math.exp(-test.log_e), ".138682341")
    digits(test.low, "-.499690601")
    digits(test.high, "4.35683346")
    assert test.block == 1


def test_the_critical_multipliers_have_the_published_digits() -> None:
    for n, text in ((14, "3.78449135"), (28, "3.28305874"), (60, "3.17201690")):
        digits(critical_multiplier(n, 0.05, 28), text)


def test_the_bound_touches_zero_exactly_where_the_e_value_reaches_the_level() -> None:
    for n in (14, 28, 60):
        assert log_e_value(n, critical_multiplier(n, 0.05, 28), 0.05, 28) == pytest.approx(math.log(20))


def test_a_series_without_spread_is_missing_evidence() -> None:
    test = anytime_t([2.0] * 20)
    assert (test.t, test.low, test.p, test.log_e) == (None, None, None, None)
    assert test.mean == 2.0
    assert anytime_t([]).mean is None
    assert anytime_t([1.0]).n == 1


def test_a_short_series_has_no_bound() -> None:
    assert anytime_t([1.0, 2.0, 1.5]).low is None


def test_days_that_resemble_their_neighbours_are_blocked() -> None:
    wave = np.repeat([1.0, 5.0, 2.0, 6.0, 0.0, 4.0, 3.0], 3)
    test = anytime_t(wave, planned=30)
    assert (test.block, test.n) == (3, 7)
    assert test.mean == pytest.approx(wave.mean())
    assert anytime_t(wave[:20], planned=30).n == 6


def test_the_running_p_never_rises() -> None:
    series = np.random.default_rng(1).normal(0.4, 1.0, 40)
    p = [anytime_t(series[:n], block=1).p or 1.0 for n in range(1, 41)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(p))


@pytest.mark.parametrize("seed", [396, 7, 12])
def test_the_running_p_never_rises_although_days_are_blocked_on_some_looks_only(seed: int) -> None:
    series = np.random.default_rng(seed).normal(0.7, 1.0, 40)
    looks = [anytime_t(series[:n]) for n in range(1, 41)]
    assert {look.block for look in looks} == {1, 3}
    p = [look.p or 1.0 for look in looks]
    assert all(later <= earlier for earlier, later in itertools.pairwise(p))


def test_the_path_is_what_a_daily_look_would_have_seen() -> None:
    path = anytime_path(Z)
    assert path.days == tuple(range(1, 15))
    assert path.low[-1] == anytime_t(Z, block=1).low
    assert path.low[0] is None


def test_the_ratio_bound_agrees_with_the_test_of_the_shifted_series() -> None:
    rng = np.random.default_rng(5)
    positives = rng.poisson(100, 40).astype(float)
    gained = rng.normal(2.0, 2.0, 40)
    ratio = anytime_ratio(gained, positives)
    assert ratio.low is not None
    assert ratio.high is not None
    for edge, side in ((ratio.low, "low"), (ratio.high, "high")):
        shifted = anytime_t(gained - edge * positives, block=ratio.block)
        assert getattr(shifted, side) == pytest.approx(0.0, abs=1e-9)
    assert ratio.low < ratio.mean < ratio.high  # type: ignore[operator]  # both bounds are known here


def test_models_that_differ_nowhere_are_equal_up_to_a_rate_that_was_never_seen() -> None:
    ratio = anytime_ratio(np.zeros(30), np.full(30, 100.0))
    assert ratio.high == pytest.approx(1 - (0.05 / 3001) ** (1 / 3000))
    assert ratio.low == -ratio.high  # type: ignore[operator]  # known here
    assert (ratio.mean, ratio.p) == (0.0, None)
    few = anytime_ratio(np.zeros(3), np.full(3, 5.0))
    assert few.high is not None
    assert few.high > 0.3


def test_a_difference_in_exact_proportion_has_no_spread_and_so_no_bound() -> None:
    positives = np.random.default_rng(0).poisson(100, 30).astype(float)
    assert anytime_ratio(0.02 * positives, positives).low is None


def test_a_ratio_without_positives_is_unknown() -> None:
    assert anytime_ratio(np.zeros(5), np.zeros(5)).mean is None


def test_seven_days_are_too_few_for_a_ratio_to_be_certain() -> None:
    positives, tp_a, tp_b = DAYS[:3]
    test = anytime_ratio(tp_b - tp_a, positives)
    assert test.low is not None
    assert test.low < 0.0


def test_the_days_still_needed_are_enough_at_the_present_effect() -> None:
    test = anytime_t(Z)
    more = days_needed(test)
    assert more is not None
    assert test.mean is not None
    assert test.sd is not None
    n = test.n + more
    assert math.sqrt(n) * test.mean / test.sd > critical_multiplier(n, 0.05, 28)
    assert math.sqrt(n - 1) * test.mean / test.sd <= critical_multiplier(n - 1, 0.05, 28)
    assert days_needed(anytime_t([-1.0, -2.0, -1.0, -3.0])) is None


def test_daily_looks_at_two_equal_models_reject_less_often_than_the_level() -> None:
    rng = np.random.default_rng(11)
    trials, days = 400, 60
    series = rng.normal(size=(trials, days))
    rejected = naive = 0
    for row in series:
        looks = np.arange(7, days + 1)
        means = np.cumsum(row)[looks - 1] / looks
        squares = np.cumsum(row**2)[looks - 1]
        sd = np.sqrt((squares - looks * means**2) / (looks - 1))
        t = np.sqrt(looks) * means / sd
        naive += bool(np.any(np.abs(t) > 2.0))
        log_e = [log_e_value(int(n), float(v), 0.05, 28) for n, v in zip(looks, t, strict=True)]
        rejected += max(log_e) >= math.log(20)
    assert rejected / trials <= 0.05
    assert naive / trials > 0.15


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=80), st.sampled_from([1e-3, 7.0, 1e4]))
def test_the_unit_of_money_does_not_change_the_evidence(values: list[float], scale: float) -> None:
    one, other = anytime_t(values, block=1), anytime_t(np.array(values) * scale, block=1)
    if one.log_e is not None and other.log_e is not None:
        assert other.log_e == pytest.approx(one.log_e, rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(-100, 100), min_size=7, max_size=60))
def test_the_present_bound_excludes_zero_only_with_enough_evidence(values: list[float]) -> None:
    test = anytime_t(values, block=1)
    if test.low is not None and test.low > 0.0:
        assert test.log_e is not None
        assert test.log_e >= math.log(20) - 1e-9


def test_autocorrelation_needs_a_few_days() -> None:
    assert lag1_autocorrelation([1, 2, 3]) is None
    assert lag1_autocorrelation([1.0] * 10) is None
    assert lag1_autocorrelation([1, -1] * 10) == pytest.approx(-0.95)


def test_the_evidence_of_a_ratio_is_that_of_its_difference_at_the_same_level() -> None:
    x, y = [3, 1, 4, 0, 2, 5, 1, 2], [10, 9, 12, 8, 11, 13, 9, 10]
    ratio, difference = anytime_ratio(x, y), anytime_t(x)
    assert (ratio.log_e, ratio.p) == (difference.log_e, difference.p)
    assert ratio.p == pytest.approx(math.exp(-ratio.log_e))  # type: ignore[operator]  # both are known here


def test_denominators_that_are_too_uneven_leave_a_ratio_without_bounds() -> None:
    # The quadratic opens downwards although it has two roots: what lies between them is what the test rejects.
    x, y = np.array([1.0, -2.0, 3.0, 0.0, 1.0]), np.array([100.0, 3.0, 200.0, 5.0, 90.0])
    assert fieller(x, y, 3.0) == (None, None)
    low, high = fieller(x, y, 1.0)
    assert low is not None
    assert high is not None
    assert low < x.sum() / y.sum() < high
