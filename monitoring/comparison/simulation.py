"""Many comparisons at once, looked at every day: how often a rule errs and how soon it ends.

The bounds are those of :mod:`monitoring.stats.anytime` and :mod:`monitoring.stats.group_sequential`, computed for
trials x days at a time; a test holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.anytime import BLOCK_DAYS, BLOCKING_AUTOCORRELATION, critical_multiplier
from monitoring.stats.group_sequential import boundaries, t_multiplier


@dataclass(frozen=True)
class SimulatedTraffic:
    """Matured positives of a simulated comparison, day by day.

    Attributes:
        positives: mean number a day.
        discordance: share of positives that exactly one of the two models catches.
        effect: recall of the challenger minus that of the champion.
        clusters: mean size of campaigns whose positives are decided alike; 1 is independent positives.
    """

    positives: float
    discordance: float
    effect: float = 0.0
    clusters: float = 1.0

    def draw(self, trials: int, days: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Positives, and positives gained by the challenger, of each trial and day.

        Raises:
            ValueError: an effect larger than the discordance.
        """
        positives, only_b, only_a = self.pairs(trials, days, seed)
        return positives, only_b - only_a

    def pairs(self, trials: int, days: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positives, those that only the challenger caught, those that only the champion caught: trials x days.

        Raises:
            ValueError: an effect larger than the discordance.
        """
        if not abs(self.effect) <= self.discordance <= 1.0:
            raise ValueError(f"an effect of {self.effect} needs a discordance of at least that, not {self.discordance}")
        rng = np.random.default_rng(seed)
        b, a = (self.discordance + self.effect) / 2.0, (self.discordance - self.effect) / 2.0
        if self.clusters > 1.0:
            return self._campaigns(rng, trials, days, b, a)
        positives = rng.poisson(self.positives, (trials, days))
        only_b = rng.binomial(positives, b)
        return positives, only_b, rng.binomial(positives - only_b, min(1.0, a / max(1e-12, 1.0 - b)))

    def caught(self, trials: int, days: int, seed: int, recall: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positives, those the champion caught, those the challenger caught: trials x days.

        Args:
            trials, days, seed: as in :meth:`pairs`.
            recall: the champion's; independent positives only.

        Raises:
            ValueError: campaigns, or a recall that leaves no room for what only one of them catches.
        """
        positives, only_b, only_a = self.pairs(trials, days, seed)
        both_share = recall - (self.discordance - self.effect) / 2.0
        if self.clusters > 1.0 or not 0.0 <= both_share <= 1.0 - self.discordance:
            raise ValueError(f"a recall of {recall:g} does not go with a discordance of {self.discordance:g}")
        caught_by_both_or_none = positives - only_b - only_a
        caught_by_both = np.random.default_rng((seed, 1)).binomial(
            caught_by_both_or_none, both_share / (1.0 - self.discordance)
        )
        return positives, caught_by_both + only_a, caught_by_both + only_b

    def _campaigns(
        self, rng: np.random.Generator, trials: int, days: int, b: float, a: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whole campaigns, geometric in size, are caught by one model only."""
        count = rng.poisson(self.positives / self.clusters, (trials, days))
        total = int(count.sum())
        sizes = rng.geometric(1.0 / self.clusters, total)
        kind = rng.random(total)
        cell = np.repeat(np.arange(trials * days), count.ravel())
        weights = (sizes, sizes * (kind < b), sizes * (kind >= 1.0 - a))
        totals = (np.bincount(cell, weights=w, minlength=trials * days).reshape(trials, days) for w in weights)
        positives, only_b, only_a = totals
        return positives, only_b, only_a


def daily_bounds(series: np.ndarray, policy: PromotionPolicy) -> np.ndarray:
    """The lower bound of the mean as someone sees it on each day: trials x days, NaN where there is none."""
    if policy.method == "anytime":
        return _daily_anytime_bounds(series, policy)
    bounds = np.full(series.shape, np.nan)
    for day, bound in zip(policy.decision_days, boundaries(policy.decision_days, policy.alpha), strict=True):
        if day <= series.shape[1]:
            # Until the next decision day the last look stands.
            bounds[:, day - 1 :] = _bound_on_day(series, day, lambda n, bound=bound: t_multiplier(n, bound))[:, None]  # type: ignore[misc]  # the default binds the loop's value
    return bounds


def first_day(passes: np.ndarray) -> np.ndarray:
    """The day (from 1) on which each trial passes first; 0 for never."""
    return np.where(passes.any(axis=1), passes.argmax(axis=1) + 1, 0)


def promoting_days(positives: np.ndarray, recall_gains: np.ndarray, policy: PromotionPolicy) -> np.ndarray:
    """Days (trials x days) on which the recall checks of a comparison all pass."""
    margin = policy.recall_non_inferiority_margin or 0.0
    total = np.cumsum(positives, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall_gain = np.cumsum(recall_gains, axis=1) / total
    passes = daily_bounds(recall_gains + margin * positives, policy) > 0.0
    passes &= (total >= policy.min_matured_positives) & (recall_gain >= policy.required_recall_gain)
    passes[:, : policy.min_matured_days - 1] = False
    return passes


def _daily_anytime_bounds(series: np.ndarray, policy: PromotionPolicy) -> np.ndarray:
    """Plain days, or blocks of three where the days so far resemble each other."""
    alpha, planned = policy.alpha, float(policy.planned_days)
    plain_bounds = _lower_sequence(series, alpha, planned)
    days = series.shape[1]
    blocks = days // BLOCK_DAYS
    if not blocks:
        return plain_bounds
    block_mean_values = series[:, : blocks * BLOCK_DAYS].reshape(len(series), blocks, BLOCK_DAYS).mean(axis=2)
    block_bounds = _lower_sequence(block_mean_values, alpha, planned / BLOCK_DAYS)
    finished_blocks = np.arange(1, days + 1) // BLOCK_DAYS
    spread_bounds = np.where(finished_blocks[None, :] >= 1, block_bounds[:, np.maximum(finished_blocks - 1, 0)], np.nan)
    return np.where(running_autocorrelation(series) > BLOCKING_AUTOCORRELATION, spread_bounds, plain_bounds)


def _lower_sequence(series: np.ndarray, alpha: float, planned: float) -> np.ndarray:
    mean, sd = running_moments(series)
    n = np.arange(1, series.shape[1] + 1)
    half = np.array([critical_multiplier(int(k), alpha, planned) for k in n])
    with np.errstate(invalid="ignore", divide="ignore"):
        low = mean - half * sd / np.sqrt(n)
    return np.where((sd > 0.0) & np.isfinite(half), low, np.nan)


def _bound_on_day(series: np.ndarray, day: int, half: Callable[[int], float]) -> np.ndarray:
    """The lower bound from the first ``day`` days."""
    x = series[:, :day]
    whole_blocks = day // BLOCK_DAYS
    block_mean_values = (
        x[:, : whole_blocks * BLOCK_DAYS].reshape(len(x), whole_blocks, BLOCK_DAYS).mean(axis=2)
        if whole_blocks
        else x[:, :0]
    )
    lows = [
        u.mean(axis=1) - half(u.shape[1]) * u.std(axis=1, ddof=1) / math.sqrt(u.shape[1])
        for u in (x, block_mean_values)
    ]
    return np.asarray(np.where(running_autocorrelation(x)[:, -1] > BLOCKING_AUTOCORRELATION, lows[1], lows[0]))


def running_moments(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the first n values, for every n."""
    n = np.arange(1, series.shape[1] + 1)
    mean = np.cumsum(series, axis=1) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        square = np.cumsum(series * series, axis=1) - n * mean * mean
        return mean, np.sqrt(np.maximum(square, 0.0) / (n - 1))


def running_autocorrelation(series: np.ndarray) -> np.ndarray:
    """Lag-1 autocorrelation of the first n values, for every n; NaN below six."""
    x = np.asarray(series, dtype=float)
    n = np.arange(1, x.shape[1] + 1)
    total = np.cumsum(x, axis=1)
    mean = total / n
    pairs = np.cumsum(np.pad(x[:, :-1] * x[:, 1:], ((0, 0), (1, 0))), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.cumsum(x * x, axis=1) - n * mean * mean
        lagged = pairs - mean * (2.0 * total - x - x[:, :1]) + (n - 1) * mean * mean
        return np.where((n >= 6) & (spread > 0.0), lagged / spread, np.nan)
