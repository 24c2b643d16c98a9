"""Import a history into the prediction log (``incumbent windows load``): warm windows on day one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from bentos.scoring.future_bound import FutureBound
from bentos.scoring.recent_times import SAMPLE
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused, NoData
from flows.sources.base import EventSource, SourceRead
from monitoring.core.calendar import TimeWindow
from monitoring.core.durations import microseconds
from monitoring.store.database.frames import to_us
from monitoring.store.database.records import IN_FUTURE, LabelRecord

if TYPE_CHECKING:
    from monitoring.store import Store

Progress = Callable[[int, int], None]
"""Called with (rows stored, rows in all); rows are events and label statements."""
BATCH_ROWS = 10_000
PART = timedelta(days=31)
"""Event time that is read at once."""


@dataclass(frozen=True)
class HistoryResult:
    """What an import did.

    Attributes:
        window: what was read.
        events: events that are new in the log.
        repeated: events that the log already held.
        labels: label statements that are new.
        quarantined: rows that were refused; those of the future are among them.
        future: events and label statements that were refused because they are dated in the future.
    """

    window: TimeWindow
    events: int
    repeated: int
    labels: int
    quarantined: int
    future: int = 0


def load_history(
    source: EventSource,
    window: TimeWindow,
    store: Store,
    usecase: UseCase,
    as_of: datetime | None = None,
    progress: Progress | None = None,
    part: timedelta = PART,
    bound: FutureBound | None = None,
) -> HistoryResult:
    """Read a window and store it with ``origin=history``; repeating it changes nothing.

    Only statements that the source holds become labels: what absence means is decided when the log is
    read, not when it is filled. The window is read in parts, and one part is held in memory (some 200
    bytes a row); a file is read once for each part.

    Args:
        source: any source but the log itself.
        window: the history.
        store: where it goes.
        usecase: names the columns and the label sources.
        as_of: events and labels of later times are left out.
        progress: told of each batch; the number of rows in all is an estimate until the last part.
        part: event time that is read at once.
        bound: events beyond it, and labels observed beyond it, are refused; none lets every time pass. Where it is a
            stream's the events of the source say what time it is.

    Raises:
        NoData: the whole window holds no usable event.
        SourceError: a part cannot be read; what came before it is stored.
        StoreError: a batch cannot be stored; what came before it is stored.
        FlowRefused: the source is the log.
    """
    if source.kind == "log":
        raise FlowRefused("the log cannot be imported into itself; choose the source that holds the history")
    importer = _Importer(store, usecase, progress or (lambda done, total: None), bound)
    parts = -((window.start - window.end) // part)
    for number, span in enumerate(_parts(window, part, bound)):
        try:
            source_read = source.read(span, as_of)
        except NoData:  # no fault while other parts have events
            continue
        importer.take(source_read, number, number + 1 if span.end >= window.end else max(parts, number + 2))
    if not importer.rows:
        source.read(window, as_of)  # says why there is nothing in all of it
    return HistoryResult(
        window,
        importer.stored,
        importer.repeated,
        importer.labels,
        len(importer.refused) + importer.future_labels,
        importer.future,
    )


def _parts(window: TimeWindow, part: timedelta, bound: FutureBound | None) -> Iterator[TimeWindow]:
    """Parts up to the bound, and one for all that lies beyond: a file is read once for each part."""
    start = window.start
    while start < window.end:
        beyond = bound is not None and to_us(start) > bound.latest_us()
        end = window.end if beyond else min(start + part, window.end)
        yield TimeWindow(start, end)
        start = end


class _Importer:
    """Stores one part after the other and counts."""

    def __init__(self, store: Store, usecase: UseCase, progress: Progress, bound: FutureBound | None) -> None:
        self._bound = bound
        self.future_labels = 0
        self.stored = self.repeated = self.labels = self.rows = 0
        # Rows without a readable time come with every part; each is one row of the source.
        self.refused: set[tuple[object, str]] = set()
        self._store = store
        self._usecase = usecase
        self._progress = progress

    @property
    def future(self) -> int:
        return self.future_labels + sum(reason == IN_FUTURE for _, reason in self.refused)

    def take(self, source_read: SourceRead, number: int, parts: int) -> None:
        source_read = self._without_future(source_read)
        usecase, row_count = self._usecase, self.rows
        self.rows += len(source_read.events) + len(source_read.revisions)
        total = self.rows * parts // (number + 1)
        for start in range(0, len(source_read.events), BATCH_ROWS):
            batch = cast_declared_types(source_read.events.iloc[start : start + BATCH_ROWS], usecase)
            counts = self._store.log.import_history(usecase.name, batch, usecase.event_id, usecase.event_time)
            self.stored, self.repeated = self.stored + counts.stored, self.repeated + counts.duplicates
            row_count += len(batch)
            self._progress(row_count, total)
        for start in range(0, len(source_read.revisions), BATCH_ROWS):
            records = label_records(source_read.revisions.iloc[start : start + BATCH_ROWS], usecase.name)
            self.labels += self._store.labels.add(records, usecase.label).stored
            row_count += len(records)
            self._progress(row_count, total)
        quarantine = source_read.quarantine
        self.refused.update(zip(quarantine["event_id"].fillna(quarantine["row"]), quarantine["reason"], strict=True))

    def _without_future(self, source_read: SourceRead) -> SourceRead:
        """The part without rows of the future; they are counted."""
        if self._bound is None:
            return source_read
        times = source_read.events[self._usecase.event_time].dt.as_unit("us").astype("int64")
        latest = self._bound.latest_of(times.tail(SAMPLE))
        in_time = (times <= latest).to_numpy()
        self.refused.update((name, IN_FUTURE) for name in source_read.events[self._usecase.event_id][~in_time])
        # A table that does not say when a label became known says it of the day on which it matures.
        slack = timedelta() if self._usecase.label.observed_at is not None else self._usecase.label.matures_after
        observed = source_read.revisions["observed_at"].dt.as_unit("us").astype("int64")
        of_future_event = (
            source_read.revisions["event_id"].isin(source_read.events[self._usecase.event_id][~in_time]).to_numpy()
        )
        late = (observed > latest + microseconds(slack)).to_numpy() & ~of_future_event
        usable = ~(late | of_future_event)
        self.future_labels += int(late.sum())
        if in_time.all() and usable.all():
            return source_read
        return replace(
            source_read,
            events=source_read.events[in_time].reset_index(drop=True),
            revisions=source_read.revisions[usable],
        )


def cast_declared_types(events: pd.DataFrame, usecase: UseCase) -> pd.DataFrame:
    """An events frame whose optional integers and booleans are no floats: the log keeps 3 and true, not 3.0 and 1.0."""
    kinds = {"integer": "Int64", "boolean": "boolean"}
    types = {c.name: kinds[c.type] for c in usecase.columns if c.nullable and c.type in kinds and c.name in events}
    return events.astype(types) if types else events


def label_records(labels: pd.DataFrame, usecase: str) -> Sequence[LabelRecord]:
    """The rows of a labels frame as records of the log, received now."""
    received_us = int(datetime.now(UTC).timestamp() * 1_000_000)
    observed_us = labels["observed_at"].dt.as_unit("us").astype("int64")
    rows = zip(labels["event_id"], labels["y"].tolist(), observed_us.tolist(), labels["source"], strict=True)
    return [LabelRecord(usecase, event_id, y, at, source, received_us) for event_id, y, at, source in rows]
