"""Intervals and tests for paired and unpaired proportions, against published digits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.stats import intervals
from tests.support.vectors import FP_A, FP_B, TP_A, TP_B, P, digits


def test_recall_difference_clustered_by_day_has_the_published_digits() -> None:
    test = intervals.clustered_ratio_difference(TP_A, P, TP_B, P)
    digits(test.a, ".847142857")
    digits(test.b, ".868571429")
    digits(test.difference, ".0214285714")
    digits(test.se, ".00836812465")
    digits(test.t, "2.56073760")
    digits(test.p, ".0428660914")
    digits(test.low, ".000952508044")
    digits(test.high, ".0419046348")


def test_precision_difference_clustered_by_day_has_the_published_digits() -> None:
    test = intervals.clustered_ratio_difference(TP_A, TP_A + FP_A, TP_B, TP_B + FP_B)
    digits(test.a, ".440237565")
    digits(test.b, ".455772114")
    digits(test.difference, ".0155345490")
    digits(test.se, ".00403135394")
    digits(test.p, ".00842630842")


def test_cost_saving_a_day_has_the_published_digits() -> None:
    saving = 100 * (TP_B - TP_A) + (FP_A - FP_B)
    assert saving.tolist() == [306, 97, 109, 397, -91, 506, 204]
    test = intervals.mean_interval(saving)
    digits(test.mean, "218.285714")
    digits(test.t, "2.85845426")
    digits(test.p, ".0288600682")
    digits(test.low, "31.4274155")
    digits(test.high, "405.144013")
    digits(intervals.sign_flip_p(saving), ".03125")


def test_mcnemar_has_the_published_digits() -> None:
    test = intervals.mcnemar(25, 10)
    digits(test.exact_p, ".0166738478")
    digits(test.mid_p, ".0113309842")
    digits(test.chi2, "6.42857143")
    digits(test.chi2_p, ".0112298867")
    small = intervals.mcnemar(8, 2)
    digits(small.exact_p, ".109375")
    digits(small.mid_p, ".0654296875")


def test_mcnemar_without_discordant_pairs_says_nothing() -> None:
    assert intervals.mcnemar(0, 0).mid_p == 1.0


def test_bonett_price_and_tango_have_the_published_digits() -> None:
    adjusted = intervals.bonett_price(25, 10, 500)
    digits(adjusted.low, ".00627576557")
    digits(adjusted.high, ".0534851906")
    score = intervals.tango_interval(25, 10, 500)
    digits(score.low, ".00719554660")
    digits(score.high, ".0551555215")
    t = intervals.tango_t(25, 10, 500, -0.01)
    digits(t, "3.26939")
    digits(float(stats.norm.sf(t)), ".000538898")


def test_tango_interval_of_equal_counts_holds_zero() -> None:
    score = intervals.tango_interval(0, 0, 50)
    assert score.low is not None
    assert score.high is not None
    assert score.low < 0.0 < score.high


def test_newcombe_and_katz_have_the_published_digits() -> None:
    parity = intervals.newcombe(120, 1000, 180, 1000)
    digits(parity.value, "-.06")
    digits(parity.low, "-.0912382745")
    digits(parity.high, "-.0287510426")
    opportunity = intervals.newcombe(40, 60, 70, 90)
    digits(opportunity.value, "-.111111111")
    digits(opportunity.low, "-.257070899")
    digits(opportunity.high, ".0320980580")
    tiny = intervals.newcombe(3, 5, 70, 90)
    digits(tiny.low, "-.554298840")
    digits(tiny.high, ".120554687")
    impact = intervals.katz(120, 1000, 180, 1000)
    digits(impact.value, ".666666667")
    digits(impact.low, ".538389988")
    digits(impact.high, ".825506519")


def test_wilson_has_the_published_digits() -> None:
    recall = intervals.wilson(400, 500)
    digits(recall.low, ".762710895")
    digits(recall.high, ".832714501")
    precision = intervals.wilson(400, 1400)
    digits(precision.low, ".262661896")
    digits(precision.high, ".309939414")


def test_nothing_to_divide_by_is_unknown_and_not_zero() -> None:
    assert not intervals.wilson(0, 0).known
    assert not intervals.newcombe(0, 0, 1, 2).known
    assert not intervals.katz(0, 5, 1, 5).known
    assert not intervals.bonett_price(0, 0, 0).known
    assert not intervals.tango_interval(0, 0, 0).known
    assert intervals.clustered_ratio_difference([0, 0], [0, 0], [0, 0], [0, 0]).difference is None
    assert intervals.sign_flip_p([0.0, 0.0]) is None


def test_one_day_gives_a_mean_but_no_interval() -> None:
    test = intervals.mean_interval([5.0])
    assert (test.mean, test.low, test.p) == (5.0, None, None)
    assert intervals.mean_interval([]).mean is None
    assert intervals.clustered_ratio_difference([1], [2], [2], [2]).low is None


def test_the_random_sign_flip_agrees_with_the_exact_one() -> None:
    values = np.random.default_rng(3).normal(0.5, 1.0, 16)
    exact = intervals.sign_flip_p(values)
    padded = intervals.sign_flip_p(np.concatenate([values, [1e-9]]))
    assert exact == pytest.approx(padded, abs=0.01)


@given(st.integers(1, 500), st.integers(0, 500))
def test_wilson_holds_the_proportion_and_stays_within_0_and_1(trials: int, successes: int) -> None:
    successes = min(successes, trials)
    interval = intervals.wilson(successes, trials)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.value is not None
    assert -1e-12 <= interval.low <= interval.value + 1e-12
    assert interval.value - 1e-12 <= interval.high <= 1 + 1e-12


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 300))
def test_swapping_the_models_mirrors_the_paired_interval(b: int, c: int, rest: int) -> None:
    n = b + c + rest + 1
    for method in (intervals.tango_interval, intervals.bonett_price):
        one, other = method(b, c, n), method(c, b, n)
        assert one.low == pytest.approx(-(other.high or 0.0), abs=1e-7)


@given(st.permutations(range(7)))
def test_the_order_of_days_does_not_matter_to_a_clustered_interval(order: list[int]) -> None:
    o = np.array(order)
    one = intervals.clustered_ratio_difference(TP_A, P, TP_B, P)
    other = intervals.clustered_ratio_difference(TP_A[o], P[o], TP_B[o], P[o])
    assert other.low == pytest.approx(one.low, rel=1e-9)
