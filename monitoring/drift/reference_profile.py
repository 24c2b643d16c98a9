"""The frozen reference profile: what the features and scores of a model looked like when it was made.

It is stored with the model version and never recomputed from a window under test. Numbers are kept
as float32, the type of every feature; a distribution is kept as the number of rows at or below each
point of a small grid, from which both the quantile bins of the PSI and the Kolmogorov-Smirnov
distance are read.

Features are those of the newest matured days (at least seven), not of the whole training window, which may mix two
worlds; scores come from the calibration fold alone, because scores on fitted rows are too sure. Importance (mean
absolute TreeSHAP) is frozen with it: measured on a window it would move with the drift that it weighs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
import pandas as pd

from monitoring.core.measured import StoredResult
from monitoring.policies import DriftPolicy

Kind = Literal["numeric", "categorical", "calendar"]
QUANTILES = 1000
"""Steps of the stored distribution: at most 1,001 points, plus the left limit of tied values."""
WEEKDAY_QUANTILES = 100
"""Steps of the distribution that is stored for each weekday."""
MAX_CATEGORIES = 1000
"""Most levels that are stored; rarer ones count as unseen, in the reference too."""
_LARGEST = np.finfo(np.float32).max


@dataclass(frozen=True)
class FeatureProfile:
    """One feature of the reference (also used for the score).

    Attributes:
        name: the feature's name.
        kind: ``calendar`` features are numbers that raise no drift by themselves.
        rows: rows of the reference, missing ones included.
        missing: rows without a value.
        grid: numbers, ascending; empty for categories.
        cumulative: rows at or below each grid point.
        edges: positions in ``grid`` of the upper edges of the quantile bins; the last bin is open.
        coarse: positions in ``grid`` that are kept for each weekday (they include ``edges``).
        categories: levels, most frequent first; empty for numbers.
        coded: whether the levels are the text of numbers (category codes).
        counts: rows of each level, then rows of any other level, then missing rows.
        weekdays: seven lists, Monday first, or none. Numbers: rows at or below each coarse point,
            then rows with a value, then missing rows. Categories: as ``counts``.
    """

    name: str
    kind: Kind
    rows: int
    missing: int
    grid: tuple[float, ...] = ()
    cumulative: tuple[int, ...] = ()
    edges: tuple[int, ...] = ()
    coarse: tuple[int, ...] = ()
    categories: tuple[str, ...] = ()
    coded: bool = False
    counts: tuple[int, ...] = ()
    weekdays: tuple[tuple[int, ...], ...] = ()

    @property
    def constant(self) -> bool:
        """Whether the reference holds one value only."""
        if self.kind == "categorical":
            return sum(1 for count in self.counts[:-1] if count) <= 1
        # One value gives two grid points: the number just below it, and itself.
        return not self.grid or (len(self.grid) == 2 and self.cumulative[0] == 0)

    @property
    def raises(self) -> bool:
        """Whether this feature may raise drift by itself."""
        return self.kind != "calendar"

    @cached_property
    def points(self) -> np.ndarray:
        """The grid as float32."""
        return np.asarray(self.grid, dtype=np.float32)


@dataclass(frozen=True)
class ReferenceProfile(StoredResult):
    """All features of the reference and the score, with a stable digest.

    Attributes:
        features: one profile per feature, in the order of the fitted frame.
        score: the calibrated score's profile, or none.
        rows: rows of the reference.
        prevalence: share of positives among its labelled rows, or none.
        importance: mean absolute contribution of each feature to the score on reference rows (log odds),
            in the order of ``features``; empty where it was not measured.
    """

    features: tuple[FeatureProfile, ...]
    score: FeatureProfile | None
    rows: int
    prevalence: float | None = None
    importance: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        features: pd.DataFrame,
        scores: np.ndarray | None,
        policy: DriftPolicy,
        *,
        calendar_features: Collection[str] = (),
        categorical_features: Collection[str] = (),
        days: pd.Series | None = None,
        score_days: pd.Series | None = None,
        labels: np.ndarray | None = None,
        importance: Sequence[float] = (),
    ) -> Self:
        """Freeze a reference.

        Args:
            features: one column per feature (float32 numbers, or text for categories), one row per event.
            scores: calibrated scores, or none; of the same rows, or of other rows with ``score_days``.
            policy: holds the number of bins.
            calendar_features: names that describe the calendar and raise no drift by themselves.
            categorical_features: names of number columns that are category codes. Text columns are
                categorical in any case.
            days: business day of each row (``BusinessCalendar.days_of``); with it, windows shorter
                than a week are later compared with the same weekdays.
            score_days: business day of each score, where the scores are of other rows.
            labels: 0/1 of each row (NaN unknown), for the prior-shift test.
            importance: of each feature, in the order of the columns; what drifts is ranked with it.

        Raises:
            ValueError: when the reference has no row, or days and rows differ in number, or importance
                and columns.
        """
        if len(importance) not in (0, features.shape[1]):
            raise ValueError(f"{features.shape[1]} features have {len(importance)} importances")
        if not len(features):
            raise ValueError("a reference profile needs at least one row")
        if days is not None and len(days) != len(features):
            raise ValueError(f"{len(features)} reference rows have {len(days)} days")
        weekday = None if days is None else weekdays_of(days)
        profiles = tuple(
            fit_feature(
                str(name),
                features[name],
                _kind(str(name), features[name], calendar_features, categorical_features),
                policy.bins,
                weekday,
            )
            for name in features.columns
        )
        score = None if scores is None else _fit_scores(scores, policy.bins, days if score_days is None else score_days)
        return cls(profiles, score, len(features), _prevalence(labels), tuple(float(v) for v in importance))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def importance_shares(self) -> dict[str, float]:
        """Importance by name, adding up to one; empty where it is unknown or zero."""
        total = sum(self.importance)
        return dict(zip(self.names, (v / total for v in self.importance), strict=True)) if total > 0.0 else {}


def weekdays_of(days: pd.Series) -> np.ndarray:
    """Weekday of each business day, Monday is 0."""
    return np.asarray(days.dt.dayofweek.to_numpy(), dtype=np.int64)


def fit_feature(name: str, values: pd.Series, kind: Kind, bins: int, weekday: np.ndarray | None) -> FeatureProfile:
    """Freeze one feature."""
    if kind == "categorical":
        return _fit_categories(name, values, weekday)
    return _fit_numeric(name, values.to_numpy(dtype=np.float32, na_value=np.nan), kind, bins, weekday)


def _fit_scores(scores: np.ndarray, bins: int, days: pd.Series | None) -> FeatureProfile:
    if days is not None and len(days) != len(scores):
        raise ValueError(f"{len(scores)} scores have {len(days)} days; pass score_days for scores of other rows")
    return fit_feature("score", pd.Series(scores), "numeric", bins, None if days is None else weekdays_of(days))


def level_codes(values: pd.Series, categories: tuple[str, ...], coded: bool) -> np.ndarray:
    """Position of each value among the levels; then one code for any other, one for missing."""
    level_count = len(categories)
    index = pd.Index([float(c) for c in categories]) if coded else pd.Index(categories, dtype=object)
    column = values.to_numpy(dtype=float, na_value=np.nan) if coded else values.astype(object).to_numpy()
    codes = index.get_indexer(pd.Index(column))
    codes = np.where(codes < 0, level_count, codes)
    return np.asarray(np.where(pd.isna(column), level_count + 1, codes), dtype=np.int64)


def _kind(name: str, values: pd.Series, calendar: Collection[str], categorical: Collection[str]) -> Kind:
    if name in categorical or not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)):
        return "categorical"
    return "calendar" if name in calendar else "numeric"


def _fit_categories(name: str, values: pd.Series, weekday: np.ndarray | None) -> FeatureProfile:
    coded = bool(pd.api.types.is_numeric_dtype(values))
    level_counts = values.dropna().value_counts()
    # Equal counts are ordered by name, so that the digest does not depend on the order of rows.
    frequent_levels = sorted(level_counts.items(), key=lambda item: (-int(item[1]), str(item[0])))[:MAX_CATEGORIES]
    levels = tuple(repr(float(str(k))) if coded else str(k) for k, _ in frequent_levels)
    codes, slots = level_codes(values, levels, coded), len(levels) + 2
    counts = np.bincount(codes, minlength=slots)
    by_day = (
        () if weekday is None else _as_tuples(np.bincount(weekday * slots + codes, minlength=7 * slots).reshape(7, -1))
    )
    return FeatureProfile(
        name, "categorical", len(values), int(counts[-1]), categories=levels, coded=coded,
        counts=tuple(counts.tolist()), weekdays=by_day,
    )  # fmt: skip


def _fit_numeric(name: str, values: np.ndarray, kind: Kind, bins: int, weekday: np.ndarray | None) -> FeatureProfile:
    ordered = np.sort(values)
    valid = int(np.searchsorted(ordered, np.float32(np.nan)))
    ordered, missing = np.clip(ordered[:valid], -_LARGEST, _LARGEST), len(values) - valid
    if not valid:
        return FeatureProfile(name, kind, len(values), missing, weekdays=_weekday_numbers(values, np.empty(0), weekday))
    edges = _bin_edges(ordered, bins)
    grid = _grid(ordered, edges)
    cumulative = np.searchsorted(ordered, grid, side="right")
    edge_positions = np.searchsorted(grid, edges)
    coarse_positions = np.unique(
        np.concatenate([edge_positions, np.searchsorted(grid, _quantiles(ordered, WEEKDAY_QUANTILES))])
    )
    return FeatureProfile(
        name, kind, len(values), missing,
        grid=tuple(grid.astype(float).tolist()),
        cumulative=tuple(cumulative.tolist()),
        edges=tuple(edge_positions.tolist()),
        coarse=tuple(coarse_positions.tolist()),
        weekdays=_weekday_numbers(values, grid[coarse_positions], weekday),
    )  # fmt: skip


def _quantiles(ordered: np.ndarray, steps: int) -> np.ndarray:
    """Distinct values at the shares 0, 1/steps, ..., 1 (inverse of the empirical distribution)."""
    n = len(ordered)
    positions = np.maximum((np.arange(steps + 1) * n + steps - 1) // steps - 1, 0)
    return np.unique(ordered[positions])


def _bin_edges(ordered: np.ndarray, bins: int) -> np.ndarray:
    """Inner edges of the quantile bins, each closed above; equal edges are merged.

    An edge at the largest value would make an empty bin, so it is dropped. A constant gets a bin of
    its own between two open ones, because otherwise no movement of it could be seen.
    """
    positions = (np.arange(1, bins) * len(ordered) + bins - 1) // bins - 1
    edges = np.unique(ordered[positions])
    edges = edges[edges < ordered[-1]]
    if not len(edges) and ordered[0] == ordered[-1]:
        return np.array([_next_smaller(ordered[:1])[0], ordered[0]], dtype=np.float32)
    return edges if len(edges) else np.unique(_next_smaller(ordered[-1:]))


def _grid(ordered: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Quantile points and, where many values are tied, the number just below the tie."""
    points = _quantiles(ordered, QUANTILES)
    left_positions = np.searchsorted(ordered, points, side="left")
    is_tied = np.searchsorted(ordered, points, side="right") - left_positions > len(ordered) / QUANTILES
    return np.unique(np.concatenate([points, _next_smaller(points[is_tied]), edges])).astype(np.float32)


def _next_smaller(values: np.ndarray) -> np.ndarray:
    """The next smaller float32."""
    return np.maximum(np.nextafter(values.astype(np.float32), np.float32(-np.inf)), -_LARGEST)


def _weekday_numbers(values: np.ndarray, points: np.ndarray, weekday: np.ndarray | None) -> tuple[tuple[int, ...], ...]:
    """Rows at or below each point, rows with a value and missing rows, for each weekday."""
    if weekday is None:
        return ()
    table = []
    for day in range(7):
        ordered = np.sort(values[weekday == day])
        valid = int(np.searchsorted(ordered, np.float32(np.nan)))
        below = np.searchsorted(ordered[:valid], points, side="right")
        table.append((*below.tolist(), valid, len(ordered) - valid))
    return tuple(table)


def _as_tuples(table: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())


def _prevalence(labels: np.ndarray | None) -> float | None:
    if labels is None:
        return None
    known_labels = np.asarray(labels, dtype=float)
    known_labels = known_labels[~np.isnan(known_labels)]
    return float(known_labels.mean()) if len(known_labels) else None
