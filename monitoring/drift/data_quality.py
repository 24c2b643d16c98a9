"""Whether the data behind the figures are all there: freshness, volume, duplicates, quarantine.

Silence is not good news: where no event has come for a while the state is ``unknown``, never fine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import numpy as np

from monitoring.core.measured import StoredResult

WEEKS: Final = 4
"""Weeks whose same weekday a day's volume is held against."""
LOW, HIGH = 0.5, 2.0
"""Ratio to the usual volume below and above which a day is ``low`` or ``high``."""


@dataclass(frozen=True)
class Freshness:
    """Age of the newest event at the time of the check; ``unknown`` past the limit or without any event."""

    status: Literal["fresh", "unknown"]
    newest: datetime | None
    age_s: float | None
    limit_s: float


@dataclass(frozen=True)
class Volume:
    """Events of the last whole day against the median of the same weekday in the weeks before.

    ``status`` is ``unknown`` while no earlier week holds an event.
    """

    status: Literal["usual", "low", "high", "unknown"]
    day: str
    rows: int
    usual: float | None
    ratio: float | None


@dataclass(frozen=True)
class QualityReport(StoredResult):
    """Data quality at one check.

    Attributes:
        freshness, volume: see there.
        duplicates: events that arrived again, by the ledger of the spool, since the log began.
        new_duplicates: since the check before; none without one.
        quarantine: records in quarantine by reason, since the log began.
        new_quarantine: since the check before, reasons without any left out.
    """

    freshness: Freshness
    volume: Volume
    duplicates: int
    new_duplicates: int | None
    quarantine: Mapping[str, int]
    new_quarantine: Mapping[str, int]


def freshness(newest: datetime | None, as_of: datetime, limit: timedelta) -> Freshness:
    """Judge the newest event; one that lies after ``as_of`` has no age."""
    if newest is None:
        return Freshness("unknown", None, None, limit.total_seconds())
    age = max(0.0, (as_of - newest).total_seconds())
    return Freshness("fresh" if age <= limit.total_seconds() else "unknown", newest, age, limit.total_seconds())


def volume(day: str, rows: int, earlier_counts: Sequence[int]) -> Volume:
    """Judge a day's number of events against earlier ones of the same weekday; days without any say nothing."""
    days_with_events = [count for count in earlier_counts if count]
    if not days_with_events:
        return Volume("unknown", day, rows, None, None)
    usual = float(np.median(days_with_events))
    ratio = rows / usual
    return Volume("low" if ratio < LOW else "high" if ratio > HIGH else "usual", day, rows, usual, ratio)
