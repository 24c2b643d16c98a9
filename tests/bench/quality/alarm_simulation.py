"""Years of drift checks at once: how often a rule alarms when nothing has changed, and how soon it notices.

A feature of a simulated day is its counts in a thousand cells of the reference, so a day of ten thousand
rows is one multinomial draw. The rules are those of :mod:`monitoring.drift.feature_drift` and of the tools beside it,
computed for days x features at a time; a test holds ours against the real comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from scipy import special, stats

from monitoring.policies import DriftPolicy

CELLS: Final = 1000
COARSE: Final = 100
"""Points of the distribution that a profile stores for each weekday."""
RULES: Final = ("bare", "evidently", "evidently_dataset", "ours")
BARE: Final = 0.1
WASSERSTEIN: Final = 0.1
"""Evidently's limit of the normed Wasserstein distance, its default for more than 1,000 reference rows."""
DATASET_SHARE: Final = 0.5
"""Evidently's limit of the share of drifted columns."""


@dataclass(frozen=True)
class DailyRows:
    """Features of a simulated use case, a score beside them; all are standard normal and independent.

    Attributes:
        rows: rows of each day.
        features: features that may raise drift.
        reference_rows: rows of the frozen reference, spread evenly over the weekdays.
        shift: standard deviations by which the first feature has moved.
        policy: of our rule.
    """

    rows: int
    features: int = 20
    reference_rows: int = 100_000
    shift: float = 0.0
    policy: DriftPolicy = field(default_factory=DriftPolicy)

    def simulate(self, days: int, seed: int) -> Mapping[str, np.ndarray]:
        """Draw a reference and some days after it.

        Returns:
            For each of :data:`RULES` an array days x (features + 1) of what it says of each feature (the last
            is the score, which only our rule looks at): whether it alarms that day. For
            ``evidently_dataset`` it is the same for all features.
        """
        rng = np.random.default_rng(seed)
        columns = self.features + 1
        # The reference has as many rows in each cell; what a cell truly holds is known up to its own sampling.
        true = rng.gamma(self.reference_rows / CELLS, size=(columns, CELLS))
        true /= true.sum(axis=1, keepdims=True)
        moved = true.copy()
        moved[0] = np.diff(special.ndtr(special.ndtri(np.cumsum(true[0])) - self.shift), prepend=0.0)
        moved[0, -1] = max(0.0, 1.0 - moved[0, :-1].sum())
        counts = rng.multinomial(self.rows, moved, size=(days, columns))
        # A profile keeps each weekday of its reference apart: a day is compared with a seventh of the rows.
        weekdays = rng.multinomial(self.reference_rows // 7, true, size=(7, columns))
        reference = weekdays[np.arange(days) % 7]
        flagged = self._wasserstein(counts) >= WASSERSTEIN
        flagged[:, -1] = False
        share = flagged[:, :-1].mean(axis=1, keepdims=True) >= DATASET_SHARE
        bare = _psi(np.full((1, 1, CELLS), self.reference_rows // CELLS), counts, self.policy.bins)[0] > BARE
        bare[:, -1] = False
        return {
            "bare": bare,
            "evidently": flagged,
            "evidently_dataset": np.broadcast_to(share, flagged.shape),
            "ours": self.lasting(self.banded(reference, counts)),
        }

    def banded(self, reference: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Which features of each day have a band, by our rule: effect and chance, for that day alone.

        ``reference`` and ``counts`` are days x (features + 1) x cells.
        """
        policy = self.policy
        psi, scale = _psi(reference, counts, policy.bins)
        free = policy.bins - 1
        large = psi - free * scale >= policy.psi_warning
        real = _adjusted(stats.chi2.sf(psi / scale, free)) < policy.alpha
        n, m = reference.sum(axis=-1), counts.sum(axis=-1)
        step = counts.shape[-1] // COARSE
        gaps = np.cumsum(_pooled(reference, step), axis=-1) / n[..., None] - (
            np.cumsum(_pooled(counts, step), axis=-1) / m[..., None]
        )
        distance = np.abs(gaps).max(axis=-1)
        far = distance >= policy.ks_warning
        unlikely = _adjusted(special.kolmogorov(distance * np.sqrt(n * m / (n + m)))) < policy.alpha
        return np.asarray((large & real) | (far & unlikely))

    def lasting(self, banded: np.ndarray) -> np.ndarray:
        """Which features alarm on each day: banded in enough of the latest windows, this day's included."""
        before = np.zeros((self.policy.windows - 1, banded.shape[1]), dtype=int)
        padded = np.cumsum(np.concatenate([before, banded.astype(int)]), axis=0)
        lagged = np.concatenate([np.zeros((1, banded.shape[1]), dtype=int), padded])[: len(banded)]
        return np.asarray(padded[self.policy.windows - 1 :] - lagged >= self.policy.windows_needed)

    def _wasserstein(self, counts: np.ndarray) -> np.ndarray:
        """Distance to the whole reference in its standard deviations: the area between the distributions."""
        below = np.cumsum(counts, axis=-1)[..., :-1] / self.rows
        gaps = np.abs(below - np.arange(1, CELLS) / CELLS)
        return np.asarray(gaps @ self._widths)

    @cached_property
    def _widths(self) -> np.ndarray:
        """How much of the axis each inner cell edge stands for: half of the cell on either side of it."""
        middle = special.ndtri((np.arange(CELLS) + 0.5) / CELLS)
        return np.asarray(np.diff(middle))


def days_until(alarms: np.ndarray) -> int | None:
    """The day, counted from one, on which a series of days first alarms; none if never."""
    return int(np.argmax(alarms)) + 1 if alarms.any() else None


def _pooled(counts: np.ndarray, step: int) -> np.ndarray:
    return np.asarray(counts.reshape(*counts.shape[:-1], -1, step).sum(axis=-1))


def _psi(reference: np.ndarray, counts: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """PSI over the quantile bins, smoothed as :func:`monitoring.stats.distances.psi_test` does, and 1/N + 1/M."""
    step = counts.shape[-1] // bins
    r, c = _pooled(reference, step).astype(float), _pooled(counts, step).astype(float)
    n, m = r.sum(axis=-1, keepdims=True), c.sum(axis=-1, keepdims=True)
    e, a = (r + 0.5) / (n + 0.5 * bins), (c + 0.5) / (m + 0.5 * bins)
    return np.asarray(((a - e) * np.log(a / e)).sum(axis=-1)), (1.0 / n + 1.0 / m)[..., 0]


def _adjusted(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg over the features of each day; the score, in the last column, stands alone."""
    found = np.array(p, dtype=float)
    features = found[:, :-1]
    order = np.argsort(features, axis=1)
    raised = np.take_along_axis(features, order, axis=1) * features.shape[1] / np.arange(1, features.shape[1] + 1)
    lowest = np.minimum.accumulate(raised[:, ::-1], axis=1)[:, ::-1]
    np.put_along_axis(features, order, np.minimum(lowest, 1.0), axis=1)
    return found
