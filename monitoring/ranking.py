"""Figures of a ranking: AUC by midranks, average precision by its sum, DeLong, and their bootstrap.

The rows are sorted once. A repetition of the bootstrap needs, at each distinct score that holds a
positive, only how many rows of each unit lie at or above it (:class:`RankTable`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from monitoring.bootstrap import Resamples, Units

_CHUNK_CELLS = 2_000_000


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


def descending(score: np.ndarray) -> np.ndarray:
    """Row positions by falling score; equal scores keep the table's order."""
    return np.argsort(-score, kind="stable")


def tie_ends(ordered: np.ndarray) -> np.ndarray:
    """Position of the last row of each run of equal values."""
    return np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)


def average_precision(y: ArrayLike, score: ArrayLike) -> float | None:
    """AP = sum (R_n - R_{n-1}) P_n over distinct scores, not a trapezoid; ``None`` without positives."""
    truth, s = np.asarray(y, dtype=np.int64), np.asarray(score, dtype=float)
    if not len(truth) or not truth.sum():
        return None
    order = descending(s)
    ends = tie_ends(s[order])
    hits = np.cumsum(truth[order])[ends]
    gained = np.diff(hits, prepend=0)
    return float(gained @ (hits / (ends + 1)) / hits[-1])


def auc_roc(y: ArrayLike, score: ArrayLike) -> float | None:
    """Area under the ROC curve by midranks; ``None`` unless both classes are there."""
    truth, s = np.asarray(y, dtype=bool), np.asarray(score, dtype=float)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    ranks = midranks(s)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def midranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value from 1, equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    ends = tie_ends(values[order])
    starts = np.append(0, ends[:-1] + 1)
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends) / 2.0 + 1.0, ends - starts + 1)
    return ranks


def delong(y: ArrayLike, a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> DeLong | None:
    """Compare the AUC of two scores on the same rows; ``None`` with fewer than two of a class.

    Structural components come from midranks (Sun and Xu 2014), so time is that of sorting.
    """
    truth = np.asarray(y, dtype=bool)
    m, n = int(truth.sum()), int((~truth).sum())
    if m < 2 or n < 2:
        return None
    auc_a, v10_a, v01_a = _components(truth, np.asarray(a, dtype=float))
    auc_b, v10_b, v01_b = _components(truth, np.asarray(b, dtype=float))
    variance = float(np.var(v10_b - v10_a, ddof=1) / m + np.var(v01_b - v01_a, ddof=1) / n)
    gap = auc_b - auc_a
    if variance <= 0.0:
        return DeLong(auc_a, auc_b, gap, 0.0, None, None, None, None)
    sd = math.sqrt(variance)
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * sd
    p = float(2.0 * stats.norm.sf(abs(gap / sd)))
    return DeLong(auc_a, auc_b, gap, variance, gap / sd, p, gap - half, gap + half)


def _components(truth: np.ndarray, score: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """AUC and each positive's and negative's share in it."""
    m, n = int(truth.sum()), int((~truth).sum())
    everywhere = midranks(score)
    v10 = (everywhere[truth] - midranks(score[truth])) / n
    v01 = 1.0 - (everywhere[~truth] - midranks(score[~truth])) / m
    return float(v10.mean()), v10, v01


@dataclass(frozen=True)
class RankTable:
    """Rows of each unit at each distinct score that holds a positive, highest score first.

    Attributes:
        group: row position (in score order) to the group of the next positive score at or below it;
            rows below the last positive have the number of groups.
        code: unit of each row, in score order.
        positive: whether a row is positive, in score order.
        tied: whether a row's score is that of its group.
        groups, units: counts.
    """

    group: np.ndarray
    code: np.ndarray
    positive: np.ndarray
    tied: np.ndarray
    groups: int
    units: int

    @classmethod
    def of(cls, y: np.ndarray, score: np.ndarray, units: Units) -> RankTable:
        """Sort once and note where the positives are."""
        order = descending(score)
        s, truth = score[order], np.asarray(y, dtype=bool)[order]
        ends = tie_ends(s)
        run = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
        holds = np.zeros(len(ends), dtype=bool)
        holds[run[truth]] = True
        # A row counts from the first positive score at or below its own.
        group_of_run = np.cumsum(holds) - holds
        return cls(group_of_run[run], units.codes[order], truth, holds[run], int(holds.sum()), units.count)

    def average_precision(self, resamples: Resamples) -> np.ndarray:
        """Average precision of each repetition."""
        total = np.zeros(resamples.weights.shape[1])
        above = np.zeros_like(total)
        below_hits = np.zeros_like(total)
        for positives, negatives, _ in self._chunks(resamples.weights.shape[1]):
            gained = positives @ resamples.weights
            hits = below_hits + np.cumsum(gained, axis=0)
            false = above + np.cumsum(negatives @ resamples.weights, axis=0)
            with np.errstate(invalid="ignore", divide="ignore"):
                total += np.nansum(gained * (hits / (hits + false)), axis=0)
            below_hits, above = hits[-1], false[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(total / below_hits)

    def auc(self, resamples: Resamples) -> np.ndarray:
        """AUC of each repetition: concordant pairs by unit of the positive and unit of the negative."""
        negatives = np.bincount(self.code[~self.positive], minlength=self.units).astype(float)
        positives = np.bincount(self.code[self.positive], minlength=self.units).astype(float)
        pairs = np.zeros((self.units, self.units))
        passed = np.zeros(self.units)
        for hits, false, ties in self._chunks(self.units):
            at_or_above = passed + np.cumsum(false, axis=0)
            pairs += hits.T @ (negatives - at_or_above + 0.5 * ties)
            passed = at_or_above[-1]
        w = resamples.weights
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.einsum("ur,ur->r", w, pairs @ w) / ((positives @ w) * (negatives @ w)))

    def _chunks(self, width: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Positives, negatives and tied negatives of some groups x units at a time."""
        step = max(1, _CHUNK_CELLS // max(width, self.units))
        bounds = np.searchsorted(self.group, np.arange(0, self.groups + step, step).clip(max=self.groups))
        for index, start in enumerate(range(0, self.groups, step)):
            rows = slice(bounds[index], bounds[index + 1])
            size = min(step, self.groups - start)
            cell = (self.group[rows] - start) * self.units + self.code[rows]
            positive = self.positive[rows]
            yield tuple(
                np.bincount(cell[chosen], minlength=size * self.units).reshape(size, -1).astype(float)
                for chosen in (positive, ~positive, ~positive & self.tied[rows])
            )  # type: ignore[misc]  # a generator of three arrays is a triple
