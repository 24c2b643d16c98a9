"""Where bulk scoring reads: CSV, Parquet (a file or a folder) and SQL tables, in chunks.

A database table is named ``URL#table``. Reading never holds more than one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.errors import SchemaProblem, SourceOptionsError
from flows.sources.csv import SUFFIXES as CSV_SUFFIXES
from flows.sources.csv import CsvSource
from flows.sources.locations import Address, list_files, read_address, translate_errors
from flows.sources.parquet import SUFFIXES as PARQUET_SUFFIXES
from flows.sources.parquet import ParquetSource, streamed
from flows.sources.sql import SqlSource
from flows.sources.table import columns_to_read

if TYPE_CHECKING:
    import pyarrow as pa

Rows: TypeAlias = "pa.Table | pd.DataFrame"
"""Rows as they were read: of Parquet in Arrow's columns, of anything else in a frame."""


class BulkInput:
    """A table that is read from its beginning in chunks; nothing is opened before that.

    Args:
        usecase: says which columns are read.
        text: a path, an fsspec URL, or ``URL#table`` for a database.

    Raises:
        SourceOptionsError: the path does not exist.
    """

    def __init__(self, usecase: UseCase, text: str) -> None:
        self.usecase = usecase
        self.address: Address = read_address(text)
        self._system: Any = None
        self.files: list[str] = []
        self._database = split_table(self.address.value)
        if self._database is None:
            suffixes = CSV_SUFFIXES + PARQUET_SUFFIXES
            self._system, self.files = list_files(self.address, suffixes)

    @property
    def csv(self) -> bool:
        """Whether the files are CSV."""
        return bool(self.files) and self.files[0].endswith(CSV_SUFFIXES)

    def identity(self) -> list[Any]:
        """What the input is, for a run that goes on later: names, sizes and times of its files.

        A database table has none: whoever resumes a run answers for it that the table is the same.
        """
        if self._database is not None:
            return [self.address.shown]
        with translate_errors(self.address):
            file_infos = [self._system.info(file) for file in self.files]
        return [
            [info["name"], info.get("size"), str(info.get("mtime", info.get("LastModified", "")))]
            for info in file_infos
        ]

    def rows(self) -> int | None:
        """Number of rows where it is known without reading them (Parquet), else none."""
        if self._database is not None or self.csv:
            return None
        with translate_errors(self.address):
            return int(self._parquet()._dataset().count_rows())

    def chunks(self, size: int) -> Iterator[Rows]:
        """Tables of ``size`` rows (the last is shorter), with fresh indexes, in the order of the input."""
        if self._database is not None:
            return even_frames(self._sql_frames(size), size)
        return even_frames(self._text(), size) if self.csv else self._parquet_tables(size)

    def _parquet(self) -> ParquetSource:
        return ParquetSource(self.usecase, self.address.value)

    def _parquet_tables(self, size: int) -> Iterator[pa.Table]:
        import pyarrow as pa

        source = self._parquet()
        with translate_errors(self.address):
            try:
                dataset = source._dataset()
                names = columns_to_read(dataset.schema.names, self.usecase)
                yield from even_tables(streamed(dataset, names, batch_size=size), size)
            except pa.ArrowException as exc:
                raise SchemaProblem(f"{source.origin}: not readable as one Parquet table ({exc})") from exc

    def _text(self) -> Iterator[pd.DataFrame]:
        # Only the time column would be needed for a window; a whole file has none.
        yield from CsvSource(self.usecase, self.address.value).chunks(None)

    def _sql_frames(self, size: int) -> Iterator[pd.DataFrame]:
        import sqlalchemy as sa

        assert self._database is not None
        url, table = self._database
        source = SqlSource(self.usecase, url, table)
        with source._connected() as connection:
            types = source._column_types(connection)
            columns = [sa.column(name, types[name]) for name in columns_to_read(types, self.usecase)]
            # Rows of a table have no order of their own, and a resumed run must meet them in the same one.
            keys = [c for c in columns if c.name in _order_names(self.usecase)]
            query = sa.select(*columns).select_from(sa.table(source._table, schema=source._schema or None))
            streaming_connection = connection.execution_options(stream_results=True)
            yield from pd.read_sql(
                query.order_by(*keys), streaming_connection, chunksize=size, dtype_backend="numpy_nullable"
            )


def _order_names(usecase: UseCase) -> set[str]:
    columns = [usecase.column(usecase.event_time), usecase.column(usecase.event_id)]
    return {name for column in columns for name in (column.name, column.external_name)}


def even_tables(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """Arrow batches of any length as tables of ``size`` rows, the last shorter; nothing is copied."""
    import pyarrow as pa

    pending: list[pa.RecordBatch] = []
    pending_rows = 0
    for batch in batches:
        if batch.num_rows:
            pending.append(batch)
            pending_rows += batch.num_rows
        while pending_rows >= size:
            table = pa.Table.from_batches(pending)
            yield table.slice(0, size)
            pending_rows -= size
            pending = table.slice(size).to_batches() if pending_rows else []
    if pending_rows:
        yield pa.Table.from_batches(pending)


def even_frames(frames: Iterator[pd.DataFrame], size: int) -> Iterator[pd.DataFrame]:
    """Frames of any length as frames of ``size`` rows."""
    pending: list[pd.DataFrame] = []
    pending_rows = 0
    for frame in frames:
        pending.append(frame)
        pending_rows += len(frame)
        while pending_rows >= size:
            whole = pending[0] if len(pending) == 1 else pd.concat(pending, ignore_index=True)
            if pending_rows == size and isinstance(whole.index, pd.RangeIndex) and whole.index.start == 0:
                yield whole
            else:
                yield whole.iloc[:size].reset_index(drop=True)
            pending = [whole.iloc[size:]] if pending_rows > size else []
            pending_rows -= size
    if pending_rows:
        yield (pending[0] if len(pending) == 1 else pd.concat(pending)).reset_index(drop=True)


def split_table(text: str) -> tuple[str, str] | None:
    """URL and table of ``URL#table``, or none for a path or the URL of a file.

    Raises:
        SourceOptionsError: a database URL without a table.
    """
    scheme = text.partition("://")[0].partition("+")[0]
    if scheme not in ("sqlite", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle"):
        return None
    url, separator, table = text.rpartition("#")
    if not separator or not table:
        raise SourceOptionsError("a database is named URL#table, such as sqlite:////data/events.db#events")
    return url, table
