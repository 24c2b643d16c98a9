"""Lan and DeMets' group-sequential bounds with O'Brien-Fleming spending, for fixed decision days.

By information time t in (0, 1] each side has spent 2 - 2 Phi(z_{alpha/4} / sqrt(t)) of its alpha/2, so both
sides alpha*(t) = 4 - 4 Phi(z_{alpha/4} / sqrt(t)) (Lan and DeMets 1983). The bound c_k of look k solves::

    P(|Z_1| < c_1, ..., |Z_{k-1}| < c_{k-1}, |Z_k| >= c_k) = alpha*(t_k) - alpha*(t_{k-1})

where Z sqrt(t) is a Brownian motion, by the recursive integration of Armitage, McPherson and Rowe (1969).
A look uses the first d_k matured days, whenever it is made; between two decision days nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from monitoring.stats.anytime import (
    AnytimeT,
    block_means,
    block_size,
    fieller,
    lag1_autocorrelation,
    no_difference_bounds,
    summary,
)

_POINTS = 801
_NO_BOUND = 12.0
"""A bound beyond this many standard errors spends nothing that a float can hold."""


def spent_level(share: float, alpha: float = 0.05) -> float:
    """Two-sided level spent by information time ``share`` (O'Brien-Fleming type)."""
    return float(4.0 * special.ndtr(special.ndtri(alpha / 4.0) / math.sqrt(min(1.0, share))))


@lru_cache(maxsize=64)
def boundaries(decision_days: tuple[int, ...], alpha: float = 0.05) -> tuple[float, ...]:
    """The bound of ``|Z|`` at each decision day, for a two-sided level over all of them together.

    Days are the information: half of the last decision day is half of the information.
    """
    shares = [day / decision_days[-1] for day in decision_days]
    bounds: list[float] = []
    level_before, grid, density = 0.0, np.zeros(1), np.ones(1)
    last_share = 0.0
    for share in shares:
        step = math.sqrt(share - last_share)
        level = spent_level(share, alpha) - level_before
        bound = _solve(grid, density, step, math.sqrt(share), level)
        bounds.append(bound)
        grid, density = _advance(grid, density, step, bound * math.sqrt(share))
        level_before, last_share = spent_level(share, alpha), share
    return tuple(bounds)


def decision_look(days: int, decision_days: Sequence[int]) -> int | None:
    """Which look has been reached with so many matured days; ``None`` before the first."""
    reached_looks = [index for index, day in enumerate(decision_days) if day <= days]
    return reached_looks[-1] if reached_looks else None


def lan_demets_mean(values: ArrayLike, alpha: float, decision_days: tuple[int, ...], planned: float = 28) -> AnytimeT:
    """The mean of a daily series with the bounds of the latest decision day; no bound before the first."""
    x = np.asarray(values, dtype=float)
    look = decision_look(len(x), decision_days)
    decided_values = x if look is None else x[: decision_days[look]]
    size, correlation = block_size(decided_values), lag1_autocorrelation(decided_values)
    n, mean, sd, t = summary(block_means(decided_values, size))
    half_width = None
    if look is not None and sd is not None and t is not None and n > 1:
        half_width = t_multiplier(n, boundaries(decision_days, alpha)[look]) * sd / math.sqrt(n)
    low, high = (None, None) if half_width is None or mean is None else (mean - half_width, mean + half_width)
    return AnytimeT(n, mean, sd, t, None, None, low, high, size, correlation, alpha, planned)


def lan_demets_ratio(
    x: ArrayLike, y: ArrayLike, alpha: float, decision_days: tuple[int, ...], planned: float = 28
) -> AnytimeT:
    """The bounds of d where sum(x) = d sum(y) at the latest decision day (Fieller)."""
    top, base = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    look = decision_look(len(top), decision_days)
    if look is not None:
        top, base = top[: decision_days[look]], base[: decision_days[look]]
    at_zero = lan_demets_mean(top, alpha, decision_days, planned)
    total = float(base.sum())
    if total <= 0.0:
        return AnytimeT(at_zero.n, None, None, None, None, None, None, None, at_zero.block, None, alpha, planned)
    low: float | None = None
    high: float | None = None
    if look is not None:
        size, bound = at_zero.block, boundaries(decision_days, alpha)[look]
        low, high = fieller(block_means(top, size), block_means(base, size), t_multiplier(at_zero.n, bound))
        if not np.any(top):
            low, high = no_difference_bounds(total, alpha)
    return AnytimeT(
        at_zero.n, float(top.sum()) / total, at_zero.sd, at_zero.t, None, None, low, high,
        at_zero.block, at_zero.autocorrelation, alpha, planned,
    )  # fmt: skip


def next_decision_day(days: int, decision_days: Sequence[int]) -> int | None:
    """Matured days until the next look; ``None`` after the last."""
    days_until_looks = [day - days for day in decision_days if day > days]
    return days_until_looks[0] if days_until_looks else None


def t_multiplier(n: int, bound: float) -> float:
    """The t quantile with the normal tail of ``bound``, because the spread is estimated from n values."""
    if n < 2:
        return math.inf
    tail = float(special.ndtr(-bound))
    return float(-special.stdtrit(n - 1, tail)) if tail > 0.0 else math.inf


def _solve(grid: np.ndarray, density: np.ndarray, step: float, root: float, probability: float) -> float:
    """The bound whose crossing probability at this look is ``probability``; bisection, for it falls with the bound."""
    low, high = 0.0, _NO_BOUND
    for _ in range(80):
        bound = (low + high) / 2.0
        edge = bound * root
        crossing_probability = special.ndtr((grid - edge) / step) + special.ndtr((-grid - edge) / step)
        low, high = (bound, high) if _integral(grid, density * crossing_probability) > probability else (low, bound)
    return high


def _advance(grid: np.ndarray, density: np.ndarray, step: float, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Density of the Brownian motion at this look where no bound was crossed."""
    points = np.linspace(-edge, edge, _POINTS)
    kernel = np.exp(-0.5 * ((points[:, None] - grid[None, :]) / step) ** 2) / (step * math.sqrt(2.0 * math.pi))
    return points, _weights(grid) * density @ kernel.T


def _integral(grid: np.ndarray, values: np.ndarray) -> float:
    return float(_weights(grid) @ values)


def _weights(grid: np.ndarray) -> np.ndarray:
    """Simpson's weights; a single point carries a probability by itself."""
    if len(grid) == 1:
        return np.ones(1)
    weights = np.full(len(grid), 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    return np.asarray(weights * (grid[1] - grid[0]) / 3.0)
