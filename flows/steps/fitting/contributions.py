"""What the model leans on: the mean absolute contribution of each feature to its score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from bentos.model.booster import Booster, Matrix

EXPLAINED_ROWS: Final = 1000
"""Rows that are explained: TreeSHAP takes about a millisecond for each."""


def mean_contributions(
    booster: Booster, features: Matrix, seed: int = 7, rows: int = EXPLAINED_ROWS
) -> tuple[float, ...]:
    """Mean absolute TreeSHAP contribution of each feature (log odds), over a seeded sample; empty without rows.

    Args:
        booster: of the model.
        features: float32 rows, in plan order.
        seed, rows: of the sample.
    """
    if not len(features):
        return ()
    sample = np.ascontiguousarray(features, dtype=np.float32)
    if len(sample) > rows:
        sample = sample[np.sort(np.random.default_rng(seed).choice(len(sample), rows, replace=False))]
    contributions = np.abs(booster.quick_contributions(sample[:8])(sample)[:, :-1].astype(float))
    return tuple(round(float(v), 9) for v in contributions.mean(axis=0))
