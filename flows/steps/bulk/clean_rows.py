"""Rows of a Parquet table that are clean to see: checked column by column, their ids never made into Python objects.

Whatever is not plain to see (a refused value, an id of another kind, a repeated one) is left to
:meth:`bentos.schema.event_schema.EventSchema.read_table`, which says what is wrong with which row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bentos.schema.column_parsing import read_column
from bentos.schema.table_cleaning import time_order
from bentos.usecase.definition import Column, UseCase
from flows.sources.table import column_in

if TYPE_CHECKING:
    import pyarrow as pa

_SPACE, _PRINTABLE = np.uint8(0x20), np.uint8(0x5F)
"""Printable ASCII begins with the space; so many characters it has."""
_HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""An odd number with bits everywhere (2**64 over the golden ratio): no key is lost by multiplying with it."""


@dataclass(frozen=True)
class ClearRows:
    """Rows of which none is refused, in the order of :class:`bentos.schema.table_cleaning.TableRead`.

    Attributes:
        ids: their ids, text.
        events: an events frame of all other declared columns.
    """

    ids: pa.Array
    events: pd.DataFrame


def clear_rows(table: pa.Table, usecase: UseCase) -> ClearRows | None:
    """The rows of a table if all of them are good and distinct; none where that takes a closer look.

    Args:
        table: columns with the types that :func:`flows.sources.parquet.to_plain_types` leaves.
    """
    if usecase.lookups:  # rows are found by clean ids, which take Python objects
        return None
    columns: dict[str, Any] = {}
    ids: pa.Array | None = None
    for column in usecase.columns:
        name = column_in(table.column_names, column)
        if name is None or table.column_names.count(name) > 1 or column.name in usecase.privacy.hashed:
            return None
        if column.name == usecase.event_id:
            ids = _clear_ids(table.column(name), column)
            if ids is None:
                return None
            continue
        values, codes = read_column(_series(table.column(name)), column, usecase.zone)
        if codes.any():
            return None
        columns[column.name] = values
    # Without a copy: pandas would put all numbers into one block.
    events = pd.DataFrame(columns, copy=False)
    return None if ids is None else _sort_by_time(ids, events, usecase.event_time)


def _sort_by_time(ids: pa.Array, events: pd.DataFrame, time: str) -> ClearRows:
    stamps = events[time].to_numpy("M8[us]").view(np.int64)
    if (np.diff(stamps) > 0).all():
        return ClearRows(ids, events)
    order = time_order(stamps, ids.to_numpy(zero_copy_only=False))
    if order is None:
        return ClearRows(ids, events)
    return ClearRows(ids.take(order), events.iloc[order].reset_index(drop=True))


def _series(column: pa.ChunkedArray) -> pd.Series[Any]:
    """What pandas makes of a column, without its copy of numbers."""
    import pyarrow as pa

    if pa.types.is_floating(column.type) and not column.null_count:
        return pd.Series(column.to_numpy(), copy=False)
    series: pd.Series[Any] = column.to_pandas(integer_object_nulls=True)
    return series


def _clear_ids(column: pa.ChunkedArray, definition: Column) -> pa.Array | None:
    """Distinct ids of printable ASCII as text, or none where one of them may be something else."""
    import pyarrow as pa

    if column.null_count or definition.categories or definition.pan_guard:
        return None
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    if column.type != pa.string():
        return None
    ids = pa.concat_arrays(column.chunks)
    if not _plain_texts(ids, definition.max_length) or not _all_distinct(ids):
        return None
    return ids


def _plain_texts(texts: pa.Array, max_length: int) -> bool:
    """Whether all texts have 1 to ``max_length`` characters, all of them printable ASCII; looked at as bytes."""
    _, ends, content = texts.buffers()
    edges = np.frombuffer(ends, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    lengths = np.diff(edges)
    if content is None or not len(lengths) or lengths.min() < 1 or lengths.max() > max_length:
        return False
    letters = np.frombuffer(content, dtype=np.uint8)[edges[0] : edges[-1]]
    return bool((letters - _SPACE < _PRINTABLE).all())


def _all_distinct(texts: pa.Array) -> bool:
    """Whether no text is there twice.

    Texts of one length are looked at as numbers of 64 bits, several times as fast: where these differ, so do the
    texts. Equal ones may be a coincidence, and are compared as texts.
    """
    import pyarrow.compute as pc

    _, ends, content = texts.buffers()
    edges = np.frombuffer(ends, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    size = int(edges[1] - edges[0])
    if (np.diff(edges) == size).all():
        padded = np.zeros((len(texts), -(-size // 8) * 8), dtype=np.uint8)
        padded[:, :size] = np.frombuffer(content, dtype=np.uint8)[edges[0] : edges[-1]].reshape(-1, size)
        words = padded.view(np.uint64)
        keys = words[:, 0].copy()
        for word_index in range(1, words.shape[1]):
            keys = keys * _HASH_MULTIPLIER ^ words[:, word_index]
        keys.sort()
        if (keys[1:] != keys[:-1]).all():
            return True
    return len(pc.unique(texts)) == len(texts)
