"""How a snapshot's frames become a digest and a Parquet table.

The digest is SHA-256 over the CONTENT in a canonical form, so it does not change with the Parquet
writer, its compression or its version:

- the line ``incumbent-snapshot-1``;
- for ``events``, then ``labels``, then ``revisions`` where they differ from ``labels``: one line of
  canonical JSON with the frame's name, its number of rows and its columns as [name, kind], then the
  columns in order, each as bytes;
- a number is its little-endian bytes (every NaN the same one), a time its microseconds since 1970 as
  a 64-bit integer, a text column the byte lengths of its values as 64-bit integers (-1 for a missing
  one) and then their UTF-8 bytes.

In the Parquet file each row is an event with its label in ``label.y``, ``label.observed_at`` and
``label.source`` (empty where the label is unknown) and, where there are more, all revisions of it as
a list in ``label.revisions``. Any Parquet reader can use it. Where flagged events are blocked the labels
have one more column, ``weight``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.errors import SnapshotError
from flows.sources.base import LABEL_COLUMNS
from monitoring.core.hashing import canonical_json
from monitoring.stats.label_weights import WEIGHT

FORMAT = "incumbent-snapshot-1"
_REVISIONS = "label.revisions"


@dataclass(frozen=True)
class Frames:
    """Events with their labels and label revisions, both in the order of the events.

    Attributes:
        event_id: the events' id column.
        events: one row an event.
        labels: at most one row an event.
        revisions: every revision, or none where there are no more than ``labels``.
    """

    event_id: str
    events: pd.DataFrame
    labels: pd.DataFrame
    revisions: pd.DataFrame | None

    @staticmethod
    def of(event_id: str, events: pd.DataFrame, labels: pd.DataFrame, revisions: pd.DataFrame | None) -> Frames:
        """Bring labels into the order of the events.

        Raises:
            SnapshotError: an id repeats, or a label names no event.
        """
        events = events.reset_index(drop=True)
        index = pd.Index(events[event_id])
        if not index.is_unique or labels["event_id"].duplicated().any():
            raise SnapshotError("an event id repeats in the events or in the labels; read them through a source")
        labels = _order_labels(labels, index)
        if revisions is not None:
            revisions = _order_labels(revisions, index)
            revisions = None if revisions.equals(labels) else revisions
        return Frames(event_id, events, labels, revisions)

    def digest(self) -> str:
        """SHA-256 of the canonical form."""
        hasher = hashlib.sha256(f"{FORMAT}\n".encode())
        for name in ("events", "labels", "revisions"):
            frame = getattr(self, name)
            for piece in () if frame is None else _canonical(name, frame):
                hasher.update(piece)
        return hasher.hexdigest()

    def to_table(self) -> pa.Table:
        """One row an event, its label beside it."""
        columns = {name: pa.array(self.events[name]) for name in self.events}
        index = pd.Index(self.events[self.event_id])
        label = _position_of_each(self.labels, index)
        for name in map(str, self.labels.columns[1:]):
            columns[f"label.{name}"] = pa.array(self.labels[name]).take(pa.array(label, mask=label < 0))
        if self.revisions is not None:
            columns[_REVISIONS] = _revision_lists(self.revisions, index)
        return pa.table(columns).replace_schema_metadata(
            {"incumbent.format": FORMAT, "incumbent.event_id": self.event_id}
        )

    @staticmethod
    def from_table(table: pa.Table) -> Frames:
        """The frames of :meth:`to_table`; ``KeyError`` or ``ArrowException`` for another table."""
        event_id = table.schema.metadata[b"incumbent.event_id"].decode()
        names = [n for n in table.column_names if not n.startswith("label.")]
        events = table.select(names).to_pandas()
        columns = [*LABEL_COLUMNS, WEIGHT] if f"label.{WEIGHT}" in table.column_names else list(LABEL_COLUMNS)
        flat = table.select([event_id, *(f"label.{name}" for name in columns[1:])]).rename_columns(columns)
        labels = flat.filter(flat["y"].is_valid()).to_pandas()
        revisions = _revision_frame(table, event_id) if _REVISIONS in table.column_names else None
        return Frames(event_id, events, labels, revisions)


def column_digests(frame: pd.DataFrame) -> dict[str, str]:
    """SHA-256 of each column's canonical bytes: equal columns of equal type have equal digests."""
    digests = {}
    for name in frame:
        kind = _kind(frame[name])
        hasher = hashlib.sha256(f"{FORMAT}\n{kind}\n".encode())
        for piece in _column_bytes(frame[name], kind):
            hasher.update(piece)
        digests[str(name)] = hasher.hexdigest()
    return digests


def _order_labels(labels: pd.DataFrame, index: pd.Index[str]) -> pd.DataFrame:
    """Labels in the order of the events; several of one event keep their order."""
    positions = index.get_indexer(pd.Index(labels["event_id"]))
    if (positions < 0).any():
        raise SnapshotError(f"{int((positions < 0).sum())} labels name no event of the snapshot; leave them out")
    columns = [*LABEL_COLUMNS, *(name for name in (WEIGHT,) if name in labels)]
    return labels.loc[:, columns].iloc[np.argsort(positions, kind="stable")].reset_index(drop=True)


def _position_of_each(labels: pd.DataFrame, index: pd.Index[str]) -> NDArray[np.int64]:
    """For each event the position of its label, -1 without one."""
    positions = pd.Index(labels["event_id"]).get_indexer(index)
    return np.asarray(positions, np.int64)


def _revision_lists(revisions: pd.DataFrame, index: pd.Index[str]) -> pa.ListArray:
    """The revisions (in the order of the events) as one list an event."""
    counts = np.bincount(index.get_indexer(pd.Index(revisions["event_id"])), minlength=len(index))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    fields = list(LABEL_COLUMNS[1:])
    structs = pa.StructArray.from_arrays([pa.array(revisions[n]) for n in fields], names=fields)
    return pa.ListArray.from_arrays(pa.array(offsets), structs)


def _revision_frame(table: pa.Table, event_id: str) -> pd.DataFrame:
    lists = table[_REVISIONS]
    ids = table[event_id].take(pc.list_parent_indices(lists))
    fields = pc.list_flatten(lists)
    columns = {n: pc.struct_field(fields, n) for n in LABEL_COLUMNS[1:]}
    frame: pd.DataFrame = pa.table({"event_id": ids, **columns}).to_pandas()
    return frame


def _canonical(name: str, frame: pd.DataFrame) -> Iterator[bytes]:
    kinds = [[str(c), _kind(frame[c])] for c in frame]
    yield canonical_json({"frame": name, "rows": len(frame), "columns": kinds}) + b"\n"
    for column, kind in kinds:
        yield from _column_bytes(frame[column], kind)


def _kind(column: pd.Series[Any]) -> str:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return "time"
    if column.dtype == object:
        return "text"
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return str(column.dtype)
    raise SnapshotError(f"column {column.name!r} of type {column.dtype} has no canonical form; use a declared type")


def _column_bytes(column: pd.Series[Any], kind: str) -> Iterator[bytes]:
    if kind == "text":
        texts = pa.array(column, pa.large_string())
        yield pc.fill_null(pc.binary_length(texts).cast(pa.int64()), -1).to_numpy(zero_copy_only=False).tobytes()
        yield "".join(column.dropna()).encode()
        return
    if kind == "time":
        values: NDArray[Any] = column.dt.tz_convert("UTC").dt.as_unit("us").astype(np.int64).to_numpy()
    else:
        values = column.to_numpy()
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    yield np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
