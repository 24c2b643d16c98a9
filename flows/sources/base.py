"""What every source of events has in common.

A source is asked for a time window and answers with clean events, their labels and the rows that
were refused. All sources give the same frames for the same events; one test suite holds them to it.

``labels`` has one final label an event, ``revisions`` every statement: a window feature needs what was known at each
moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

import pandas as pd

from bentos.schema.table_cleaning import empty_labels
from monitoring.core.calendar import TimeWindow

__all__ = ["ABSENT", "LABEL_COLUMNS", "EventSource", "SourceRead", "empty_labels"]

LABEL_COLUMNS = ("event_id", "y", "observed_at", "source")
ABSENT = "absent"
"""Label source of a matured event that has no label where the use case says absent is negative."""


@dataclass(frozen=True)
class SourceRead:
    """One window of a source.

    Attributes:
        events: clean events in the use case's own column names, sorted by event time, then id.
        labels: one final label an event as known at ``as_of``: ``event_id`` (str), ``y`` (int8, 0
            or 1), ``observed_at`` (UTC), ``source`` (str); in the order of ``events``. Events whose
            label is unknown have no row. A matured event without a label is a row with source
            ``absent`` where the use case says that absent is negative. The log of a use case that blocks
            what it flags adds ``weight``: how many events a row stands for in a training, 0 where others
            stand for it.
        quarantine: refused rows: ``row`` (position in the source), ``event_id``, ``reason``,
            ``column``.
        window: the window that was asked for.
        origin: what was read, without passwords; for logs, snapshots and lineage.
        as_of: labels observed later were ignored; none means that all labels were taken.
        revisions: every label revision observed by ``as_of``, for point-in-time features. It
            equals ``labels`` for sources that know one label an event. Give these to
            ``FeaturePlan.build``, which knows no source ``absent``.
        labelled: whether the source holds labels at all.
        out_of_order: rows that came before an earlier one; they are sorted, but many of them in a log
            that should be in order point at a broken clock.
    """

    events: pd.DataFrame
    labels: pd.DataFrame
    quarantine: pd.DataFrame
    window: TimeWindow
    origin: str
    as_of: datetime | None = None
    revisions: pd.DataFrame = field(default_factory=empty_labels)
    labelled: bool = True
    out_of_order: int = 0


@runtime_checkable
class EventSource(Protocol):
    """Where events and labels come from."""

    kind: str
    """``simulator``, ``csv``, ``parquet``, ``sql`` or ``log``."""

    @property
    def origin(self) -> str:
        """What is read, without passwords."""
        ...

    def read(self, window: TimeWindow, as_of: datetime | None = None) -> SourceRead:
        """Read the events of a window with the labels known at ``as_of``.

        Raises:
            NoData: the window holds no usable event.
            SchemaProblem: the table does not fit the use case.
            SourceUnavailable: the file or database cannot be read.
        """
        ...

    def extent(self) -> TimeWindow:
        """The window that holds every event of the source; raises ``NoData`` if it is empty."""
        ...
