"""Cost, thresholds under capacity, and the corrections around them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.performance.cost import Prices, expected_gain, prices_of, total_cost
from monitoring.performance.cost_curve import CostCurve
from monitoring.performance.thresholds import (
    calibrated_threshold,
    capacity_cut,
    choose_gain_cut,
    choose_threshold,
    cost_curve,
)
from monitoring.policies import CapacityPolicy, CostModel
from monitoring.stats.bootstrap import Bootstrap
from tests.support.vectors import digits

FREE = CapacityPolicy()
PRICES = Prices(100.0, 1.0)


def fold(rows: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.3, 12, rows)
    return p, (rng.random(rows) < p).astype(int), np.arange(rows) // (rows // 25)


def test_calibrated_thresholds_have_the_published_digits() -> None:
    digits(calibrated_threshold(100, 1), ".00990099010")
    gain = expected_gain([0.0909090908, 0.0909090910], Prices(np.array([50.0, 50.0]), 5.0))
    assert gain[0] < 0 < gain[1]  # c_FP/(c_FP + amount) = .0909090909...
    assert calibrated_threshold(0, 0) == 1.0


def test_cost_at_low_prevalence_has_the_published_figures() -> None:
    y = np.repeat([1, 1, 0, 0], [400, 100, 1000, 98_500])
    flagged = np.repeat([1, 0, 1, 0], [400, 100, 1000, 98_500])
    assert total_cost(y, flagged, PRICES) == 11_000
    assert total_cost(y, np.zeros(100_000), PRICES) == 50_000
    assert total_cost(y, np.ones(100_000), PRICES) == 99_500


def test_prices_come_from_a_column_and_are_capped() -> None:
    table = pd.DataFrame({"amount": [10.0, 5000.0]})
    prices = prices_of(CostModel(false_negative="amount", false_positive=2.0), table, cap=100.0)
    assert total_cost([1, 1], [0, 0], prices) == 110.0
    with pytest.raises(KeyError, match="amount"):
        prices_of(CostModel(false_negative="amount"), pd.DataFrame())


def test_constant_costs_give_the_formula_and_a_certain_threshold() -> None:
    p, y, days = fold()
    choice = choose_threshold(p, days, PRICES, FREE, y=y)
    assert choice.value == choice.low == choice.high == calibrated_threshold(100, 1)
    assert not choice.capped
    assert choice.optimum.low is not None
    assert choice.optimum.high is not None
    assert choice.optimum.low <= choice.value <= choice.optimum.high


def test_capacity_raises_the_threshold_and_is_never_exceeded() -> None:
    p, _, days = fold()
    choice = choose_threshold(p, days, PRICES, CapacityPolicy(alerts_per_day=50))
    assert choice.capped
    assert choice.alerts_per_day == pytest.approx(50)
    assert choice.low < choice.value < choice.high
    assert np.count_nonzero(p >= choice.value) <= 50 * 25


def test_a_capacity_that_does_not_bind_changes_nothing() -> None:
    p, _, days = fold()
    free, capped = (choose_threshold(p, days, PRICES, c) for c in (FREE, CapacityPolicy(alerts_per_day=100_000)))
    assert capped == free


def test_the_threshold_does_not_depend_on_the_order_of_rows() -> None:
    p, y, days = fold(5000)
    shuffle = np.random.default_rng(5).permutation(len(p))
    capacity = CapacityPolicy(alerts_per_day=20)
    one = choose_threshold(p, days, PRICES, capacity, y=y)
    assert choose_threshold(p[shuffle], days[shuffle], PRICES, capacity, y=y[shuffle]) == one


def test_amounts_give_the_threshold_of_least_expected_cost() -> None:
    p, _, days = fold(5000)
    prices = Prices(np.random.default_rng(2).lognormal(3, 1, 5000), 1.0)
    choice = choose_threshold(p, days, prices, FREE, bootstrap=Bootstrap(50))

    def expected(threshold: float) -> float:
        flagged = p >= threshold
        return float(np.sum(np.where(flagged, (1 - p) * 1.0, p * prices.missed)))

    assert expected(choice.value) <= min(expected(t) for t in np.quantile(p, np.linspace(0, 1, 300))) + 1e-9
    assert choice.low <= choice.value <= choice.high


def test_flagging_by_expected_gain_beats_one_threshold_when_amounts_differ() -> None:
    p, y, days = fold()
    prices = Prices(np.random.default_rng(2).lognormal(3, 1.5, len(p)), 1.0)
    capacity = CapacityPolicy(alerts_per_day=40)
    by_score = p >= choose_threshold(p, days, prices, capacity, bootstrap=Bootstrap(2)).value
    gain = expected_gain(p, prices)
    by_gain = gain >= choose_gain_cut(gain, days, capacity)
    assert by_gain.sum() <= 40 * 25
    assert total_cost(y, by_gain, prices) < total_cost(y, by_score, prices)
    assert choose_gain_cut(gain, days, FREE) == 0.0


def test_tied_scores_are_flagged_together_or_not_at_all() -> None:
    values = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    assert capacity_cut(values, 3) == 0.9
    assert capacity_cut(values, 4) == 0.5
    assert capacity_cut(values, 0) > 0.9
    assert capacity_cut(np.full(10, 0.3), 5) > 0.3
    assert capacity_cut(values, 5) == -np.inf


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(0, 70))
def test_the_capacity_cut_is_the_lowest_that_fits(values: list[int], budget: int) -> None:
    x = np.array(values, dtype=float)
    cut = capacity_cut(x, budget)
    assert np.count_nonzero(x >= cut) <= budget
    lower = x[x < cut]
    if len(lower):
        assert np.count_nonzero(x >= lower.max()) > budget


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=60))
def test_every_point_of_the_cost_curve_is_the_cost_of_its_threshold(rows: list[tuple[bool, int]]) -> None:
    y, p = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]) / 10
    curve = cost_curve(y, p, PRICES)
    for threshold, cost, alerts in zip(curve.threshold, curve.cost, curve.alerts, strict=True):
        assert cost == pytest.approx(total_cost(y, p >= threshold, PRICES))
        assert alerts == np.count_nonzero(p >= threshold)
    assert (curve.alerts[0], curve.alerts[-1]) == (0, len(rows))


def test_a_long_curve_is_closest_where_little_is_flagged_and_holds_the_threshold_in_use() -> None:
    p, y, _ = fold()
    used = float(np.sort(p)[-37]) - 1e-12
    curve = cost_curve(y, p, PRICES, points=98, threshold_in_use=used)
    assert len(curve.threshold) <= 100
    assert (curve.alerts[:6], curve.alerts[-1]) == ((0, 1, 2, 3, 4, 5), len(p))
    place = curve.point_index(used)
    assert curve.alerts[place] == 37
    assert curve.cost[place] == pytest.approx(total_cost(y, p >= used, PRICES))
    assert curve.recall[place] == pytest.approx(float((p >= used)[y == 1].mean()))


def test_a_few_points_of_a_curve_reach_from_end_to_end_and_hold_the_one_in_use() -> None:
    p, y, _ = fold(2000)
    curve = cost_curve(y, p, PRICES, points=98)
    few = curve.few(8, 0.05)
    assert 8 <= len(few) <= 9
    assert (few[0][2], few[-1][2]) == (0, len(p))
    assert curve.alerts[curve.point_index(0.05)] in [point[2] for point in few]
    assert curve.point_index(2.0) == 0
    assert CostCurve.from_json(curve.to_json()) == curve
    short = cost_curve([1], [0.5], PRICES)
    assert short.few(8, 0.5) == [(short.threshold[0], 100.0, 0, 0.0), (0.5, 0.0, 1, 1.0)]


def test_no_row_has_no_threshold() -> None:
    with pytest.raises(ValueError, match="at least one"):
        cost_curve([], [], PRICES)


def test_a_missing_amount_or_a_refund_is_no_loss() -> None:
    table = pd.DataFrame({"amount": [10.0, np.nan, -4.0]})
    prices = prices_of(CostModel(false_negative="amount", false_positive=2.0), table)
    assert prices.per_row(3).tolist() == [10.0, 0.0, 0.0]


def test_rows_that_stand_for_two_take_two_places_of_the_capacity() -> None:
    p, _, days = fold()
    twice = choose_threshold(p, days, PRICES, CapacityPolicy(alerts_per_day=50), weight=np.full(len(p), 2.0))
    half = choose_threshold(p, days, PRICES, CapacityPolicy(alerts_per_day=25))
    assert twice.value == half.value
    assert twice.alerts_per_day == pytest.approx(50)


def test_nothing_is_flagged_where_every_flag_loses_money() -> None:
    p, _, days = fold(2000)
    choice = choose_threshold(p, days, Prices(np.full(len(p), 0.001), 1.0), FREE, bootstrap=Bootstrap(10))
    assert choice.value > p.max()
    assert choice.alerts_per_day == 0.0
