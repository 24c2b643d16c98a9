"""What measures how far a score is a probability: log loss by row, bins of equal mass."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_SMALLEST_PROBABILITY = 1e-15


def log_losses(y: ArrayLike, score: ArrayLike) -> np.ndarray:
    """Log loss of each row, with scores kept off 0 and 1 by 1e-15."""
    truth, p = (
        np.asarray(y, dtype=bool),
        np.clip(np.asarray(score, dtype=float), _SMALLEST_PROBABILITY, 1.0 - _SMALLEST_PROBABILITY),
    )
    return np.asarray(-np.log(np.where(truth, p, 1.0 - p)))


def equal_mass_bins(score: ArrayLike, bins: int = 10, weight: ArrayLike | None = None) -> np.ndarray:
    """The bin of each row, equal numbers of rows in each; equal scores share a bin.

    Splitting a tie would sort its rows by chance, or worse, by label. With ``weight`` the rows of each bin stand for
    equal numbers of events.
    """
    p = np.asarray(score, dtype=float)
    if weight is not None:
        order = np.argsort(p, kind="stable")
        weight_before = np.concatenate(([0.0], np.cumsum(np.asarray(weight, dtype=float)[order])))
        rank = weight_before[np.searchsorted(p[order], p, side="left")]
        return np.asarray(np.minimum(rank * bins / max(weight_before[-1], 1.0), bins - 1), dtype=np.int64)
    rank = np.searchsorted(np.sort(p), p, side="left")
    return np.asarray(rank * bins // max(1, len(p)), dtype=np.int64)
