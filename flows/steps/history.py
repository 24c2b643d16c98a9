"""Import a history into the prediction log (``incumbent windows load``): warm windows on day one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from bentos.usecase import UseCase
from flows.errors import FlowRefused
from flows.sources.base import EventSource
from monitoring.calendar import TimeWindow
from monitoring.store.records import LabelRecord

if TYPE_CHECKING:
    from monitoring.store import Store

Progress = Callable[[int, int], None]
"""Called with (rows stored, rows in all); rows are events and label statements."""
BATCH_ROWS = 10_000


@dataclass(frozen=True)
class HistoryResult:
    """What an import did.

    Attributes:
        window: what was read.
        events: events that are new in the log.
        repeated: events that the log already held.
        labels: label statements that are new.
        quarantined: rows that were refused.
    """

    window: TimeWindow
    events: int
    repeated: int
    labels: int
    quarantined: int


def load_history(
    source: EventSource,
    window: TimeWindow,
    store: Store,
    usecase: UseCase,
    as_of: datetime | None = None,
    progress: Progress | None = None,
) -> HistoryResult:
    """Read a window and store it with ``origin=history``; repeating it changes nothing.

    Only statements that the source holds become labels: what absence means is decided when the log is
    read, not when it is filled. The window is held in memory (some 200 bytes a row); import a very
    long history window by window.

    Args:
        source: any source but the log itself.
        window: the history.
        store: where it goes.
        usecase: names the columns and the label sources.
        as_of: events and labels of later times are left out.
        progress: told of each batch.

    Raises:
        SourceError: the window cannot be read; nothing is stored.
        StoreError: a batch cannot be stored; what came before it is stored.
        FlowRefused: the source is the log.
    """
    if source.kind == "log":
        raise FlowRefused("the log cannot be imported into itself; choose the source that holds the history")
    read = source.read(window, as_of)
    tell = progress or (lambda done, total: None)
    total = len(read.events) + len(read.revisions)
    stored = repeated = labels = 0
    for start in range(0, len(read.events), BATCH_ROWS):
        batch = read.events.iloc[start : start + BATCH_ROWS]
        added = store.log.import_history(usecase.name, batch, usecase.event_id, usecase.event_time)
        stored, repeated = stored + added.stored, repeated + added.duplicates
        tell(start + len(batch), total)
    for start in range(0, len(read.revisions), BATCH_ROWS):
        records = _statements(read.revisions.iloc[start : start + BATCH_ROWS], usecase.name)
        labels += store.labels.add(records, usecase.label).stored
        tell(len(read.events) + start + len(records), total)
    return HistoryResult(window, stored, repeated, labels, len(read.quarantine))


def _statements(labels: pd.DataFrame, usecase: str) -> Sequence[LabelRecord]:
    received = int(datetime.now(UTC).timestamp() * 1_000_000)
    observed = labels["observed_at"].dt.as_unit("us").astype("int64")
    rows = zip(labels["event_id"], labels["y"].tolist(), observed.tolist(), labels["source"], strict=True)
    return [LabelRecord(usecase, event_id, y, at, source, received) for event_id, y, at, source in rows]
