"""Estimates before labels mature (CBPE). Where decisions hide labels, see :mod:`monitoring.stats.label_weights`.

A confidence-based estimate is blind to concept drift. It is a line of a report and never promotes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from monitoring.core.measured import finite

ESTIMATE = "estimate"


@dataclass(frozen=True)
class ConfidenceEstimate:
    """Expected counts and figures from calibrated scores alone; always an estimate."""

    tp: float
    fp: float
    fn: float
    tn: float
    recall: float | None
    precision: float | None
    auc_roc: float | None
    kind: str = ESTIMATE


def estimate_by_confidence(score: ArrayLike, flagged: ArrayLike) -> ConfidenceEstimate:
    """Confidence-based performance estimation: each score is taken as the chance of a positive.

    TP is the sum of p over flagged rows, FP that of 1 - p, FN the sum of p over the others.
    """
    p, is_flagged = np.asarray(score, dtype=float), np.asarray(flagged, dtype=bool)
    tp, fp = float(p[is_flagged].sum()), float((1 - p[is_flagged]).sum())
    fn, tn = float(p[~is_flagged].sum()), float((1 - p[~is_flagged]).sum())
    return ConfidenceEstimate(tp, fp, fn, tn, _ratio(tp, tp + fn), _ratio(tp, tp + fp), expected_auc(p))


def expected_auc(score: ArrayLike) -> float | None:
    """AUC when each row is positive with chance p and negative with 1 - p; ties count half."""
    p = np.sort(np.asarray(score, dtype=float))
    if not len(p) or p.sum() <= 0.0 or (1 - p).sum() <= 0.0:
        return None
    levels, starts = np.unique(p, return_index=True)
    negatives = np.add.reduceat(1 - p, starts)
    positives = np.add.reduceat(p, starts)
    below = np.cumsum(negatives) - negatives
    concordant = float(positives @ (below + 0.5 * negatives))
    return concordant / (float(positives.sum()) * float(negatives.sum())) if len(levels) else None


def _ratio(top: float, base: float) -> float | None:
    return finite(top / base) if base > 0.0 else None
