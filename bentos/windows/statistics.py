"""Aggregates of the values in a window that no running sum gives: min, max, std, distinct.

Two executions of each definition. :func:`value_of` looks at one window; :func:`values_of` at the
windows of a whole frame, whose edges never go back. Values are whole numbers (scaled by 10**decimals)
and sums of squares are exact, so both give the same bits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

ABSENT = -(2**63)
"""Stands for a missing value; no amount is so small."""
_TOP = 2**63 - 1


def value_of(agg: str, values: Sequence[int], own: int | None, scale: int) -> float:
    """One window.

    Args:
        agg: ``min``, ``max``, ``std`` or ``distinct``.
        values: scaled values of the earlier events, :data:`ABSENT` where missing.
        own: the event's own value, where it counts and is known.
        scale: 10**decimals.
    """
    known = [v for v in values if v != ABSENT]
    if own is not None:
        known.append(own)
    if agg == "distinct":
        return float(len(set(known)))
    if agg == "std":
        return _deviation(len(known), sum(known), sum(v * v for v in known), scale)
    if not known:
        return math.nan
    return float(min(known) if agg == "min" else max(known)) / scale


def values_of(agg: str, values: Any, low: Any, high: Any, own: bool, scale: int) -> Any:
    """The windows of every event, float64.

    Args:
        agg: as in :func:`value_of`.
        values: scaled values in sorted order, int64, :data:`ABSENT` where missing.
        low: first position of each window, never falling.
        high: position behind its last, never falling.
        own: whether the event's own value counts.
        scale: 10**decimals.
    """
    if agg == "distinct":
        return _distinct(values.tolist(), low.tolist(), high.tolist(), own)
    if agg == "std":
        return _deviations(values, low, high, own, scale)
    best = _extremes(values, low, high, agg, own)
    return np.where(best == _nothing(agg), np.nan, best.astype(np.float64) / scale)


def _nothing(agg: str) -> int:
    return _TOP if agg == "min" else ABSENT


def _extremes(values: Any, low: Any, high: Any, agg: str, own: bool) -> Any:
    """Minima or maxima by doubling: any window is two overlapping ones whose length is a power of two."""
    pick = np.minimum if agg == "min" else np.maximum
    level = np.where(values == ABSENT, _nothing(agg), values)
    best = level.copy() if own else np.full(len(values), _nothing(agg), dtype=np.int64)
    length = high - low
    step = 1
    while len(level):
        rows = np.flatnonzero((length >= step) & (length < 2 * step))
        best[rows] = pick(best[rows], pick(level[low[rows]], level[high[rows] - step]))
        if not (length >= 2 * step).any():
            break
        level = pick(level[:-step], level[step:])
        step *= 2
    return best


def _deviations(values: Any, low: Any, high: Any, own: bool, scale: int) -> Any:
    """Standard deviations from running sums of whole numbers without limit."""
    known = values != ABSENT
    numbers = np.where(known, values, 0).astype(object)
    counts = np.concatenate([[0], np.cumsum(known)])
    n = counts[high] - counts[low]
    total, squares = (_window_sums(v, low, high) for v in (numbers, numbers * numbers))
    if own:
        n, total, squares = n + known, total + numbers, squares + numbers * numbers
    found = map(_deviation, n.tolist(), total.tolist(), squares.tolist(), [scale] * len(values))
    return np.fromiter(found, dtype=np.float64, count=len(values))


def _window_sums(numbers: Any, low: Any, high: Any) -> Any:
    running = np.concatenate([np.zeros(1, dtype=object), np.cumsum(numbers)])
    return running[high] - running[low]


def _deviation(n: int, total: int, squares: int, scale: int) -> float:
    """Sample standard deviation; 0 below two values."""
    return math.sqrt((n * squares - total * total) / (n * (n - 1))) / scale if n > 1 else 0.0


def _distinct(values: list[int], low: list[int], high: list[int], own: bool) -> Any:
    """Different values, by a count of each that follows the edges of the window."""
    held: Counter[int] = Counter()
    found = np.empty(len(values), dtype=np.float64)
    first = last = 0
    for row, (start, end) in enumerate(zip(low, high, strict=True)):
        for value in values[last:end]:
            held[value] += 1
        last = max(last, end)
        for value in values[first:start]:
            held[value] -= 1
            if not held[value]:
                del held[value]
        first = max(first, start)
        mine = values[row]
        found[row] = len(held) - (ABSENT in held) + (own and mine != ABSENT and mine not in held)
    return found
