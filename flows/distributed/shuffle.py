"""Features of a table in parts: each entity's windows where all of its rows are, then all columns where the row is.

    events of a part ── by hash of the entity ── windows of whole entities ── by part ── features of the part

Parts are consecutive pieces of the table in the order of time. Between two stages lie Parquet files in a folder
that all workers share. A row is named by its part and its place there, so ids do not travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.features.frame_windows import assemble_features, window_frame, window_names
from bentos.features.plan import FeaturePlan
from bentos.schema.table_cleaning import empty_labels
from bentos.windows.aggregates import needs_labels
from flows.distributed.row_groups import read_frame, read_key, write_frame

ROW = "part.row"
_PART_SHIFT = 32
BUCKET_ROWS = 400_000
"""Rows of one bucket of entities; a single entity with more is one bucket all the same."""


@dataclass(frozen=True)
class Shuffle:
    """Where the parts of one table lie and how its entities are dealt out.

    Attributes:
        folder: shared by all workers.
        plan: features; its windows say which entities there are.
        as_of: labels observed later are ignored.
        buckets: into how many parts the entities of each kind are dealt.
    """

    folder: Path
    plan: FeaturePlan
    as_of: datetime
    buckets: int

    @property
    def entities(self) -> tuple[str, ...]:
        """The entity columns that windows are declared on."""
        return tuple(dict.fromkeys(spec.entity for spec in self.plan.specs))

    def put(self, part: int, events: pd.DataFrame, labels: pd.DataFrame) -> None:
        """Keep one part of the events, and deal its rows out by each entity.

        Args:
            part: its number; later events have higher ones.
            events: an events frame in the order of time.
            labels: a labels frame about them, with every revision.
        """
        write_frame(self._events(part), events)
        rows = (np.int64(part) << _PART_SHIFT) + np.arange(len(events), dtype=np.int64)
        positives = _positive_labels(events[self.plan.event_id], labels, rows)
        for entity in self.entities:
            buckets = _bucket_of_rows(events[entity], rows, self.buckets)
            columns = dict.fromkeys([entity, self.plan.event_time, *self._summed_columns(entity)])
            write_frame(self._bucket_file(entity, part), events[list(columns)].assign(**{ROW: rows}), buckets)
            if self._rated(entity):
                indices = (positives[ROW].to_numpy() & ((1 << _PART_SHIFT) - 1)).astype(np.intp)
                write_frame(self._labels(entity, part), positives, buckets[indices])

    def build(self, entity: str, bucket: int, parts: Sequence[int]) -> int:
        """Make the windows of one bucket of whole entities; returns its rows."""
        events = read_key([self._bucket_file(entity, part) for part in parts], bucket)
        labels = empty_labels()
        if self._rated(entity):
            positives = read_key([self._labels(entity, part) for part in parts], bucket)
            labels = positives.drop(columns="event_id").rename(columns={ROW: "event_id"})
        windows = _window_frame(self.plan, entity, events, labels, self.as_of)
        rows = events[ROW].to_numpy(dtype=np.int64)
        windows[ROW] = (rows & ((1 << _PART_SHIFT) - 1)).astype(np.int32)
        write_frame(self._windows_file(entity, bucket), windows, rows >> _PART_SHIFT)
        return len(rows)

    def features(self, part: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The events of one part, and their features as among all the others."""
        events = self.events(part)
        columns: dict[str, Any] = {}
        for entity in self.entities:
            windows = read_key([self._windows_file(entity, bucket) for bucket in range(self.buckets)], part)
            indices = windows[ROW].to_numpy()
            for name in window_names(self.plan, entity):
                values = windows[name].to_numpy()
                column = np.empty(len(events), dtype=values.dtype)
                column[indices] = values
                columns[name] = column
        return events, assemble_features(self.plan, events, columns)

    def events(self, part: int) -> pd.DataFrame:
        """The events of one part, as they were put."""
        return read_frame(self._events(part))

    def _summed_columns(self, entity: str) -> list[str]:
        return [spec.column for spec in self.plan.specs if spec.entity == entity and spec.column is not None]

    def _rated(self, entity: str) -> bool:
        return any(spec.entity == entity and needs_labels(spec) for spec in self.plan.specs)

    def _events(self, part: int) -> Path:
        return self.folder / "events" / f"{part:06d}.parquet"

    def _bucket_file(self, entity: str, part: int) -> Path:
        return self.folder / f"by-{self.entities.index(entity)}" / f"{part:06d}.parquet"

    def _labels(self, entity: str, part: int) -> Path:
        return self.folder / f"labels-by-{self.entities.index(entity)}" / f"{part:06d}.parquet"

    def _windows_file(self, entity: str, bucket: int) -> Path:
        return self.folder / f"windows-{self.entities.index(entity)}" / f"{bucket:06d}.parquet"


def buckets_of(rows: int | None, workers: int) -> int:
    """Into how many buckets the entities of so many rows are dealt; many where nobody knows the rows."""
    return max(1, workers, 32 if rows is None else -(-rows // BUCKET_ROWS))


def _window_frame(
    plan: FeaturePlan, entity: str, events: pd.DataFrame, labels: pd.DataFrame, as_of: datetime
) -> pd.DataFrame:
    if events.empty:
        types: Mapping[str, Any] = dict.fromkeys(window_names(plan, entity), np.float32)
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
    return window_frame(plan, entity, events, labels, as_of, ROW)


def _bucket_of_rows(keys: pd.Series[Any], rows: Any, buckets: int) -> Any:
    """The bucket of each row; who has no entity is alone and goes anywhere."""
    codes, names = pd.factorize(keys.to_numpy(dtype=object))
    hashes = pd.util.hash_array(np.asarray(names, dtype=object), categorize=False) if len(names) else np.zeros(0)
    numbers = (hashes % np.uint64(buckets)).astype(np.int64) if len(names) else np.zeros(0, dtype=np.int64)
    return np.where(codes < 0, rows % buckets, np.append(numbers, 0)[codes])


def _positive_labels(ids: pd.Series[Any], labels: pd.DataFrame, rows: Any) -> pd.DataFrame:
    """The labels of events that were ever positive, with the row that they are about; others change no window."""
    positive = labels["event_id"].isin(labels["event_id"][labels["y"] == 1])
    revisions = labels[positive.to_numpy()]
    positions = pd.Index(ids.to_numpy(dtype=object)).get_indexer(pd.Index(revisions["event_id"].to_numpy(dtype=object)))
    return revisions[positions >= 0].assign(**{ROW: rows[positions[positions >= 0]]})
