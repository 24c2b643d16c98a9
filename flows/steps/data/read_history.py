"""Read the history that one training needs, and no more."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bentos.usecase.definition import NO_TIME, UseCase
from flows.errors import NoData
from flows.sources.base import EventSource, SourceRead
from flows.steps.data.split import days_needed
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow

DAY = timedelta(days=1)
log = logging.getLogger("incumbent.flows")


@dataclass(frozen=True)
class KnownHistory:
    """Events and labels as known at ``as_of``."""

    read: SourceRead
    as_of: datetime


@step(
    name="read the history",
    run_name="read the {source.kind} source of {usecase.name}",
    tags=("database",),
    retried=True,
)
def read_history(
    source: EventSource, usecase: UseCase, until: datetime | None = None, extra: timedelta = NO_TIME
) -> KnownHistory:
    """Read back from ``until`` as far as windows, folds and label delays reach.

    Args:
        source: where events are.
        usecase: lengths of windows and folds.
        until: business time of the reader; none takes the end of the source, or now if that is earlier.
        extra: how much further back than a training needs.

    Raises:
        NoData: the source ends before it starts to matter.
    """
    window = history_window(source, usecase, until, extra)
    read = source.read(window, as_of=window.end)
    log.info(
        "read %d events and %d labels of %s, from %s to %s; %d rows were refused",
        len(read.events), len(read.labels), read.origin, f"{window.start:%Y-%m-%d}", f"{window.end:%Y-%m-%d %H:%M}",
        len(read.quarantine),
    )  # fmt: skip
    return KnownHistory(read, window.end)


def history_window(
    source: EventSource, usecase: UseCase, until: datetime | None = None, extra: timedelta = NO_TIME
) -> TimeWindow:
    """What :func:`read_history` reads; it ends at the business time."""
    extent = source.extent()
    as_of = min(extent.end, datetime.now(UTC)) if until is None else until
    first_day = usecase.calendar.day_of(as_of) - (days_needed(usecase) + 1 - -extra // DAY) * DAY
    start = max(extent.start, usecase.calendar.start_of(first_day))
    if as_of <= start:
        raise NoData(f"{source.origin} starts at {extent.start:%Y-%m-%d %H:%M} UTC, not before {as_of:%Y-%m-%d %H:%M}")
    return TimeWindow(start, as_of)
