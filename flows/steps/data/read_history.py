"""Read the history that one training needs, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bentos.usecase.definition import NO_TIME, UseCase
from flows.errors import NoData
from flows.sources.base import EventSource, SourceRead
from flows.steps.data.split import days_needed
from monitoring.core.calendar import TimeWindow

DAY = timedelta(days=1)


@dataclass(frozen=True)
class History:
    """Events and labels as known at ``as_of``."""

    read: SourceRead
    as_of: datetime


def read_history(
    source: EventSource, usecase: UseCase, until: datetime | None = None, more: timedelta = NO_TIME
) -> History:
    """Read back from ``until`` as far as windows, folds and label delays reach.

    Args:
        source: where events are.
        usecase: lengths of windows and folds.
        until: business time of the reader; none takes the end of the source, or now if that is earlier.
        more: how much further back than a training needs.

    Raises:
        NoData: the source ends before it starts to matter.
    """
    window = history_window(source, usecase, until, more)
    return History(source.read(window, as_of=window.end), window.end)


def history_window(
    source: EventSource, usecase: UseCase, until: datetime | None = None, more: timedelta = NO_TIME
) -> TimeWindow:
    """What :func:`read_history` reads; it ends at the business time."""
    extent = source.extent()
    as_of = min(extent.end, datetime.now(UTC)) if until is None else until
    first_day = usecase.calendar.day_of(as_of) - (days_needed(usecase) + 1 - -more // DAY) * DAY
    start = max(extent.start, usecase.calendar.start_of(first_day))
    if as_of <= start:
        raise NoData(f"{source.origin} starts at {extent.start:%Y-%m-%d %H:%M} UTC, not before {as_of:%Y-%m-%d %H:%M}")
    return TimeWindow(start, as_of)
