"""Seeded bootstrap by resampling units (days, or random groups of rows) once for every figure.

A figure that is a function of totals per unit never looks at a row again: each repetition is a
product of the totals with the number of times that each unit was drawn.

From 20 days on days are resampled, below them at most 500 seeded groups of rows: the interval of resampling rows, at
the price of one matrix product a repetition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from monitoring.core.measured import Measurement, finite

MIN_DAYS = 20
"""Days from which days are resampled; below, rows are."""
ROW_GROUPS = 500
"""Random groups of rows that stand for the rows themselves."""


@dataclass(frozen=True)
class Units:
    """The unit of each row: ``codes`` in 0..count-1; ``days`` says whether a unit is a day."""

    codes: np.ndarray
    count: int
    days: bool

    def totals(self, values: ArrayLike) -> np.ndarray:
        """Sum of a row figure in each unit."""
        return np.bincount(self.codes, weights=np.asarray(values, dtype=float), minlength=self.count)


@dataclass(frozen=True)
class Bootstrap:
    """How figures are resampled."""

    repetitions: int = 200
    seed: int = 7
    confidence: float = 0.95

    def draw(self, units: int) -> Resamples:
        """Draw that many units with replacement, in each repetition."""
        return Resamples.draw(units, self.repetitions, self.seed, self.confidence)


DEFAULT_BOOTSTRAP: Final = Bootstrap()


@dataclass(frozen=True)
class Resamples:
    """How often each unit was drawn in each repetition: ``weights`` is units x repetitions."""

    weights: np.ndarray
    confidence: float = 0.95

    @classmethod
    def draw(cls, units: int, repetitions: int, seed: int, confidence: float = 0.95) -> Resamples:
        """Draw ``units`` units with replacement, ``repetitions`` times."""
        unit_draws = np.random.default_rng(seed).integers(0, units, (repetitions, units))
        flat_draws = (unit_draws + np.arange(repetitions)[:, None] * units).ravel()
        counts = np.bincount(flat_draws, minlength=repetitions * units).reshape(repetitions, units)
        return cls(np.ascontiguousarray(counts.T, dtype=float), confidence)

    def sums(self, totals: np.ndarray) -> np.ndarray:
        """The resampled sum of per-unit totals, one per repetition."""
        return np.asarray(totals @ self.weights)

    def interval(self, value: float | None, samples: np.ndarray) -> Measurement:
        """The value with its percentile interval.

        The interval is widened to hold the value where a figure is biased under resampling (a
        calibration error is). More than a twentieth of undefined repetitions gives no interval.
        """
        finite_samples = samples[np.isfinite(samples)]
        point = finite(value)
        if point is None or len(finite_samples) < 0.95 * len(samples) or not len(finite_samples):
            return Measurement(point)
        tail = (1.0 - self.confidence) / 2.0
        low, high = np.quantile(finite_samples, [tail, 1.0 - tail])
        return Measurement(point, min(float(low), point), max(float(high), point))


def resampling_units(order: np.ndarray, days: ArrayLike | None, seed: int, groups: int = ROW_GROUPS) -> Units:
    """Days where there are at least 20 of them, else seeded random groups of rows.

    Args:
        order: positions of the rows in an order that does not depend on how the table was sorted;
            the groups are drawn along it.
        days: day of each row, or none.
        seed: of the random groups.
        groups: most groups; with fewer rows each row is its own unit.
    """
    if days is not None:
        distinct, codes = np.unique(np.asarray(days), return_inverse=True)
        if len(distinct) >= MIN_DAYS:
            return Units(codes.astype(np.int64), len(distinct), True)
    n = len(order)
    count = max(1, min(n, groups))
    codes = np.empty(n, dtype=np.int64)
    codes[order] = np.random.default_rng(seed).permutation(np.arange(n) % count)
    return Units(codes, count, False)


def mean_bootstrap(
    values: ArrayLike, repetitions: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Measurement:
    """The mean of daily values with the interval of resampled days."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return Measurement(float(x.mean()) if len(x) else None)
    resamples = Resamples.draw(len(x), repetitions, seed, confidence)
    return resamples.interval(float(x.mean()), resamples.sums(x) / len(x))
