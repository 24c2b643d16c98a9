"""Counting a window against a profile, chunk by chunk, so that memory does not grow with the window.

A window that lacks a weekday is compared with the same weekdays of the reference: a Saturday against a whole week is
drift every Saturday.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from monitoring.drift.reference_profile import FeatureProfile, ReferenceProfile, level_codes, weekdays_of
from monitoring.errors import ProfileMismatch

CHUNK = 1 << 16
"""Rows looked at together: a column of them stays in the processor's cache while it is sorted, and
nothing that is copied (float64 to float32, category codes) grows with the window."""


@dataclass
class FeatureCounts:
    """Running counts of one feature of a window.

    Attributes:
        below: rows at or below each grid point (numbers).
        levels: rows of each level, of any other, and missing (categories).
        rows: rows counted; ``missing`` of them have no value.
        low, high: smallest and largest number seen.
    """

    below: np.ndarray
    levels: np.ndarray
    rows: int = 0
    missing: int = 0
    low: float = np.inf
    high: float = -np.inf

    @classmethod
    def of(cls, feature: FeatureProfile) -> FeatureCounts:
        """Empty counts for a feature."""
        slots = len(feature.categories) + 2 if feature.kind == "categorical" else 0
        return cls(np.zeros(len(feature.grid), dtype=np.int64), np.zeros(slots, dtype=np.int64))

    def add(self, feature: FeatureProfile, values: pd.Series) -> None:
        """Count some rows."""
        self.rows += len(values)
        if feature.kind == "categorical":
            codes = level_codes(values, feature.categories, feature.coded)
            self.levels += np.bincount(codes, minlength=len(self.levels))
            self.missing = int(self.levels[-1])
            return
        self._add_numbers(feature.points, np.sort(values.to_numpy(dtype=np.float32, na_value=np.nan)))

    def _add_numbers(self, points: np.ndarray, ordered: np.ndarray) -> None:
        """Count one sorted chunk. Sorting first makes 1,001 look-ups cheap; NaN sorts last."""
        valid = int(np.searchsorted(ordered, np.float32(np.nan)))
        self.missing += len(ordered) - valid
        if valid:
            self.below += np.searchsorted(ordered[:valid], points, side="right")
            self.low = min(self.low, float(ordered[0]))
            self.high = max(self.high, float(ordered[valid - 1]))

    @property
    def constant(self) -> bool:
        """Whether every value seen is the same."""
        if len(self.levels):
            return int(np.count_nonzero(self.levels[:-1])) <= 1
        return self.low >= self.high


@dataclass
class WindowCounter:
    """Counts of all features of a window; add frames as they are read, in any order."""

    profile: ReferenceProfile
    features: dict[str, FeatureCounts] = field(default_factory=dict)
    score: FeatureCounts | None = None
    rows: int = 0
    weekdays: set[int] = field(default_factory=set)
    dated: bool = True

    def add(self, frame: pd.DataFrame, scores: np.ndarray | None = None, days: pd.Series | None = None) -> None:
        """Count some rows.

        Raises:
            ProfileMismatch: when a column of the profile is missing.
        """
        missing_columns = [name for name in self.profile.names if name not in frame.columns]
        if missing_columns:
            raise ProfileMismatch(
                f"the window lacks the feature columns {', '.join(missing_columns)} of the reference profile"
            )
        if days is None:
            self.dated = False
        for start in range(0, len(frame), CHUNK):
            rows = slice(start, start + CHUNK)
            self._add_part(
                frame.iloc[rows],
                None if scores is None else scores[rows],
                None if days is None else days.iloc[rows],
            )

    def _add_part(self, frame: pd.DataFrame, scores: np.ndarray | None, days: pd.Series | None) -> None:
        self.rows += len(frame)
        if days is not None and len(self.weekdays) < 7:
            self.weekdays |= set(np.unique(weekdays_of(days)).tolist())
        for feature in self.profile.features:
            counts = self.features.setdefault(feature.name, FeatureCounts.of(feature))
            counts.add(feature, frame[feature.name])
        if scores is not None and self.profile.score is not None:
            self.score = self.score or FeatureCounts.of(self.profile.score)
            self.score.add(self.profile.score, pd.Series(scores))

    @property
    def same_weekdays(self) -> tuple[int, ...]:
        """The weekdays to compare with, or none where the whole reference is the fair comparison."""
        return tuple(sorted(self.weekdays)) if self.dated and 0 < len(self.weekdays) < 7 else ()


@dataclass(frozen=True)
class Histograms:
    """Reference and window in the same bins (the last is missing) and at the same points."""

    reference: np.ndarray
    current: np.ndarray
    reference_below: np.ndarray
    current_below: np.ndarray
    reference_valid: int
    current_valid: int


def histograms(
    feature: FeatureProfile, counts: FeatureCounts, weekdays: tuple[int, ...] = (), min_rows: int = 1
) -> Histograms:
    """Put a feature's reference and its window side by side.

    With ``weekdays`` the reference is restricted to those, if it has at least ``min_rows`` such rows.
    """
    if feature.kind == "categorical":
        weekday_counts = _weekday_sum(feature, weekdays)
        reference = (
            weekday_counts
            if weekday_counts is not None and weekday_counts.sum() >= min_rows
            else np.asarray(feature.counts)
        )
        no_points = np.empty(0)
        return Histograms(*_pool_rare(reference, counts.levels), no_points, no_points, 0, 0)
    return _numeric_histograms(feature, counts, weekdays, min_rows)


def _numeric_histograms(
    feature: FeatureProfile, counts: FeatureCounts, weekdays: tuple[int, ...], min_rows: int
) -> Histograms:
    weekday_counts = _weekday_sum(feature, weekdays)
    edges, current_valid = np.asarray(feature.edges, dtype=int), counts.rows - counts.missing
    current = _bins(counts.below[edges], current_valid, counts.missing)
    if weekday_counts is None or weekday_counts[-2] + weekday_counts[-1] < min_rows:
        rows_below, valid_rows, missing = (
            np.asarray(feature.cumulative),
            feature.rows - feature.missing,
            feature.missing,
        )
        return Histograms(
            _bins(rows_below[edges], valid_rows, missing), current, rows_below, counts.below, valid_rows, current_valid
        )
    coarse = np.asarray(feature.coarse, dtype=int)
    rows_below, valid_rows, missing = weekday_counts[:-2], int(weekday_counts[-2]), int(weekday_counts[-1])
    reference = _bins(rows_below[np.searchsorted(coarse, edges)], valid_rows, missing)
    return Histograms(reference, current, rows_below, counts.below[coarse], valid_rows, current_valid)


def _weekday_sum(feature: FeatureProfile, weekdays: tuple[int, ...]) -> np.ndarray | None:
    if not weekdays or not feature.weekdays:
        return None
    return np.asarray(np.sum([feature.weekdays[day] for day in weekdays], axis=0))


def _bins(below_edges: np.ndarray, valid: int, missing: int) -> np.ndarray:
    """Rows in each bin from the rows at or below each edge; missing rows are the last bin."""
    return np.concatenate([np.diff(below_edges, prepend=0, append=valid), [missing]])


def _pool_rare(reference: np.ndarray, current: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put levels with fewer than five expected rows together; unseen and missing stay alone.

    The chi-square null needs some rows in each bin (Cochran's rule); fifty rare levels would
    otherwise look like drift in every small window. What is pooled depends on the reference and on
    the window's size only, never on what the window holds.
    """
    expected_share = reference[:-2] / max(1, int(reference.sum()))
    is_rare = expected_share * int(current.sum()) < 5.0
    if np.count_nonzero(is_rare) < 2:
        return reference, current

    def pooled(counts: np.ndarray) -> np.ndarray:
        levels = counts[:-2]
        return np.concatenate([levels[~is_rare], [levels[is_rare].sum()], counts[-2:]])

    return pooled(reference), pooled(current)
