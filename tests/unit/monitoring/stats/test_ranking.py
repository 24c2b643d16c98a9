"""AUC, average precision and DeLong against published digits and a reference implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from monitoring.stats.bootstrap import MIN_DAYS, Resamples, Units, mean_bootstrap, resampling_units
from monitoring.stats.ranking import (
    RankTable,
    auc_roc,
    average_precision,
    delong,
    midranks,
    precision_at_recall,
    recall_at_false_positive_rate,
)
from tests.support.vectors import FP_A, FP_B, TP_A, TP_B, digits

Y = [1] * 5 + [0] * 7
A = [0.9, 0.8, 0.6, 0.55, 0.3, 0.7, 0.5, 0.4, 0.35, 0.3, 0.2, 0.1]
B = [0.95, 0.7, 0.75, 0.6, 0.45, 0.65, 0.5, 0.3, 0.4, 0.2, 0.25, 0.05]


def test_delong_has_the_published_digits() -> None:
    test = delong(Y, A, B)
    assert test is not None
    digits(test.a, ".814285714")
    digits(test.b, ".914285714")
    digits(test.variance, ".00632653061")
    digits(test.z, "1.25723711")
    digits(test.p, ".208667788")


def test_average_precision_has_the_published_digits() -> None:
    digits(average_precision(Y, A), ".81")
    digits(average_precision(Y, B), ".902857143")
    digits(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), ".833333333")


def test_the_operating_points_have_the_published_digits() -> None:
    for score in (A, B):
        digits(precision_at_recall(Y, score, 0.8), ".8")
        digits(recall_at_false_positive_rate(Y, score, 0.2), ".8")


def test_a_threshold_that_is_nearly_good_enough_is_no_operating_point() -> None:
    assert precision_at_recall(Y, B, 0.81) == pytest.approx(5 / 7)
    assert recall_at_false_positive_rate(Y, B, 0.14) == 0.6
    assert recall_at_false_positive_rate([0, 1, 1], [0.9, 0.8, 0.7], 0.5) == 0.0
    assert precision_at_recall([0, 0], [0.1, 0.2], 0.8) is None
    assert precision_at_recall([], [], 0.8) is None
    assert recall_at_false_positive_rate([1, 1], [0.1, 0.2], 0.2) is None


def test_tied_scores_are_flagged_together_at_an_operating_point() -> None:
    assert precision_at_recall([1, 0, 1, 0], [0.5] * 4, 0.5) == 0.5
    assert recall_at_false_positive_rate([1, 0, 1, 0], [0.5] * 4, 0.5) == 0.0


def test_one_class_has_no_ranking_figure() -> None:
    assert average_precision([0, 0], [0.1, 0.2]) is None
    assert average_precision([], []) is None
    assert auc_roc([0, 0], [0.1, 0.2]) is None
    assert auc_roc([1, 1], [0.1, 0.2]) is None
    assert delong([1, 0, 0], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]) is None


def test_a_model_against_itself_has_no_difference_and_no_p() -> None:
    test = delong(Y, A, A)
    assert test is not None
    assert (test.difference, test.p) == (0.0, None)


def test_midranks_share_the_mean_of_their_ranks() -> None:
    assert midranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_the_day_bootstrap_has_the_published_digits() -> None:
    interval = mean_bootstrap(100 * (TP_B - TP_A) + (FP_A - FP_B), 10_000, 0)
    digits(interval.low, "77.8571429")
    digits(interval.high, "359.285714")
    assert mean_bootstrap([3.0]).low is None


SCORED = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=4, max_size=120).filter(
    lambda rows: len({y for y, _ in rows}) == 2
)


@settings(deadline=None, max_examples=40)
@given(SCORED)
def test_ranking_figures_agree_with_the_reference_implementation(rows: list[tuple[bool, int]]) -> None:
    y, s = np.array([r[0] for r in rows], dtype=int), np.array([r[1] for r in rows], dtype=float)
    assert average_precision(y, s) == pytest.approx(average_precision_score(y, s))
    assert auc_roc(y, s) == pytest.approx(roc_auc_score(y, s))


@settings(deadline=None, max_examples=30)
@given(SCORED, st.integers(1, 9))
def test_a_repetition_equals_the_figure_of_the_weighted_rows(rows: list[tuple[bool, int]], count: int) -> None:
    y, s = np.array([r[0] for r in rows], dtype=int), np.array([r[1] for r in rows], dtype=float)
    units = Units(np.arange(len(y)) % count, count, False)
    resamples = Resamples.draw(count, 4, 1)
    table = RankTable.of(y, s, units)
    for r, (ap, auc) in enumerate(zip(table.average_precision(resamples), table.auc(resamples), strict=True)):
        w = resamples.weights[units.codes, r]
        if w[y == 1].sum() and w[y == 0].sum():
            assert ap == pytest.approx(average_precision_score(y, s, sample_weight=w))
            assert auc == pytest.approx(roc_auc_score(y, s, sample_weight=w))


def test_a_table_in_several_chunks_gives_the_same_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    y, s = (rng.random(500) < 0.3).astype(int), rng.integers(0, 90, 500).astype(float)
    units, resamples = Units(rng.integers(0, 7, 500), 7, False), Resamples.draw(7, 50, 2)
    table = RankTable.of(y, s, units)
    whole = table.average_precision(resamples), table.auc(resamples)
    monkeypatch.setattr("monitoring.stats.ranking._CHUNK_CELLS", 300)
    parts = table.average_precision(resamples), table.auc(resamples)
    np.testing.assert_allclose(parts, whole)


def test_days_are_resampled_only_when_there_are_twenty() -> None:
    order = np.arange(400)
    assert resampling_units(order, np.arange(400) % MIN_DAYS, 1).days
    few = resampling_units(order, np.arange(400) % (MIN_DAYS - 1), 1)
    assert (few.days, few.count) == (False, 400)


def test_each_repetition_draws_as_many_units_as_there_are() -> None:
    assert set(Resamples.draw(30, 100, 4).weights.sum(axis=0).tolist()) == {30.0}


def test_mostly_undefined_repetitions_give_no_interval() -> None:
    resamples = Resamples.draw(3, 10, 4)
    assert resamples.interval(0.5, np.array([np.nan] * 5 + [0.5] * 5)).low is None
