"""Distances between distributions with their null: PSI, Kolmogorov-Smirnov, false-discovery control.

PSI leaves out bins that are empty on both sides (smoothing would count them as drift) and pools levels with fewer
than five expected rows; what is pooled never depends on what the window holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats


@dataclass(frozen=True)
class PsiTest:
    """A population stability index with its size-aware null.

    Attributes:
        psi: the index of the smoothed shares.
        excess: the index above what sampling alone would give, (B-1)(1/N + 1/M).
        critical: the (1 - alpha) quantile of the null.
        p: upper tail of the null, PSI ~ (1/N + 1/M) chi2(B-1).
        bins: B, bins that are not empty on both sides.
    """

    psi: float
    excess: float
    critical: float
    p: float
    bins: int


def psi_of_shares(expected: ArrayLike, actual: ArrayLike) -> float:
    """PSI = sum (a - e) ln(a/e) of two lists of positive shares."""
    e, a = np.asarray(expected, dtype=float), np.asarray(actual, dtype=float)
    return float(np.sum((a - e) * np.log(a / e)))


def psi_test(reference: ArrayLike, current: ArrayLike, alpha: float = 0.05) -> PsiTest:
    """PSI of two lists of bin counts, smoothed by (count + 1/2)/(n + B/2).

    The null is that of Yurdakul and Naranjo (2020): it needs both sample sizes, so a window of 200
    rows does not alarm where one of 100,000 would. Bins that are empty on both sides are left out:
    they hold no information, and smoothing would turn unequal sample sizes into a difference.
    """
    r, c = np.asarray(reference, dtype=float), np.asarray(current, dtype=float)
    occupied = (r > 0) | (c > 0)
    r, c = r[occupied], c[occupied]
    bins, n, m = len(r), float(r.sum()), float(c.sum())
    if bins < 2 or n == 0.0 or m == 0.0:
        return PsiTest(0.0, 0.0, 0.0, 1.0, bins)
    psi = psi_of_shares((r + 0.5) / (n + 0.5 * bins), (c + 0.5) / (m + 0.5 * bins))
    scale, free = 1.0 / n + 1.0 / m, bins - 1
    p = float(stats.chi2.sf(psi / scale, free))
    return PsiTest(psi, psi - free * scale, psi_critical(n, m, bins, alpha), p, bins)


def psi_critical(n: float, m: float, bins: int, alpha: float = 0.05) -> float:
    """The PSI that sampling alone exceeds with probability ``alpha``."""
    return float((1.0 / n + 1.0 / m) * stats.chi2.ppf(1.0 - alpha, bins - 1))


def ks_distance(
    reference_below: np.ndarray, reference_rows: int, current_below: np.ndarray, current_rows: int
) -> float | None:
    """Largest gap between two empirical distributions, given rows at or below each of a few points."""
    if not reference_rows or not current_rows or not len(reference_below):
        return None
    return float(np.max(np.abs(reference_below / reference_rows - current_below / current_rows)))


def ks_p(distance: float, n: int, m: int) -> float:
    """Asymptotic two-sample Kolmogorov-Smirnov p; conservative where values are tied."""
    return float(special.kolmogorov(distance * np.sqrt(n * m / (n + m))))


def benjamini_hochberg(p: ArrayLike) -> np.ndarray:
    """Adjusted p values in the order given (Benjamini and Hochberg 1995)."""
    values = np.asarray(p, dtype=float)
    n = len(values)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * n / np.arange(1, n + 1)
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def ndcg(reference: ArrayLike, current: ArrayLike) -> float:
    """Agreement of two importance rankings, 1 when the order is the same.

    ``reference`` and ``current`` hold one importance per feature in the same order; the gain of a
    feature is its reference importance, its place is its rank in ``current``.
    """
    gain = np.asarray(reference, dtype=float)
    ranking = np.argsort(-np.asarray(current, dtype=float), kind="stable")
    discount = 1.0 / np.log2(np.arange(2, len(gain) + 2))
    ideal = float(np.sort(gain)[::-1] @ discount)
    return float(gain[ranking] @ discount) / ideal if ideal > 0.0 else 1.0
