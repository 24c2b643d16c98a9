"""Tests that assume one look or independent halves: what a valid comparison is measured against."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from monitoring.comparison.simulation import running_moments


def naive_t(series: np.ndarray) -> np.ndarray:
    """Two-sided p of the ordinary paired t on each day, as if nobody had looked before: trials x days."""
    mean, sd = running_moments(series)
    n = np.arange(1, series.shape[1] + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.abs(mean) / sd * np.sqrt(n)
        return np.where(sd > 0.0, 2.0 * special.stdtr(np.maximum(n - 1, 1), -t), 1.0)


def legacy_t(positives: np.ndarray, caught_a: np.ndarray, caught_b: np.ndarray) -> np.ndarray:
    """Two-sided p of the unpaired t-test on the daily recalls of each trial; NaN with a day without positives."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = caught_a / positives, caught_b / positives
        n = a.shape[1]
        t = (b.mean(axis=1) - a.mean(axis=1)) / np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / n)
    return np.asarray(2.0 * special.stdtr(2 * n - 2, -np.abs(t)))


def naive_mcnemar(only_b: np.ndarray, only_a: np.ndarray) -> np.ndarray:
    """McNemar's mid-p of all pairs so far, on each day: trials x days."""
    b, a = np.cumsum(only_b, axis=1), np.cumsum(only_a, axis=1)
    n, smaller_count = b + a, np.minimum(b, a)
    log_choose = special.gammaln(n + 1) - special.gammaln(smaller_count + 1) - special.gammaln(n - smaller_count + 1)
    mid_p = 2.0 * special.bdtr(smaller_count, n.astype(np.int64), 0.5) - np.exp(log_choose - n * math.log(2.0))
    return np.where(n > 0, np.minimum(1.0, mid_p), 1.0)
