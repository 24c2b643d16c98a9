"""The anytime-valid t: a test of a daily series that stays valid when people look every day.

The e-value of n daily values is that of a normal mixture over the effect size with the variance
integrated out (Lindon, Ham, Tingley and Bojinov, arXiv 2210.08589; Wang and Ramdas, arXiv
2310.03722). With t = sqrt(n) mean / s, nu = n - 1, x = -2 ln a + ln(-2 ln a + 1), g = x / n*,
k = 1 + n g::

    ln E = -1/2 ln k + n/2 [ln(1 + t^2/nu) - ln(1 + t^2/(nu k))]

and the confidence sequence is mean +- (s/sqrt n) sqrt(nu (R-1)/(1 - R/k)) with R = (k/a^2)^(1/n),
without a bound while R >= k. n* (``planned``) is the day at which the interval is tightest.

Every function takes the whole series and computes from it; nothing is remembered between looks.
The series must hold frozen, matured days in order; history is never rewritten.

Two models that never differ have no spread; they are bounded by the rate of an event never seen in n trials, +-(1 -
(alpha/(n+1))^(1/n)), because zero would be false certainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from monitoring.core.measured import Measurement, finite

BLOCK_DAYS = 3
"""Days in a block when neighbouring days resemble each other."""
BLOCKING_AUTOCORRELATION = 0.1
"""Lag-1 autocorrelation above which days are blocked (at .2 the plain test errs in 7 % of cases)."""
_MIN_FOR_AUTOCORRELATION = 6


@dataclass(frozen=True)
class AnytimeT:
    """The test at the last day of a series.

    Attributes:
        n: units (days, or blocks of ``block`` days) that entered.
        mean: mean of a day.
        sd: standard deviation of a unit; ``None`` with fewer than two units.
        t: t statistic.
        log_e: natural logarithm of the e-value now.
        p: anytime-valid p, min over all looks of 1/E, at most 1; ``None`` without evidence.
        low, high: confidence sequence of the daily mean now; ``None`` is unbounded.
        block: days in a unit.
        autocorrelation: lag-1 autocorrelation of the daily values.
        alpha, planned: the level and n* (in days) that were used.
    """

    n: int
    mean: float | None
    sd: float | None
    t: float | None
    log_e: float | None
    p: float | None
    low: float | None
    high: float | None
    block: int
    autocorrelation: float | None
    alpha: float
    planned: float

    @property
    def measured(self) -> Measurement:
        """The mean with its confidence sequence."""
        return Measurement(self.mean, self.low, self.high)


@dataclass(frozen=True)
class AnytimePath:
    """The test after each unit, for plots: arrays as tuples, ``None`` where there is no evidence."""

    days: tuple[int, ...]
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    log_e: tuple[float | None, ...]


def mixture_scale(alpha: float, planned: float) -> float:
    """g = x/n*, the variance of the mixture that makes the sequence tightest at n*."""
    x = -2.0 * math.log(alpha) + math.log(-2.0 * math.log(alpha) + 1.0)
    return x / planned


def log_e_value(n: int, t: float, alpha: float, planned: float) -> float:
    """ln E of a t statistic of ``n`` values."""
    nu, k = n - 1, 1.0 + n * mixture_scale(alpha, planned)
    return -0.5 * math.log(k) + n / 2.0 * (math.log1p(t * t / nu) - math.log1p(t * t / (nu * k)))


def critical_multiplier(n: int, alpha: float, planned: float) -> float:
    """Half the confidence sequence in units of s/sqrt(n); infinite while the series is too short."""
    if n < 2:
        return math.inf
    k = 1.0 + n * mixture_scale(alpha, planned)
    log_r = (math.log(k) - 2.0 * math.log(alpha)) / n
    if log_r >= math.log(k):
        return math.inf
    r = math.exp(log_r)
    return math.sqrt((n - 1) * (r - 1.0) / (1.0 - r / k))


def lag1_autocorrelation(values: ArrayLike) -> float | None:
    """Lag-1 autocorrelation; ``None`` below six days or without spread."""
    x = np.asarray(values, dtype=float)
    if len(x) < _MIN_FOR_AUTOCORRELATION:
        return None
    d = x - x.mean()
    spread = float(d @ d)
    return float(d[:-1] @ d[1:]) / spread if spread > 0.0 else None


def anytime_t(values: ArrayLike, alpha: float = 0.05, planned: float = 28, block: int | None = None) -> AnytimeT:
    """Test a daily series against a mean of zero, now, whenever now is.

    Args:
        values: one number per matured day, oldest first.
        alpha: two-sided level over all looks together.
        planned: n*, in days.
        block: days in a unit; none takes 3 when the lag-1 autocorrelation exceeds .1, else 1. Days
            that do not fill a block wait.
    """
    x = np.asarray(values, dtype=float)
    correlation = lag1_autocorrelation(x)
    size = block or block_size(x)
    units, n_star = block_means(x, size), planned / size
    n, mean, sd, t = summary(units)
    overall = finite(float(x.mean())) if len(x) and mean is None else mean
    if t is None or sd is None or mean is None:
        return AnytimeT(n, overall, sd, None, None, None, None, None, size, correlation, alpha, planned)
    half = critical_multiplier(n, alpha, n_star) * sd / math.sqrt(n)
    low, high = finite(mean - half), finite(mean + half)
    p = min(1.0, math.exp(-_largest_log_e(x, alpha, planned, block)))
    return AnytimeT(n, mean, sd, t, log_e_value(n, t, alpha, n_star), p, low, high, size, correlation, alpha, planned)


def anytime_path(values: ArrayLike, alpha: float = 0.05, planned: float = 28, block: int = 1) -> AnytimePath:
    """The same test after every unit of the series, as someone who looks each day would have seen it."""
    x = np.asarray(values, dtype=float)
    tests = [anytime_t(x[: end * block], alpha, planned, block) for end in range(1, len(x) // block + 1)]
    return AnytimePath(
        tuple((i + 1) * block for i in range(len(tests))),
        tuple(test.mean for test in tests),
        tuple(test.low for test in tests),
        tuple(test.high for test in tests),
        tuple(test.log_e for test in tests),
    )


def block_size(values: ArrayLike) -> int:
    """Days in a unit: 3 where neighbouring days resemble each other, else 1."""
    correlation = lag1_autocorrelation(values)
    return BLOCK_DAYS if correlation is not None and correlation > BLOCKING_AUTOCORRELATION else 1


def block_means(values: np.ndarray, size: int) -> np.ndarray:
    """Means of consecutive blocks of ``size`` days; the unfinished last block is left out."""
    whole_length = len(values) // size * size
    return np.asarray(values[:whole_length].reshape(-1, size).mean(axis=1), dtype=float)


def anytime_ratio(x: ArrayLike, y: ArrayLike, alpha: float = 0.05, planned: float = 28) -> AnytimeT:
    """The anytime-valid interval of d where sum(x) = d sum(y): a difference of recalls or rates.

    ``x`` is the daily difference of counts (true positives of challenger minus champion), ``y`` the
    daily denominator (positives). The interval holds every d that the test of x - d y does not reject
    (Fieller's construction with the anytime-valid t); e-value and p are those of d = 0. Where no day
    differs at all there is no spread to judge by, and the bound is that of a rate never seen in the
    whole denominator.
    """
    top, base = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    at_zero = anytime_t(top, alpha, planned)
    total = float(base.sum())
    if total <= 0.0:
        return AnytimeT(at_zero.n, None, None, None, None, None, None, None, at_zero.block, None, alpha, planned)
    point = float(top.sum()) / total
    size = at_zero.block
    units = block_means(top, size)
    low, high = fieller(units, block_means(base, size), critical_multiplier(len(units), alpha, planned / size))
    if not np.any(top):
        low, high = no_difference_bounds(total, alpha)
    return AnytimeT(
        at_zero.n, point, at_zero.sd, at_zero.t, at_zero.log_e, at_zero.p,
        low, high, at_zero.block, at_zero.autocorrelation, alpha, planned,
    )  # fmt: skip


def days_needed(test: AnytimeT, target: float = 0.0, limit: int = 3650) -> int | None:
    """Further days until the bound passes ``target`` if mean and spread stay; ``None`` when never."""
    if test.mean is None or test.sd is None or test.sd <= 0.0 or test.mean <= target:
        return None
    effect = (test.mean - target) / test.sd
    for n in range(max(test.n, 2), limit // test.block):
        if math.sqrt(n) * effect > critical_multiplier(n, test.alpha, test.planned / test.block):
            return (n - test.n) * test.block
    return None


def summary(units: np.ndarray) -> tuple[int, float | None, float | None, float | None]:
    """Count, mean, standard deviation and t; no t without spread."""
    n = len(units)
    if n < 2:
        return n, finite(float(units.mean())) if n else None, None, None
    mean, sd = float(units.mean()), float(units.std(ddof=1))
    if not math.isfinite(sd) or sd <= 1e-12 * max(1.0, abs(mean)):
        return n, finite(mean), None, None
    return n, mean, sd, math.sqrt(n) * mean / sd


def _largest_log_e(x: np.ndarray, alpha: float, planned: float, block: int | None) -> float:
    """The largest ln E that any daily look at the series saw, each with the block that it took then."""
    sizes = [block] * len(x) if block else [block_size(x[:end]) for end in range(1, len(x) + 1)]
    log_e_by_size = {size: [0.0, *_each_log_e(block_means(x, size), alpha, planned / size)] for size in set(sizes)}
    return max((log_e_by_size[size][end // size] for end, size in enumerate(sizes, start=1)), default=0.0)


def _each_log_e(units: np.ndarray, alpha: float, planned: float) -> list[float]:
    """ln E after each unit; 0 where there is no evidence."""
    return [0.0 if value != value else value for value in running_log_e(units[None, :], alpha, planned)[0].tolist()]


def running_log_e(series: np.ndarray, alpha: float, planned: float) -> np.ndarray:
    """ln E after each value of many series at once: trials x values; NaN where there is no evidence.

    Running sums of the values less their first keep the spread exact enough for money of any size.
    """
    x = np.asarray(series, dtype=float)
    n = np.arange(1, x.shape[1] + 1, dtype=float)
    shifted = x - x[:, :1]
    means = np.cumsum(shifted, axis=1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.maximum(np.cumsum(shifted * shifted, axis=1) - n * means * means, 0.0)
        shifted_back = means + x[:, :1]
        sd = np.sqrt(spread / (n - 1.0))
        valid = (n >= 2) & np.isfinite(sd) & (sd > 1e-7 * np.sqrt(np.cumsum(shifted * shifted, axis=1) / n))
        valid &= sd > 1e-12 * np.maximum(1.0, np.abs(shifted_back))
        t2 = n * (shifted_back / sd) ** 2
        k = 1.0 + n * mixture_scale(alpha, planned)
        nu = n - 1.0
        log_e = -0.5 * np.log(k) + n / 2.0 * (np.log1p(t2 / nu) - np.log1p(t2 / (nu * k)))
    return np.where(valid, log_e, np.nan)


def fieller(x: np.ndarray, y: np.ndarray, c: float) -> tuple[float | None, float | None]:
    """Ends of ``{d : |mean(x - d y)| <= c sd(x - d y)/sqrt n}``, the roots of a quadratic in d.

    Unbounded (``None``, ``None``) while the test rejects nothing or the denominators are too uneven.
    """
    n = len(x)
    if not math.isfinite(c) or n < 2:
        return None, None
    m_x, m_y = float(x.mean()), float(y.mean())
    v_x, v_y = float(x.var(ddof=1)), float(y.var(ddof=1))
    v_xy = float(np.cov(x, y, ddof=1)[0, 1])
    w = c * c / n
    a, b, k = m_y * m_y - w * v_y, m_x * m_y - w * v_xy, m_x * m_x - w * v_x
    root = b * b - a * k
    # No spread around the point is missing evidence, not certainty.
    if a <= 0.0 or root <= 1e-12 * b * b:
        return None, None
    # A difference of two rates cannot lie outside -1..1, whatever a short series suggests.
    return max(-1.0, (b - math.sqrt(root)) / a), min(1.0, (b + math.sqrt(root)) / a)


def no_difference_bounds(trials: float, alpha: float) -> tuple[float, float]:
    """Bounds of a rate that was not seen once in ``trials``, valid at every look.

    The e-value of a rate r against a uniform mixture is (1-r)^-n/(n+1); it reaches 1/alpha at
    r = 1 - (alpha/(n+1))^(1/n). Either model may be the better one by that much.
    """
    bound = -math.expm1((math.log(alpha) - math.log1p(trials)) / trials)
    return -bound, bound
