"""Feature skew: how far the features that were served differ from the same features computed again.

It is not read in parts as the rest of a check is: the value at an event needs all earlier events of its entity in the
longest window, and a row has windows of several entities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from monitoring.core.measured import StoredResult

MAX_FEATURES = 20


@dataclass(frozen=True)
class FeatureSkew:
    """One feature: rows that differ in any bit, their share, and the largest difference."""

    name: str
    different: int
    share: float
    largest: float | None


@dataclass(frozen=True)
class SkewReport(StoredResult):
    """All features of one window.

    Attributes:
        rows: rows that are in both tables.
        different_rows: rows with at least one feature that differs.
        share: their share; ``None`` without rows.
        features: features that differ somewhere, most rows first, at most 20.
        missing_logged: rows that were computed again but not found among the served ones.
        missing_recomputed: the other way round.
    """

    rows: int
    different_rows: int
    share: float | None
    features: tuple[FeatureSkew, ...]
    missing_logged: int = 0
    missing_recomputed: int = 0


def feature_skew(logged: pd.DataFrame, recomputed: pd.DataFrame) -> SkewReport:
    """Compare served features with recomputed ones, bit by bit as float32 (NaN equals NaN).

    Args:
        logged: one row per event, one float32 column per feature, indexed by event id.
        recomputed: the same, from the raw events. Columns that only one side has are left out; rows
            that only one side has are counted.

    Raises:
        ValueError: when an event id repeats, or no feature is in both.
    """
    if not logged.index.is_unique or not recomputed.index.is_unique:
        raise ValueError("feature skew needs one row per event id; remove repeated ids first")
    names = [name for name in logged.columns if name in recomputed.columns]
    if not names:
        raise ValueError("no feature is in both tables, so there is nothing to compare")
    common_ids = logged.index.intersection(recomputed.index, sort=False)
    a, b = (_values(table, common_ids, names) for table in (logged, recomputed))
    differs = a.view(np.uint32) != b.view(np.uint32)
    differs &= ~((np.isnan(a) & np.isnan(b)) | (a == b))  # another NaN, and minus zero, are the same value
    per_feature = differs.sum(axis=0)
    order = np.argsort(-per_feature, kind="stable")
    features = tuple(
        _measure_skew(names[i], differs[:, i], a[:, i], b[:, i]) for i in order[:MAX_FEATURES] if per_feature[i]
    )
    rows, different_rows = len(common_ids), int(differs.any(axis=1).sum())
    return SkewReport(
        rows,
        different_rows,
        different_rows / rows if rows else None,
        features,
        len(recomputed) - rows,
        len(logged) - rows,
    )


def _values(table: pd.DataFrame, rows: pd.Index, names: list[str]) -> np.ndarray:
    return np.ascontiguousarray(table.loc[rows, names].to_numpy(dtype=np.float32))


def _measure_skew(name: str, differs: np.ndarray, a: np.ndarray, b: np.ndarray) -> FeatureSkew:
    gaps = np.abs(a[differs].astype(float) - b[differs].astype(float))
    finite_gaps = gaps[np.isfinite(gaps)]
    largest = float(finite_gaps.max()) if len(finite_gaps) else None
    return FeatureSkew(name, int(differs.sum()), float(differs.mean()), largest)
