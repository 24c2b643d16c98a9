"""Figures of a ranking: AUC by midranks, average precision by its sum, DeLong, and their bootstrap.

The rows are sorted once. A repetition of the bootstrap needs, at each distinct score that holds a
positive, only how many rows of each unit lie at or above it (:class:`RankTable`).

Comparing commands run linear algebra on one thread: threads that wait for each other on a busy machine cost more than
they save.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from monitoring.core.measured import Measurement
from monitoring.stats.bootstrap import Resamples, Units

_CHUNK_CELLS = 2_000_000
_ROUNDING_SLACK = 1e-9
"""Rows; a share times a count may come out a rounding error away from the count that is meant."""


@dataclass(frozen=True)
class DeLong:
    """AUC of two models on the same rows; ``difference`` is b - a (DeLong, DeLong and Clarke-Pearson 1988)."""

    a: float
    b: float
    difference: float
    variance: float
    z: float | None
    p: float | None
    low: float | None
    high: float | None

    @property
    def measured(self) -> Measurement:
        """The difference with its bounds."""
        return Measurement(self.difference, self.low, self.high)


def descending_order(score: np.ndarray) -> np.ndarray:
    """Row positions by falling score; equal scores keep the table's order."""
    return np.argsort(-score, kind="stable")


def tie_ends(ordered: np.ndarray) -> np.ndarray:
    """Position of the last row of each run of equal values."""
    return np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)


@dataclass(frozen=True)
class Ranking:
    """Rows sorted by falling score, once for every figure that needs the order.

    The order within equal scores is left open: no figure of this module depends on it.

    Attributes:
        order: row positions, highest score first.
        score: the scores in that order.
        ends: position of the last row of each run of equal scores.
    """

    order: np.ndarray
    score: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, score: ArrayLike) -> Ranking:
        """Sort."""
        s = np.asarray(score, dtype=float)
        order = np.argsort(-s)
        ordered = s[order]
        return cls(order, ordered, tie_ends(ordered))


def average_precision(
    y: ArrayLike, score: ArrayLike, ranking: Ranking | None = None, weight: ArrayLike | None = None
) -> float | None:
    """AP = sum (R_n - R_{n-1}) P_n over distinct scores, not a trapezoid; ``None`` without positives.

    With ``weight`` a row counts for as many as it stands for.
    """
    truth = np.asarray(y, dtype=np.int64)
    if not len(truth) or not truth.sum():
        return None
    ranking = ranking or Ranking.of(score)
    if weight is None:
        hits, rows = np.cumsum(truth[ranking.order])[ranking.ends], ranking.ends + 1
    else:
        ordered_weight = np.asarray(weight, dtype=float)[ranking.order]
        hits = np.cumsum(truth[ranking.order] * ordered_weight)[ranking.ends]
        rows = np.cumsum(ordered_weight)[ranking.ends]
    new_hits = np.diff(hits, prepend=0)
    return float(new_hits @ (hits / rows) / hits[-1])


def precision_at_recall(y: ArrayLike, score: ArrayLike, floor: float, ranking: Ranking | None = None) -> float | None:
    """The best precision of any threshold that catches at least the share ``floor``; ``None`` without positives."""
    counts = _falling_counts(y, score, ranking)
    if counts is None or not counts[0][-1]:
        return None
    hits, alarms = counts
    reaches_floor = hits >= floor * hits[-1] - _ROUNDING_SLACK
    return float((hits / (hits + alarms))[reaches_floor].max())


def recall_at_false_positive_rate(
    y: ArrayLike, score: ArrayLike, limit: float, ranking: Ranking | None = None
) -> float | None:
    """The best recall of any threshold that flags at most the share ``limit`` of negatives.

    ``None`` unless both classes are there.
    """
    counts = _falling_counts(y, score, ranking)
    if counts is None or not counts[0][-1] or not counts[1][-1]:
        return None
    hits, alarms = counts
    within_limit = alarms <= limit * alarms[-1] + _ROUNDING_SLACK
    return float(hits[within_limit].max(initial=0) / hits[-1])


def _falling_counts(y: ArrayLike, score: ArrayLike, ranking: Ranking | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Positives and negatives at or above each distinct score, from the highest down; ``None`` without rows."""
    truth = np.asarray(y, dtype=np.int64)
    if not len(truth):
        return None
    ranking = ranking or Ranking.of(score)
    hits = np.cumsum(truth[ranking.order])[ranking.ends]
    return hits, ranking.ends + 1 - hits


def auc_roc(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float | None:
    """Area under the ROC curve by midranks; ``None`` unless both classes are there.

    With ``weight`` a pair counts for the product of what its rows stand for.
    """
    truth, s = np.asarray(y, dtype=bool), np.asarray(score, dtype=float)
    if weight is not None:
        return _weighted_auc(truth, Ranking.of(s), np.asarray(weight, dtype=float))
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    ranks = midranks(s)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _weighted_auc(truth: np.ndarray, ranking: Ranking, weight: np.ndarray) -> float | None:
    ordered_truth, ordered_weight = truth[ranking.order], weight[ranking.order]
    hits = np.diff(np.cumsum(ordered_truth * ordered_weight)[ranking.ends], prepend=0.0)
    misses = np.diff(np.cumsum(~ordered_truth * ordered_weight)[ranking.ends], prepend=0.0)
    pairs = float(hits.sum() * misses.sum())
    # Negatives below each score, ties half.
    below = misses.sum() - np.cumsum(misses) + misses / 2.0
    return float(hits @ below) / pairs if pairs else None


def ranked_auc(y: np.ndarray, ranking: Ranking) -> float | None:
    """Area under the ROC curve of rows that are sorted already."""
    truth = np.asarray(y, dtype=bool)
    if not truth.any() or truth.all():
        return None
    return float(_components(truth, ranking)[truth].mean())


def midranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value from 1, equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    ends = tie_ends(values[order])
    starts = np.append(0, ends[:-1] + 1)
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends) / 2.0 + 1.0, ends - starts + 1)
    return ranks


def delong(
    y: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    confidence: float = 0.95,
    rankings: tuple[Ranking, Ranking] | None = None,
) -> DeLong | None:
    """Compare the AUC of two scores on the same rows; ``None`` with fewer than two of a class.

    Structural components come from one sorting of each score (Sun and Xu 2014).
    """
    truth = np.asarray(y, dtype=bool)
    m, n = int(truth.sum()), int((~truth).sum())
    if m < 2 or n < 2:
        return None
    ranking_a, ranking_b = rankings or (Ranking.of(a), Ranking.of(b))
    component_a, component_b = _components(truth, ranking_a), _components(truth, ranking_b)
    auc_a, auc_b = float(component_a[truth].mean()), float(component_b[truth].mean())
    component_difference = component_b - component_a
    variance = float(np.var(component_difference[truth], ddof=1) / m + np.var(component_difference[~truth], ddof=1) / n)
    gap = auc_b - auc_a
    if variance <= 0.0:
        return DeLong(auc_a, auc_b, gap, 0.0, None, None, None, None)
    sd = math.sqrt(variance)
    half = float(special.ndtri(0.5 + confidence / 2)) * sd
    p = float(2.0 * special.ndtr(-abs(gap / sd)))
    return DeLong(auc_a, auc_b, gap, variance, gap / sd, p, gap - half, gap + half)


def _components(truth: np.ndarray, ranking: Ranking) -> np.ndarray:
    """Of each row: the share of the other class on its wrong side is one minus this, ties count half.

    A positive has the share of negatives below it, a negative the share of positives above it.
    """
    ordered_truth = truth[ranking.order]
    hits = np.cumsum(ordered_truth)[ranking.ends].astype(float)
    misses = (ranking.ends + 1) - hits
    # The middle of a run of equal scores: half of the run's own rows count.
    above = (hits + np.concatenate(([0.0], hits[:-1]))) / (2.0 * hits[-1])
    below = 1.0 - (misses + np.concatenate(([0.0], misses[:-1]))) / (2.0 * misses[-1])
    if len(ranking.ends) == len(ordered_truth):
        shares = np.where(ordered_truth, below, above)
    else:
        sizes = np.diff(ranking.ends, prepend=-1)
        shares = np.where(ordered_truth, np.repeat(below, sizes), np.repeat(above, sizes))
    components = np.empty(len(truth))
    components[ranking.order] = shares
    return components


@dataclass(frozen=True)
class RankTable:
    """Rows of each unit at each distinct score that holds a positive, highest score first.

    Attributes:
        group: row position (in score order) to the group of the next positive score at or below it.
        code: unit of each row, in score order.
        positive: whether a row is positive, in score order.
        tied: whether a row's score is that of its group.
        groups, units: counts.
        below: rows of each unit under the last positive, which are not listed; all are negative.
        weight: how many events each row stands for, in score order; none where each stands for itself.
    """

    group: np.ndarray
    code: np.ndarray
    positive: np.ndarray
    tied: np.ndarray
    groups: int
    units: int
    below: np.ndarray
    weight: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        y: np.ndarray,
        score: np.ndarray,
        units: Units,
        ranking: Ranking | None = None,
        weight: np.ndarray | None = None,
    ) -> RankTable:
        """Sort once and note where the positives are; rows below the last positive are left out."""
        ranking = ranking or Ranking.of(score)
        truth = np.asarray(y, dtype=bool)[ranking.order]
        hits = np.cumsum(truth)[ranking.ends]
        holds_positive = np.diff(hits, prepend=0) > 0
        run_count = int(np.flatnonzero(holds_positive)[-1]) + 1 if hits[-1] else 0
        rows = int(ranking.ends[run_count - 1]) + 1 if run_count else 0
        sizes = np.diff(ranking.ends[:run_count], prepend=-1)
        # A row counts from the first positive score at or below its own.
        group_of_run = np.cumsum(holds_positive) - holds_positive
        group, tied = np.repeat(group_of_run[:run_count], sizes), np.repeat(holds_positive[:run_count], sizes)
        code = units.codes[ranking.order]
        ordered_weight = None if weight is None else weight[ranking.order]
        rest_weight = None if ordered_weight is None else ordered_weight[rows:]
        below = np.bincount(code[rows:], weights=rest_weight, minlength=units.count).astype(float)
        listed_weight = None if ordered_weight is None else ordered_weight[:rows]
        return cls(group, code[:rows], truth[:rows], tied, int(holds_positive.sum()), units.count, below, listed_weight)

    def average_precision(self, resamples: Resamples) -> np.ndarray:
        """Average precision of each repetition.

        Counts are held in single precision, which is exact up to sixteen million rows.
        """
        weights = resamples.weights.astype(np.float32)
        total = np.zeros(weights.shape[1])
        hits_before, rows_before = np.zeros(self.units), np.zeros(self.units)
        last_hits = np.zeros((1, weights.shape[1]), dtype=np.float32)
        for positives, negatives, _ in self._chunks(weights.shape[1]):
            # Sums over rows come before the product with the repetitions: units are far fewer.
            hits = hits_before + np.cumsum(positives, axis=0)
            rows = rows_before + np.cumsum(positives + negatives, axis=0)
            precision, weighted_rows = hits.astype(np.float32) @ weights, rows.astype(np.float32) @ weights
            new_hits = np.diff(precision, axis=0, prepend=last_hits)
            last_hits = precision[-1:].copy()
            np.divide(precision, weighted_rows, out=precision, where=weighted_rows > 0.0)
            np.multiply(new_hits, precision, out=precision)
            total += precision.sum(axis=0, dtype=np.float64)
            hits_before, rows_before = hits[-1], rows[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(total / last_hits[0])

    def auc(self, resamples: Resamples) -> np.ndarray:
        """AUC of each repetition: concordant pairs by unit of the positive and unit of the negative."""
        negatives = self._totals(~self.positive) + self.below
        positives = self._totals(self.positive).astype(float)
        pairs = np.zeros((self.units, self.units))
        negatives_above = np.zeros(self.units)
        for hits, false, ties in self._chunks(self.units):
            at_or_above = negatives_above + np.cumsum(false, axis=0)
            below = negatives - at_or_above + 0.5 * ties
            # Few cells hold a positive: adding their rows is quicker than a product with all cells.
            unit, group = np.nonzero(hits.T)
            starts = np.flatnonzero(np.diff(unit, prepend=-1))
            pairs[unit[starts]] += np.add.reduceat(hits[group, unit][:, None] * below[group], starts, axis=0)
            negatives_above = at_or_above[-1]
        w = resamples.weights
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.einsum("ur,ur->r", w, pairs @ w) / ((positives @ w) * (negatives @ w)))

    def _totals(self, mask: np.ndarray) -> np.ndarray:
        """Rows of each unit among the chosen ones, or what they stand for."""
        weight = None if self.weight is None else self.weight[mask]
        return np.bincount(self.code[mask], weights=weight, minlength=self.units)

    def _chunks(self, width: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Positives, negatives and tied negatives of some groups x units at a time."""
        step = max(1, _CHUNK_CELLS // max(width, self.units))
        bounds = np.searchsorted(self.group, np.arange(0, self.groups + step, step).clip(max=self.groups))
        for index, start in enumerate(range(0, self.groups, step)):
            rows = slice(bounds[index], bounds[index + 1])
            size = min(step, self.groups - start)
            cell = (self.group[rows] - start) * self.units + self.code[rows]
            positive = self.positive[rows]
            chunk_weight = None if self.weight is None else self.weight[rows]
            yield tuple(
                np.bincount(
                    cell[mask], None if chunk_weight is None else chunk_weight[mask], minlength=size * self.units
                )
                .reshape(size, -1)
                .astype(float)
                for mask in (positive, ~positive, ~positive & self.tied[rows])
            )  # type: ignore[misc]  # a generator of three arrays is a triple
