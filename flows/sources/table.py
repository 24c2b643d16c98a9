"""From a foreign table to the frames of a :class:`~flows.sources.base.SourceRead`.

An adapter fetches rows that may lie in the window; everything after that is done here, once: the
exact cut, validation, quarantine, labels. So all adapters agree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from bentos.errors import TableError
from bentos.schema.column_parsing import read_times, times_of_steps
from bentos.schema.event_schema import EventSchema
from bentos.schema.row_times import FIRST, LAST, times_of
from bentos.usecase.definition import Column, UseCase
from flows.errors import NoData, SchemaProblem
from flows.sources.base import SourceRead, empty_labels
from flows.sources.labels import final_labels, known_at
from monitoring.core.calendar import TimeWindow
from monitoring.policies import LabelPolicy

STEP = timedelta(microseconds=1)


class TableSource(ABC):
    """A source whose rows come as tables with foreign or own column names."""

    kind = "table"
    knows_labels = False
    """Whether labels come from elsewhere than a column of the table."""

    def __init__(self, usecase: UseCase) -> None:
        self.usecase = usecase

    @property
    @abstractmethod
    def origin(self) -> str:
        """What is read, without passwords."""

    @abstractmethod
    def chunks(self, window: TimeWindow | None, times_only: bool = False) -> Iterator[pd.DataFrame]:
        """Tables that together hold every row of the window, and those without a usable time.

        More rows may come; none stands for all of them. The index is the row's number for the
        quarantine, unique over all chunks.
        """

    def read(self, window: TimeWindow, as_of: datetime | None = None) -> SourceRead:
        """See :class:`~flows.sources.base.EventSource`."""
        table, count = self._select_window(window, as_of)
        if not count:
            cutoff = "" if as_of is None else f" known at {as_of.isoformat()}"
            raise NoData(f"{self.origin}: no event {_span(window)}{cutoff}; it holds events {_span(self.extent())}")
        events, observed, quarantine = self._validated(table, window)
        labelled = self.knows_labels or label_in(table.columns, self.usecase.label) is not None
        labels, revisions = self.labels(events, observed, as_of) if labelled else (empty_labels(), empty_labels())
        unordered = int(events.attrs.get("out_of_order", 0))
        return SourceRead(events, labels, quarantine, window, self.origin, as_of, revisions, labelled, unordered)

    def labels(
        self, events: pd.DataFrame, observed: pd.DataFrame, as_of: datetime | None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Final labels and revisions of validated events; ``observed`` are those of the table's label column."""
        revisions = known_at(observed, as_of)
        return final_labels(events, revisions, self.usecase, as_of), revisions

    def extent(self) -> TimeWindow:
        """See :class:`~flows.sources.base.EventSource`."""
        spans, rows, untimed = [], 0, False
        for chunk in self.chunks(None, times_only=True):
            rows += len(chunk)
            untimed = self.usecase.untimed and self._made_up(self._time_name(chunk))
            if untimed:
                continue
            times, codes = self._times(chunk)
            if (codes == 0).any():
                spans += [times.min(), times.max()]
        if not rows:
            raise NoData(f"{self.origin}: it holds no rows")
        if untimed:
            return TimeWindow(FIRST, LAST)
        if not spans:
            raise SchemaProblem(f"{self.origin}: none of {rows} event times can be read; {_TIME_FORM}")
        return TimeWindow(min(spans).to_pydatetime(), max(spans).to_pydatetime() + STEP)

    def _time_name(self, table: pd.DataFrame) -> str:
        return time_name(table.columns, self.usecase, self.origin)

    def _times(self, table: pd.DataFrame) -> tuple[pd.Series[Any], Any]:
        """UTC event times (fresh index) and a reason code a row, 0 where the time is usable."""
        name = self._time_name(table)
        column = self.usecase.column(self.usecase.event_time)
        if self._made_up(name) and column.counted is not None:
            return read_times(times_of_steps(table[name], column.counted, self.usecase.zone), self.usecase.zone, False)
        if self._made_up(name):
            return times_of(table[name]), np.zeros(len(table), dtype=np.uint8)
        return read_times(table[name], self.usecase.zone, nullable=False)

    def _made_up(self, time: str) -> bool:
        """Whether the table has no time, so that step numbers or the ids stand in for it."""
        return column_in([time], self.usecase.column(self.usecase.event_time)) is None

    def _select_window(self, window: TimeWindow, as_of: datetime | None) -> tuple[pd.DataFrame, int]:
        """The rows of the window and those whose time cannot be read; the number of the former."""
        parts, stamps, count, clean = [], [], 0, True
        for chunk in self.chunks(window):
            times, codes = self._times(chunk)
            in_window = ((times >= window.start) & (times < window.end)).to_numpy()
            if as_of is not None:
                in_window &= (times <= as_of).to_numpy()
            mask = in_window | (codes != 0)
            if mask.any():
                parts.append(chunk[mask])
                stamps.append(times[mask])
            count += int(in_window.sum())
            clean &= not (codes != 0).any()
        table = pd.concat(parts) if parts else pd.DataFrame()
        if parts and clean:
            # Parsed once is enough: validation then meets times instead of text.
            name = self._time_name(table)
            time_column = self.usecase.event_time if self._made_up(name) else name
            table = table.assign(**{time_column: pd.concat(stamps).array})
        return table, count

    def _validated(self, table: pd.DataFrame, window: TimeWindow) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        try:
            events, observed, quarantine = EventSchema.of(self.usecase).read_labelled(table.reset_index(drop=True))
        except TableError as exc:
            raise SchemaProblem(f"{self.origin}: {exc}") from exc
        if events.empty:
            worst = quarantine["reason"].mode().iloc[0]
            raise NoData(f"{self.origin}: all {len(table)} rows {_span(window)} were refused, most for {worst!r}")
        numbers = table.index.to_numpy()[quarantine["row"].to_numpy(np.intp)]
        return events, observed, quarantine.assign(row=numbers)


_TIME_FORM = "write them as ISO 8601, or as a date-time type"


def column_in(names: Iterable[str], column: Column) -> str | None:
    """The name under which a table holds a declared column: the foreign one, else ours."""
    present = set(names)
    return next((n for n in (column.external_name, column.name) if n in present), None)


def label_in(names: Iterable[str], policy: LabelPolicy) -> str | None:
    """The name under which a table holds the label, or none."""
    present = set(names)
    return next((n for n in (policy.source_name, policy.column) if n in present), None)


def columns_to_read(names: Iterable[str], usecase: UseCase) -> list[str]:
    """Those columns of a table that the use case knows, in the order of the table."""
    present = list(names)
    usecase_columns = {column_in(present, c) for c in usecase.columns}
    usecase_columns |= {c.counted.column for c in usecase.columns if c.counted is not None}
    usecase_columns |= {label_in(present, usecase.label), usecase.label.observed_at}
    return [n for n in present if n in usecase_columns]


def time_name(names: Iterable[str], usecase: UseCase, origin: str) -> str:
    """The table's name of the event time.

    Raises:
        SchemaProblem: the table has no such column.
    """
    present = list(names)
    column = usecase.column(usecase.event_time)
    name = column_in(present, column)
    if name is None and column.counted is not None and column.counted.column in present:
        name = column.counted.column
    if name is None and usecase.untimed:
        name = column_in(present, usecase.column(usecase.event_id))
    if name is None:
        allowed = " or ".join(dict.fromkeys([column.external_name, column.name]))
        raise SchemaProblem(f"{origin}: no column {allowed} (event time); the table has {_join_names(present)}")
    return name


def _span(window: TimeWindow) -> str:
    return f"from {window.start.isoformat()} to {window.end.isoformat()}"


def _join_names(names: list[str]) -> str:
    return ", ".join(names[:30]) or "no columns"
