"""Parquet files whose row groups each hold one value of a key: a shuffle through files.

Writers cut a frame by key, readers take one key out of every file and skip the rest by the statistics
of the row groups. So neither side holds more than one part, however many rows there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

KEY = "part.key"


def write_frame(path: Path, frame: pd.DataFrame, keys: Any = None) -> None:
    """Write a frame under a temporary name, then give it its own; with ``keys`` one row group for each value.

    Rows keep their order within a key.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    cuts, sorted_keys = [0, len(frame)], None
    if keys is not None:
        order = np.argsort(keys, kind="stable")
        sorted_keys = np.asarray(keys)[order].astype(np.int32)
        frame = frame.iloc[order].assign(**{KEY: sorted_keys})
        cuts = [0, *(np.flatnonzero(np.diff(sorted_keys)) + 1).tolist(), len(frame)]
    table = pa.Table.from_pandas(frame.reset_index(drop=True), preserve_index=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.new")
    # No statistics of texts: nobody asks for them, and they are long.
    with pq.ParquetWriter(partial, table.schema, write_statistics=[KEY] if keys is not None else False) as writer:
        for start, end in pairwise(cuts):
            writer.write_table(table.slice(start, end - start), row_group_size=max(1, end - start))
    partial.replace(path)


def read_frame(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A whole file of :func:`write_frame`."""
    import pyarrow.parquet as pq

    # One thread: the worker's tasks are what runs beside each other.
    table = pq.read_table(path, columns=columns, use_threads=False, partitioning=None)
    frame: pd.DataFrame = table.to_pandas(use_threads=False)
    return frame


def read_key(paths: Sequence[Path], key: int) -> pd.DataFrame:
    """The rows of one key out of several files, file by file; without the key."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in paths:
        with pq.ParquetFile(path) as file:
            groups = [g for g in range(file.num_row_groups) if _has_key(file.metadata.row_group(g), key)]
            empty = file.schema_arrow.empty_table()
            tables.append(file.read_row_groups(groups, use_threads=False) if groups else empty)
    # A column without any value in one part has no type there.
    table = pa.concat_tables([t.replace_schema_metadata(None) for t in tables], promote_options="permissive")
    frame: pd.DataFrame = table.drop_columns([KEY]).to_pandas(use_threads=False)
    return frame


def _has_key(group: Any, key: int) -> bool:
    if not group.num_rows:
        return False
    statistics = group.column(group.num_columns - 1).statistics
    return bool(statistics.min == key)
