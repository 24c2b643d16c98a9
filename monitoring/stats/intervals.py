"""Intervals and tests for proportions, paired proportions and ratios of daily totals.

All take plain counts (those of weighted rows need not be whole) or arrays of daily (or per-entity) totals.
What cannot be computed is ``None`` inside the result, never a default. ``confidence`` is two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from monitoring.core.measured import UNKNOWN, Measurement, finite

_EXACT_SIGN_FLIPS = 16
_RANDOM_SIGN_FLIPS = 20_000


@dataclass(frozen=True)
class MeanTest:
    """A mean with its one-sample t-test against zero and its t interval."""

    n: int
    mean: float | None
    se: float | None
    t: float | None
    p: float | None
    low: float | None
    high: float | None

    @property
    def measured(self) -> Measurement:
        """The mean with its bounds."""
        return Measurement(self.mean, self.low, self.high)


@dataclass(frozen=True)
class RatioDifference:
    """The difference of one ratio (recall, precision, ...) between two models, clustered.

    ``a`` and ``b`` are the pooled ratios of champion and challenger, ``difference`` is b - a.
    """

    a: float | None
    b: float | None
    difference: float | None
    se: float | None
    t: float | None
    p: float | None
    low: float | None
    high: float | None
    clusters: int

    @property
    def measured(self) -> Measurement:
        """The difference with its bounds."""
        return Measurement(self.difference, self.low, self.high)

    @property
    def width(self) -> float:
        """Length of the interval; infinite when there is none."""
        if self.low is None or self.high is None:
            return math.inf
        return self.high - self.low


@dataclass(frozen=True)
class McNemar:
    """Tests on discordant pairs: ``b`` only the challenger is right, ``c`` only the champion."""

    b: int
    c: int
    exact_p: float
    mid_p: float
    chi2: float | None
    chi2_p: float | None


def z_value(confidence: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 for .95."""
    return float(special.ndtri(0.5 + confidence / 2.0))


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> MeanTest:
    """The mean of daily values with its t interval; fewer than two values or no spread gives no interval."""
    x = np.asarray(values, dtype=float)
    n = len(x)
    mean = float(x.mean()) if n else None
    sd = float(x.std(ddof=1)) if n > 1 else 0.0
    if mean is None or not sd > 0.0 or not math.isfinite(sd):
        return MeanTest(n, finite(mean), None, None, None, None, None)
    se = sd / math.sqrt(n)
    half_width = float(special.stdtrit(n - 1, 0.5 + confidence / 2.0)) * se
    p = float(2.0 * special.stdtr(n - 1, -abs(mean / se)))
    return MeanTest(n, mean, se, mean / se, p, mean - half_width, mean + half_width)


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Measurement:
    """A proportion with its Wilson score interval; ``UNKNOWN`` without trials."""
    if trials <= 0:
        return UNKNOWN
    z = z_value(confidence)
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return Measurement(p, max(0.0, centre - half), min(1.0, centre + half))


def newcombe(k1: float, n1: float, k2: float, n2: float, confidence: float = 0.95) -> Measurement:
    """Difference of two independent proportions, Newcombe's hybrid of Wilson intervals."""
    first, second = wilson(k1, n1, confidence), wilson(k2, n2, confidence)
    p1, l1, u1 = first.value, first.low, first.high
    p2, l2, u2 = second.value, second.low, second.high
    if p1 is None or l1 is None or u1 is None or p2 is None or l2 is None or u2 is None:
        return UNKNOWN
    d = p1 - p2
    return Measurement(d, d - math.hypot(p1 - l1, u2 - p2), d + math.hypot(u1 - p1, p2 - l2))


def katz(k1: float, n1: float, k2: float, n2: float, confidence: float = 0.95) -> Measurement:
    """Ratio of two independent proportions with Katz's log interval; ``UNKNOWN`` with an empty cell."""
    if min(k1, n1, k2, n2) <= 0:
        return UNKNOWN
    ratio = (k1 / n1) / (k2 / n2)
    half = z_value(confidence) * math.sqrt(1 / k1 - 1 / n1 + 1 / k2 - 1 / n2)
    return Measurement(ratio, ratio * math.exp(-half), ratio * math.exp(half))


def bonett_price(b: int, c: int, n: int, confidence: float = 0.95) -> Measurement:
    """Difference of paired proportions (b - c)/n with Bonett and Price's adjusted Wald interval (2012)."""
    if n <= 0:
        return UNKNOWN
    p12, p21 = (b + 1) / (n + 2), (c + 1) / (n + 2)
    d = p12 - p21
    half = z_value(confidence) * math.sqrt((p12 + p21 - d * d) / (n + 2))
    return Measurement((b - c) / n, max(-1.0, d - half), min(1.0, d + half))


def tango_t(b: int, c: int, n: int, difference: float) -> float:
    """Tango's score statistic of a paired difference against ``difference`` (Tango 1998).

    ``difference`` = -margin tests non-inferiority; the one-sided p is ``norm.sf(T)``.
    """
    d = difference
    linear = -b - c + (2 * n - b + c) * d
    constant = -c * d * (1 - d)
    q = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * q + d * (1 - d))
    gap = b - c - n * d
    if variance <= 0.0:
        return 0.0 if gap == 0 else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


def tango_interval(b: int, c: int, n: int, confidence: float = 0.95) -> Measurement:
    """Paired difference (b - c)/n with Tango's score interval: where the statistic crosses +-z."""
    if n <= 0:
        return UNKNOWN
    z = z_value(confidence)
    point = (b - c) / n
    low = _root(lambda d: tango_t(b, c, n, d) - z, -1.0 + 1e-12, point, -1.0)
    high = _root(lambda d: tango_t(b, c, n, d) + z, point, 1.0 - 1e-12, 1.0)
    return Measurement(point, low, high)


def _root(f: Callable[[float], float], left: float, right: float, range_end: float) -> float:
    """The crossing between two ends of opposite sign, or the edge of the range where there is none."""
    from scipy import optimize  # as slow to import as everything else together

    if left >= right or f(left) * f(right) > 0:
        return range_end
    return float(optimize.brentq(f, left, right, xtol=1e-14))


def mcnemar(b: int, c: int) -> McNemar:
    """Exact, mid-p and chi-square tests on discordant pairs.

    The mid-p is the exact two-sided p minus the probability of the observed smaller count
    (Fagerland, Lydersen and Laake 2013). Pairs that come in clusters break all three.
    """
    n, smaller_count = b + c, min(b, c)
    if n == 0:
        return McNemar(b, c, 1.0, 1.0, None, None)
    tail = float(special.bdtr(smaller_count, n, 0.5))
    exact_p = min(1.0, 2.0 * tail)
    # b = c makes the doubled tail exceed one; the mid-p is then one by symmetry of the formula.
    mid_p = 2.0 * tail - math.exp(_log_choose(n, smaller_count) - n * math.log(2.0))
    chi2 = (b - c) ** 2 / n
    return McNemar(b, c, exact_p, min(1.0, mid_p), chi2, float(special.chdtrc(1, chi2)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def unpaired_t_p(first: np.ndarray, second: np.ndarray) -> float | None:
    """Two-sided p of Student's t for two independent samples of equal variance; ``None`` without spread."""
    n, m = len(first), len(second)
    pooled = ((n - 1) * float(first.var(ddof=1)) + (m - 1) * float(second.var(ddof=1))) / (n + m - 2)
    if not pooled > 0.0:
        return None
    t = (float(first.mean()) - float(second.mean())) / math.sqrt(pooled * (1.0 / n + 1.0 / m))
    return float(2.0 * special.stdtr(n + m - 2, -abs(t)))


def unpaired_factor(recall_a: float, recall_b: float, discordance: float) -> float | None:
    """How many times the data an unpaired test of two recalls needs; ``None`` where the models never differ.

    [r_a (1 - r_a) + r_b (1 - r_b)] / [psi - D^2]: 4.25 for two recalls of .85 and a discordance of .06.
    """
    paired = discordance - (recall_b - recall_a) ** 2
    return (recall_a * (1.0 - recall_a) + recall_b * (1.0 - recall_b)) / paired if paired > 0.0 else None


def sign_flip_p(values: ArrayLike, seed: int = 0) -> float | None:
    """Two-sided sign-flip p of a mean of zero: exact up to 16 days, else 20,000 seeded random flips."""
    x = np.asarray(values, dtype=float)
    x = x[x != 0.0]
    n = len(x)
    if n == 0:
        return None
    observed_sum = abs(float(x.sum())) * (1.0 - 1e-12)
    if n <= _EXACT_SIGN_FLIPS:
        bits = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ x) >= observed_sum))
    signs = np.random.default_rng(seed).integers(0, 2, (_RANDOM_SIGN_FLIPS, n)) * 2 - 1
    hits = int(np.count_nonzero(np.abs(signs @ x) >= observed_sum))
    return (hits + 1) / (_RANDOM_SIGN_FLIPS + 1)


def clustered_ratio(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Measurement:
    """A pooled ratio sum(x)/sum(y) with its linearised interval, one value per cluster."""
    zeros = np.zeros(len(np.asarray(x)))
    test = _ratio_difference(zeros, zeros, np.asarray(x, float), np.asarray(y, float), confidence)
    return Measurement(test.b, test.low, test.high)


def clustered_ratio_difference(
    x_a: ArrayLike, y_a: ArrayLike, x_b: ArrayLike, y_b: ArrayLike, confidence: float = 0.95
) -> RatioDifference:
    """Difference of two pooled ratios, linearised and clustered by day (or entity).

    With r = sum x / sum y of each model,
    u = (x_b - r_b y_b)/sum y_b - (x_a - r_a y_a)/sum y_a and SE^2 = G/(G-1) sum u^2; t with G-1
    degrees of freedom. Each array holds one total per cluster, in the same order.
    """
    a = np.asarray(x_a, dtype=float), np.asarray(y_a, dtype=float)
    b = np.asarray(x_b, dtype=float), np.asarray(y_b, dtype=float)
    return _ratio_difference(*a, *b, confidence)


def _ratio_difference(
    x_a: np.ndarray, y_a: np.ndarray, x_b: np.ndarray, y_b: np.ndarray, confidence: float
) -> RatioDifference:
    groups = len(x_b)
    a, u_a = _linearise(x_a, y_a)
    b, u_b = _linearise(x_b, y_b)
    if b is None or (a is None and bool(np.any(x_a))):
        return RatioDifference(a, b, None, None, None, None, None, None, groups)
    difference = b - (a or 0.0)
    se = math.sqrt(groups / (groups - 1) * float(np.sum((u_b - u_a) ** 2))) if groups > 1 else 0.0
    if not se > 0.0:
        return RatioDifference(a, b, difference, None, None, None, None, None, groups)
    half = float(special.stdtrit(groups - 1, 0.5 + confidence / 2.0)) * se
    p = float(2.0 * special.stdtr(groups - 1, -abs(difference / se)))
    return RatioDifference(a, b, difference, se, difference / se, p, difference - half, difference + half, groups)


def _linearise(x: np.ndarray, y: np.ndarray) -> tuple[float | None, np.ndarray]:
    """The pooled ratio and each cluster's influence on it."""
    total = float(y.sum())
    if total == 0.0:
        return None, np.zeros(len(y))
    ratio = float(x.sum()) / total
    return ratio, (x - ratio * y) / total
