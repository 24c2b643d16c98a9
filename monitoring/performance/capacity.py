"""Alerts a day against money: what both models would have cost on matured days at any capacity.

For each number of alerts a day the events with the highest scores of that day are flagged, by each model by
itself. Nothing is decided on it; it is there to be looked at before somebody changes the capacity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from monitoring.core.measured import Measurement, StoredResult
from monitoring.performance.cost import Prices, merit_of
from monitoring.stats.intervals import mean_interval

POINTS = 40
"""Capacities that are looked at."""


@dataclass(frozen=True)
class CapacityPoint(StoredResult):
    """One capacity.

    Attributes:
        alerts: flagged events a day, at most; a day with fewer events flags all of them.
        cost_a, cost_b: cost a day of champion and challenger, with the t interval over days.
        saving: cost of the champion less that of the challenger, a day, likewise.
        recall_a, recall_b: positives caught, pooled over the days; none without positives.
    """

    alerts: int
    cost_a: Measurement
    cost_b: Measurement
    saving: Measurement
    recall_a: float | None
    recall_b: float | None


@dataclass(frozen=True)
class CapacityCurve(StoredResult):
    """All capacities, rising.

    Attributes:
        days: matured days behind every point.
        now: the declared capacity, or none.
        points: the capacities.
    """

    days: int
    now: int | None
    points: tuple[CapacityPoint, ...]


def capacity_curve(paired: pd.DataFrame, prices: Prices, declared_alerts: int | None) -> CapacityCurve:
    """The curve of a comparison's rows.

    Args:
        paired: matured rows: ``day``, ``score_a``, ``score_b``, ``y`` (0/1); ``weight`` where rows stand for others.
        prices: of the mistakes on these rows.
        declared_alerts: a day; the grid holds it and reaches to its threefold, or to a fifth of the rows a day.
    """
    days = [np.asarray(part) for part in paired.groupby("day", sort=True).indices.values()]
    if not days:
        return CapacityCurve(0, declared_alerts, ())
    grid = _grid([len(day) for day in days], declared_alerts)
    y = paired["y"].to_numpy() == 1
    weight = paired["weight"].to_numpy(dtype=float) if "weight" in paired else np.ones(len(paired))
    if_flagged = prices.of_rows(y, np.ones(len(y), dtype=bool)) * weight
    if_passed = prices.of_rows(y, np.zeros(len(y), dtype=bool)) * weight
    curves = [
        _day_curves(_ranking_merit(paired, side, prices), days, grid, (if_flagged, if_passed, y * weight))
        for side in "ab"
    ]
    points = []
    for column, alerts in enumerate(grid):
        (cost_a, caught_a), (cost_b, caught_b) = ((cost[:, column], caught[:, column].sum()) for cost, caught in curves)
        total = float((y * weight).sum())
        recalls = [float(caught / total) if total > 0.0 else None for caught in (caught_a, caught_b)]
        saving = _mean(cost_a - cost_b)
        points.append(CapacityPoint(alerts, _mean(cost_a), _mean(cost_b), saving, *recalls))
    return CapacityCurve(len(days), declared_alerts, tuple(points))


def _ranking_merit(paired: pd.DataFrame, side: str, prices: Prices) -> np.ndarray:
    """What a version ranks by: its score, or what an alert is expected to save where it goes by the amount."""
    merit = merit_of(paired, side, prices)
    return paired[f"score_{side}"].to_numpy(dtype=float) if merit is None else merit


def _grid(sizes: Sequence[int], declared_alerts: int | None) -> list[int]:
    """From one alert a day upwards, even on a logarithmic scale, with the declared capacity among them."""
    largest = max(2, 3 * declared_alerts if declared_alerts is not None else int(np.mean(sizes)) // 5)
    steps = np.unique(np.round(np.geomspace(1, largest, POINTS)).astype(int)).tolist()
    return sorted({*steps, *([declared_alerts] if declared_alerts is not None else [])})


def _day_curves(
    score: np.ndarray,
    days: Sequence[np.ndarray],
    grid: Sequence[int],
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Cost and caught positives of each day (rows) at each capacity (columns)."""
    if_flagged, if_passed, positive = values
    cost, caught = np.empty((len(days), len(grid))), np.empty((len(days), len(grid)))
    for row, day in enumerate(days):
        # Equal scores keep the order of the rows, which is that of time.
        order = day[np.argsort(-score[day], kind="stable")]
        change = np.concatenate([[0.0], np.cumsum(if_flagged[order] - if_passed[order])])
        hits = np.concatenate([[0.0], np.cumsum(positive[order])])
        flagged_rows = np.minimum(grid, len(day))
        cost[row] = if_passed[day].sum() + change[flagged_rows]
        caught[row] = hits[flagged_rows]
    return cost, caught


def _mean(daily: np.ndarray) -> Measurement:
    return mean_interval(daily).measured
