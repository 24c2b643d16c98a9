"""How many alerts the running day will bring, before it is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final

WEEK: Final = 7


def forecast_alerts(counts: Mapping[date, int], day: date) -> float | None:
    """Expected alerts of ``day``: the mean of the same weekday, scaled to the level of the latest week.

    Args:
        counts: alerts of whole business days; later days than ``day`` and ``day`` itself are not looked at.
        day: the business day that is asked for.

    Returns:
        The forecast, or ``None`` unless all seven days before ``day`` are known: a forecast from fewer
        would hold no weekend, or no working day.
    """
    past = {d: n for d, n in counts.items() if d < day}
    week = [past.get(day - timedelta(days=back)) for back in range(1, WEEK + 1)]
    known = [n for n in week if n is not None]
    if len(known) < WEEK:
        return None
    same = [n for d, n in past.items() if d.weekday() == day.weekday()]
    # Whole weeks alone tell the level: a half week would count some weekdays more often than others.
    weeks = len(past) // WEEK
    whole = [past.get(day - timedelta(days=back), 0) for back in range(1, weeks * WEEK + 1)]
    level = sum(whole) / len(whole)
    scale = sum(known) / WEEK / level if level else 0.0
    return sum(same) / len(same) * scale
