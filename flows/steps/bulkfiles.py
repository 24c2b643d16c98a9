"""Where bulk scoring reads and writes: CSV, Parquet (a file or a folder) and SQL tables, in chunks.

A database table is named ``URL#table``. Reading never holds more than one chunk; what is written
appears under its final name at once, or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.usecase import UseCase
from flows.errors import FlowRefused, SchemaProblem, SourceOptionsError, SourceUnavailable
from flows.sources.address import Address, read_address
from flows.sources.csv import SUFFIXES as CSV_SUFFIXES
from flows.sources.csv import CsvSource
from flows.sources.files import list_files, translated
from flows.sources.parquet import SUFFIXES as PARQUET_SUFFIXES
from flows.sources.parquet import ParquetSource, streamed
from flows.sources.sql import SqlSource
from flows.sources.table import wanted

if TYPE_CHECKING:
    import pyarrow as pa

DICTIONARY = ["model"]
"""Columns of a list with few different values: to look for them among ids and scores costs more than it saves."""


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
        with translated(self.address):
            told = [self._system.info(file) for file in self.files]
        return [[i["name"], i.get("size"), str(i.get("mtime", i.get("LastModified", "")))] for i in told]

    def rows(self) -> int | None:
        """Number of rows where it is known without reading them (Parquet), else none."""
        if self._database is not None or self.csv:
            return None
        with translated(self.address):
            return int(self._parquet()._dataset().count_rows())

    def chunks(self, size: int) -> Iterator[pd.DataFrame]:
        """Tables of ``size`` rows (the last is shorter), with fresh indexes, in the order of the input."""
        frames = self._sql(size) if self._database is not None else self._text() if self.csv else self._columns(size)
        yield from even(frames, size)

    def _parquet(self) -> ParquetSource:
        return ParquetSource(self.usecase, self.address.value)

    def _columns(self, size: int) -> Iterator[pd.DataFrame]:
        import pyarrow as pa

        source = self._parquet()
        with translated(self.address):
            try:
                dataset = source._dataset()
                names = wanted(dataset.schema.names, self.usecase)
                for table in even_tables(streamed(dataset, names, batch_size=size), size):
                    yield source._plain(table).to_pandas(integer_object_nulls=True)
            except pa.ArrowException as exc:
                raise SchemaProblem(f"{source.origin}: not readable as one Parquet table ({exc})") from exc

    def _text(self) -> Iterator[pd.DataFrame]:
        # Only the time column would be needed for a window; a whole file has none.
        yield from CsvSource(self.usecase, self.address.value).chunks(None)

    def _sql(self, size: int) -> Iterator[pd.DataFrame]:
        import sqlalchemy as sa

        assert self._database is not None
        url, table = self._database
        source = SqlSource(self.usecase, url, table)
        with source._connected() as connection:
            types = source._column_types(connection)
            columns = [sa.column(name, types[name]) for name in wanted(types, self.usecase)]
            # Rows of a table have no order of their own, and a resumed run must meet them in the same one.
            keys = [c for c in columns if c.name in _order_names(self.usecase)]
            query = sa.select(*columns).select_from(sa.table(source._table, schema=source._schema or None))
            streamed = connection.execution_options(stream_results=True)
            yield from pd.read_sql(query.order_by(*keys), streamed, chunksize=size, dtype_backend="numpy_nullable")


def _order_names(usecase: UseCase) -> set[str]:
    columns = [usecase.column(usecase.event_time), usecase.column(usecase.event_id)]
    return {name for column in columns for name in (column.name, column.external_name)}


def even_tables(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """Arrow batches of any length as tables of ``size`` rows, the last shorter; nothing is copied."""
    import pyarrow as pa

    kept: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        if batch.num_rows:
            kept.append(batch)
            held += batch.num_rows
        while held >= size:
            table = pa.Table.from_batches(kept)
            yield table.slice(0, size)
            held -= size
            kept = table.slice(size).to_batches() if held else []
    if held:
        yield pa.Table.from_batches(kept)


def even(frames: Iterator[pd.DataFrame], size: int) -> Iterator[pd.DataFrame]:
    """Frames of any length as frames of ``size`` rows."""
    kept: list[pd.DataFrame] = []
    held = 0
    for frame in frames:
        kept.append(frame)
        held += len(frame)
        while held >= size:
            whole = kept[0] if len(kept) == 1 else pd.concat(kept, ignore_index=True)
            if held == size and isinstance(whole.index, pd.RangeIndex) and whole.index.start == 0:
                yield whole
            else:
                yield whole.iloc[:size].reset_index(drop=True)
            kept = [whole.iloc[size:]] if held > size else []
            held -= size
    if held:
        yield (kept[0] if len(kept) == 1 else pd.concat(kept)).reset_index(drop=True)


def split_table(text: str) -> tuple[str, str] | None:
    """URL and table of ``URL#table``, or none for a path or the URL of a file.

    Raises:
        SourceOptionsError: a database URL without a table.
    """
    scheme = text.partition("://")[0].partition("+")[0]
    if scheme not in ("sqlite", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle"):
        return None
    url, mark, table = text.rpartition("#")
    if not mark or not table:
        raise SourceOptionsError("a database is named URL#table, such as sqlite:////data/events.db#events")
    return url, table


class BulkOutput:
    """Where a list of scores goes: ``.csv``, ``.parquet``, a folder of Parquet files, or ``URL#table``.

    Args:
        text: path or ``URL#table``.
        spare: folder for the unfinished parts of a database table.
    """

    def __init__(self, text: str, spare: Path) -> None:
        self.address = read_address(text)
        self.database = split_table(self.address.value)
        if self.database is None and "://" in self.address.value:
            raise SourceOptionsError(f"{self.address.shown}: scores are written to a local path or a database table")
        place = Path(self.address.value).absolute() if self.database is None else spare / self.database[1]
        self.place = place
        self.parts = place.with_name(f".{place.name}.parts")
        self.quarantine = place.with_name(f"{place.name}.quarantine.csv")

    def check(self) -> None:
        """Refuse what a finished run could not be put in place of.

        Raises:
            FlowRefused: a folder that is no list of scores, or a database table that exists.
        """
        if self.database is None:
            mine = not self.place.is_dir() or (self._folder() and not self._strangers())
            if not mine:
                raise FlowRefused(f"{self.place} is a folder that holds other files; name another --out")
            return
        import sqlalchemy as sa

        with self._engine() as engine:
            if sa.inspect(engine).has_table(self.database[1]):
                raise FlowRefused(f"table {self.database[1]} exists already; name another, or drop it first")

    def publish(self, parts: Sequence[Path]) -> None:
        """Make one finished output of the parts and put it in its place at once."""
        if self.database is not None:
            self._to_database(parts)
            return
        fresh = self.place.with_name(f".{self.place.name}.new")
        _remove(fresh)
        if self._folder():
            _link_all(parts, fresh)
            old = self.place.with_name(f".{self.place.name}.old")
            _remove(old)
            # A folder cannot replace one that is not empty: for an instant there is none, never a half.
            if self.place.exists():
                self.place.rename(old)
            fresh.rename(self.place)
            _remove(old)
            return
        (_to_csv if self.place.suffix == ".csv" else _to_parquet)(parts, fresh)
        with fresh.open("rb") as stream:
            os.fsync(stream.fileno())
        fresh.replace(self.place)

    def _folder(self) -> bool:
        return self.place.suffix not in (".csv", ".parquet", ".pq")

    def _strangers(self) -> bool:
        return any(not f.name.startswith("part-") for f in self.place.iterdir())

    def _engine(self) -> Any:
        from contextlib import contextmanager

        import sqlalchemy as sa

        assert self.database is not None
        url = sa.make_url(self.database[0])
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")

        @contextmanager
        def opened() -> Iterator[sa.Engine]:
            engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
            try:
                yield engine
            except sa.exc.SQLAlchemyError as exc:
                text = self.address.scrub(str(getattr(exc, "orig", None) or exc))
                raise SourceUnavailable(f"{self.address.shown}: {text}") from None
            finally:
                engine.dispose()

        return opened()

    def _to_database(self, parts: Sequence[Path]) -> None:
        """All rows and the table itself in one transaction: both databases create tables inside one."""
        assert self.database is not None
        with self._engine() as engine, engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                # Python's driver would commit before it creates a table.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            for part in parts:
                pd.read_parquet(part).to_sql(
                    self.database[1], connection, index=False, if_exists="append", chunksize=10_000
                )
            connection.commit()


def _to_parquet(parts: Sequence[Path], target: Path) -> None:
    import pyarrow.parquet as pq

    def opened(schema: pa.Schema) -> Any:
        return pq.ParquetWriter(target, schema, use_dictionary=DICTIONARY)

    _each(parts, opened, lambda writer, table: writer.write_table(table))


def _to_csv(parts: Sequence[Path], target: Path) -> None:
    from pyarrow import csv

    _each(parts, lambda schema: csv.CSVWriter(target, schema), lambda writer, table: writer.write_table(table))


def _each(parts: Sequence[Path], opened: Callable[[pa.Schema], Any], put: Callable[[Any, pa.Table], None]) -> None:
    import pyarrow.parquet as pq

    with opened(pq.read_schema(parts[0])) as writer:
        for part in parts:
            put(writer, pq.read_table(part))


def _link_all(parts: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for part in parts:
        os.link(part, folder / part.name)


def _remove(place: Path) -> None:
    with suppress(FileNotFoundError):
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
