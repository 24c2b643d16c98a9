"""How far a score is a probability: Brier, log loss, observed over expected, calibration error."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_SMALLEST_PROBABILITY = 1e-15


def brier(y: ArrayLike, score: ArrayLike) -> float | None:
    """Mean squared difference of label and score; ``None`` without rows."""
    truth, p = np.asarray(y, dtype=float), np.asarray(score, dtype=float)
    return float(np.mean((p - truth) ** 2)) if len(p) else None


def log_losses(y: ArrayLike, score: ArrayLike) -> np.ndarray:
    """Log loss of each row, with scores kept off 0 and 1 by 1e-15."""
    truth, p = (
        np.asarray(y, dtype=bool),
        np.clip(np.asarray(score, dtype=float), _SMALLEST_PROBABILITY, 1.0 - _SMALLEST_PROBABILITY),
    )
    return np.asarray(-np.log(np.where(truth, p, 1.0 - p)))


def log_loss(y: ArrayLike, score: ArrayLike) -> float | None:
    """Mean log loss; ``None`` without rows."""
    losses = log_losses(y, score)
    return float(losses.mean()) if len(losses) else None


def observed_over_expected(y: ArrayLike, score: ArrayLike) -> float | None:
    """Positives over the sum of scores, 1 when right on average; ``None`` when nothing is expected.

    The published formula with its worked example; reports show it with an interval as ``calibration_ratio``
    (:func:`monitoring.performance.measure.measure`).
    """
    expected = float(np.sum(np.asarray(score, dtype=float)))
    return float(np.sum(np.asarray(y, dtype=float))) / expected if expected > 0.0 else None


def spiegelhalter_z(y: ArrayLike, score: ArrayLike) -> tuple[float, float] | None:
    """Spiegelhalter's z of calibration and its two-sided p; ``None`` when it is not defined.

    For whoever looks at a calibrator by hand, with its published worked example: no report and no gate reads it.
    """
    truth, p = np.asarray(y, dtype=float), np.asarray(score, dtype=float)
    variance = float(np.sum((1 - 2 * p) ** 2 * p * (1 - p)))
    if variance <= 0.0:
        return None
    z = float(np.sum((truth - p) * (1 - 2 * p))) / math.sqrt(variance)
    return z, float(2.0 * stats.norm.sf(abs(z)))


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


def calibration_error(y: ArrayLike, score: ArrayLike, bins: int = 10) -> float | None:
    """Equal-mass expected calibration error: mean gap of score and share of positives, by rows."""
    p, truth = np.asarray(score, dtype=float), np.asarray(y, dtype=float)
    if not len(p):
        return None
    gap = np.bincount(equal_mass_bins(p, bins), weights=p - truth, minlength=bins)
    return float(np.abs(gap).sum() / len(p))
