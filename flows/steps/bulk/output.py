"""Where bulk scoring writes: CSV, Parquet (a file or a folder) and SQL tables, from finished parts.

What is written appears under its final name at once, or not at all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.errors import FlowRefused, SourceOptionsError, SourceUnavailable
from flows.sources.locations import read_address
from flows.steps.bulk.input import split_table
from flows.steps.bulk.parts import ARROW, DICTIONARY, PARQUET, Parts, part_schema, read_part

if TYPE_CHECKING:
    import pyarrow as pa


class BulkOutput:
    """Where a list of scores goes: ``.csv``, ``.parquet``, a folder of Parquet files, or ``URL#table``.

    Args:
        text: path or ``URL#table``.
        spare: folder for the unfinished parts of a database table.
    """

    def __init__(self, text: str, fallback_folder: Path) -> None:
        self.address = read_address(text)
        self.database = split_table(self.address.value)
        if self.database is None and "://" in self.address.value:
            raise SourceOptionsError(f"{self.address.shown}: scores are written to a local path or a database table")
        target = Path(self.address.value).absolute() if self.database is None else fallback_folder / self.database[1]
        self.place = target
        suffix = PARQUET if self.database is None and self._folder() else ARROW
        self.parts = Parts(target.with_name(f".{target.name}.parts"), suffix)
        self.quarantine = target.with_name(f"{target.name}.quarantine.csv")

    def check(self) -> None:
        """Refuse what a finished run could not be put in place of.

        Raises:
            FlowRefused: a folder that is no list of scores, or a database table that exists.
        """
        if self.database is None:
            replaceable = not self.place.is_dir() or (self._folder() and not self._has_foreign_files())
            if not replaceable:
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
        new_path = self.place.with_name(f".{self.place.name}.new")
        _remove_path(new_path)
        if self._folder():
            _link_all(parts, new_path)
            old_path = self.place.with_name(f".{self.place.name}.old")
            _remove_path(old_path)
            # A folder cannot replace one that is not empty: for an instant there is none, never a half.
            if self.place.exists():
                self.place.rename(old_path)
            new_path.rename(self.place)
            _remove_path(old_path)
            return
        (_to_csv if self.place.suffix == ".csv" else _to_parquet)(parts, new_path)
        with new_path.open("rb") as stream:
            os.fsync(stream.fileno())
        new_path.replace(self.place)

    def _folder(self) -> bool:
        return self.place.suffix not in (".csv", ".parquet", ".pq")

    def _has_foreign_files(self) -> bool:
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
                read_part(part).to_pandas().to_sql(
                    self.database[1], connection, index=False, if_exists="append", chunksize=10_000
                )
            connection.commit()


def _to_parquet(parts: Sequence[Path], target: Path) -> None:
    import pyarrow.parquet as pq

    def opened(schema: pa.Schema) -> Any:
        return pq.ParquetWriter(target, schema, use_dictionary=DICTIONARY)

    _write_parts(parts, opened, lambda writer, table: writer.write_table(table))


def _to_csv(parts: Sequence[Path], target: Path) -> None:
    from pyarrow import csv

    _write_parts(parts, lambda schema: csv.CSVWriter(target, schema), lambda writer, table: writer.write_table(table))


def _write_parts(
    parts: Sequence[Path], open_writer: Callable[[pa.Schema], Any], write: Callable[[Any, pa.Table], None]
) -> None:
    with open_writer(part_schema(parts[0])) as writer:
        for part in parts:
            write(writer, read_part(part))


def _link_all(parts: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for part in parts:
        os.link(part, folder / part.name)


def _remove_path(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
