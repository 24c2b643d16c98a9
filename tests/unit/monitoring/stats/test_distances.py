"""PSI, Kolmogorov-Smirnov and false-discovery control against published digits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.stats.distances import (
    benjamini_hochberg,
    ks_distance,
    ks_p,
    ndcg,
    psi_critical,
    psi_of_shares,
    psi_test,
)
from tests.support.vectors import digits


def test_smoothed_psi_of_ten_bins_has_the_published_digits() -> None:
    test = psi_test([100] * 10, [0, 5, 10, 12, 8, 15, 11, 14, 10, 15])
    digits(test.psi, ".378346649")
    digits(test.critical, ".186108754")
    digits(test.p, "7.61398e-5")
    assert test.bins == 10


def test_psi_of_categories_with_an_unseen_level_has_the_published_digits() -> None:
    digits(psi_test([500, 300, 200, 0], [90, 70, 30, 10]).psi, ".266058673")


def test_psi_of_the_often_quoted_example_is_not_the_often_quoted_figure() -> None:
    digits(psi_of_shares([0.2, 0.3, 0.25, 0.15, 0.1], [0.1, 0.2, 0.3, 0.25, 0.15]), ".190333124489")


def test_critical_values_have_the_published_digits() -> None:
    for n, m, text in (
        (200, 200, ".169189776"),
        (500, 500, ".0676759104"),
        (100_000, 200, ".0847640778"),
        (100_000, 1000, ".0170881674"),
    ):
        digits(psi_critical(n, m, 10), text)


def test_a_bare_limit_of_one_tenth_alarms_on_a_third_of_small_windows() -> None:
    assert stats.chi2.sf(0.1 / (1 / 200 + 1 / 200), 9) == pytest.approx(0.35, abs=0.005)


def test_a_bare_limit_for_twenty_features_alarms_on_nearly_every_day() -> None:
    one = stats.chi2.sf(0.1 / (1 / 200 + 1 / 200), 9)
    digits(100 * float(1 - (1 - one) ** 20), "99.98")


def test_benjamini_hochberg_has_the_published_digits() -> None:
    raw = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216]
    shown = [".01", ".04", ".084", ".084", ".084", ".1", ".105714286", ".216", ".216", ".216"]
    for value, text in zip(benjamini_hochberg(raw), shown, strict=True):
        digits(value, text)
    assert benjamini_hochberg(raw[::-1]).tolist() == benjamini_hochberg(raw)[::-1].tolist()


def test_a_tiny_shift_of_a_million_rows_is_significant_and_small() -> None:
    distance = 0.01 * stats.norm.pdf(0)
    digits(ks_p(float(distance), 1_000_000, 1_000_000), "2.4e-7")
    assert distance < 0.1


def test_attribution_ndcg_has_the_published_digits() -> None:
    digits(ndcg([0.5, 0.3, 0.15, 0.05], [0.1, 0.4, 0.3, 0.2]), ".808052222")
    assert ndcg([0.5, 0.3], [0.6, 0.2]) == 1.0


def test_bins_that_are_empty_on_both_sides_do_not_count() -> None:
    one = psi_test([50, 50], [30, 70])
    other = psi_test([50, 0, 50, 0], [30, 0, 70, 0])
    assert one == other


def test_nothing_to_compare_gives_no_drift() -> None:
    assert psi_test([10, 0], [20, 0]).p == 1.0
    assert psi_test([10, 5], [0, 0]).psi == 0.0
    assert ks_distance(np.array([1]), 0, np.array([1]), 3) is None


@given(st.lists(st.integers(1, 500), min_size=2, max_size=12), st.integers(1, 20))
def test_equal_shares_have_no_psi_whatever_the_sample_sizes(counts: list[int], factor: int) -> None:
    test = psi_test(np.array(counts) * 100, np.array(counts) * 100 * factor)
    assert test.psi == pytest.approx(0.0, abs=1e-4)
    assert test.p > 0.9


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=12))
def test_psi_is_never_negative_and_does_not_depend_on_the_order_of_bins(pairs: list[tuple[int, int]]) -> None:
    r, c = np.array(pairs).T
    one, other = psi_test(r, c), psi_test(r[::-1], c[::-1])
    assert one.psi >= 0.0
    assert other.psi == pytest.approx(one.psi)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_an_adjusted_p_is_never_below_the_raw_one_and_keeps_the_order(p: list[float]) -> None:
    adjusted = benjamini_hochberg(p)
    assert np.all(adjusted >= np.array(p) - 1e-12)
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-12)


def test_the_excess_of_psi_is_over_one_degree_of_freedom_less_than_there_are_bins() -> None:
    # Three bins leave two degrees of freedom, for which the chi-squared tail is exp(-x/2).
    test, scale = psi_test([500, 300, 200], [90, 70, 40]), 1 / 1000 + 1 / 200
    assert test.excess == pytest.approx(test.psi - 2 * scale)
    assert test.p == pytest.approx(math.exp(-test.psi / (2 * scale)))
    assert test.critical == pytest.approx(-2 * scale * math.log(0.05))
