"""Parquet files: one, a folder of them, or an fsspec URL; time filter and columns are pushed down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.errors import SchemaProblem, SourceUnavailable
from flows.sources.locations import list_files, read_address, translate_errors
from flows.sources.table import TableSource, column_in, columns_to_read, time_name
from monitoring.core.calendar import TimeWindow

SUFFIXES = (".parquet", ".pq")
MARGIN = timedelta(days=1)
"""Rows this much around the window are fetched too, because local times differ from UTC; the exact
cut follows in UTC."""


class ParquetSource(TableSource):
    """Events in Parquet files, which may have columns in other orders or lack some.

    ``row`` in the quarantine counts the rows that were fetched for the window, from 0.
    """

    kind = "parquet"

    def __init__(self, usecase: UseCase, path: str) -> None:
        super().__init__(usecase)
        self._address = read_address(path)

    @property
    def origin(self) -> str:
        """What is read, without passwords."""
        return f"parquet {self._address.shown}"

    def chunks(self, window: TimeWindow | None, times_only: bool = False) -> Iterator[pd.DataFrame]:
        """The rows around the window, and those without a time."""
        import pyarrow as pa

        with translate_errors(self._address):
            try:
                dataset = self._dataset()
                time = time_name(dataset.schema.names, self.usecase, self.origin)
                columns = [time] if times_only else columns_to_read(dataset.schema.names, self.usecase)
                around = None if window is None else _around(dataset.schema.field(time), window)
                if times_only and window is None:
                    # Times of all rows are looked at part by part: there may be more of them than memory.
                    for batch in streamed(dataset, columns):
                        yield frame_of(pa.Table.from_batches([batch]), self.usecase)
                    return
                frame = frame_of(dataset.to_table(columns=columns, filter=around), self.usecase)
            except pa.ArrowInvalid as exc:
                raise SchemaProblem(f"{self.origin}: not readable as one Parquet table ({exc})") from exc
            except (pa.ArrowException, NotImplementedError) as exc:
                raise SourceUnavailable(f"{self.origin}: {exc}") from exc
        yield frame

    def rows(self) -> int:
        """How many rows the files hold; nothing but their ends is read."""
        with translate_errors(self._address):
            return int(self._dataset().count_rows())

    def _dataset(self) -> Any:
        import pyarrow as pa
        import pyarrow.dataset as ds
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        system, files = list_files(self._address, SUFFIXES)
        factory = ds.FileSystemDatasetFactory(PyFileSystem(FSSpecHandler(system)), files, _format())
        # Files of different days may differ in integer widths and in optional columns.
        schema = pa.unify_schemas(factory.inspect_schemas(), promote_options="permissive")
        return factory.finish(schema)


def frame_of(table: Any, usecase: UseCase) -> pd.DataFrame:
    """An Arrow table as the frame that :meth:`bentos.schema.event_schema.EventSchema.read_table` takes."""
    frame: pd.DataFrame = to_plain_types(table, usecase).to_pandas(integer_object_nulls=True)
    return frame


def to_plain_types(table: Any, usecase: UseCase) -> Any:
    """Types that pandas would change on the way (dictionaries, decimals, ids with gaps) made plain."""
    import pyarrow as pa

    ids = {column_in(table.column_names, c) for c in usecase.columns if c.type == "identifier"}
    for position, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if field.name in ids and pa.types.is_integer(kind) and table.column(position).null_count:
            # Else pandas would make 7 into 7.0.
            kind = pa.string()
        elif pa.types.is_decimal(kind):
            kind = pa.float64()
        if kind != field.type:
            table = table.set_column(position, field.name, table.column(position).cast(kind))
    # What the writer's pandas noted about types no longer holds.
    return table.replace_schema_metadata(None)


def streamed(dataset: Any, columns: Sequence[str], **options: Any) -> Iterator[Any]:
    """The record batches of a dataset, read as they are taken.

    By default its threads read ahead of whoever takes the batches, without an end: memory that grows with the files.
    """
    batches: Iterator[Any] = dataset.to_batches(
        columns=list(columns), batch_readahead=1, fragment_readahead=1, use_threads=False, **options
    )
    return batches


def _format() -> Any:
    import pyarrow.dataset as ds

    # By default all columns of a whole file are read ahead and kept until its end: memory that grows with the file.
    return ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True)
    )


def _around(field: Any, window: TimeWindow) -> Any:
    """A filter on the time column, or none where its type has no order in time (text)."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    if not (pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)):
        return None
    aware = pa.types.is_timestamp(field.type) and field.type.tz is not None
    column = ds.field(field.name)

    def edge(moment: datetime, margin: timedelta) -> Any:
        # Whole seconds fit every unit of time that a file may have.
        utc = (moment.astimezone(UTC) + margin).replace(microsecond=0)
        return pa.scalar(utc if aware else utc.replace(tzinfo=None)).cast(field.type, safe=False)

    return (column >= edge(window.start, -MARGIN)) & (column <= edge(window.end, MARGIN)) | column.is_null()
