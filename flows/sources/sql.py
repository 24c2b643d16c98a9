"""A table or view behind any SQLAlchemy URL; the time window is pushed down as a WHERE.

The database is asked for a day more on either side, and for rows without a time: SQLite compares times as text, so an
exact comparison would lose rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.errors import SchemaProblem, SourceOptionsError, SourceUnavailable
from flows.sources.locations import read_address
from flows.sources.table import TableSource, columns_to_read, time_name
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine
    from sqlalchemy.types import TypeEngine

MARGIN = timedelta(days=1)
"""Rows this much around the window are fetched too: local times differ from UTC, and text is compared
by its date alone. The exact cut follows in UTC."""


class SqlSource(TableSource):
    """Events in a table or view, which may be named ``schema.table``.

    ``row`` in the quarantine counts the rows that were fetched for the window, from 0. A connection
    lives as long as one read.
    """

    kind = "sql"

    def __init__(self, usecase: UseCase, url: str, table: str) -> None:
        super().__init__(usecase)
        self._address = read_address(url)
        self._schema, _, self._table = table.rpartition(".")

    @property
    def origin(self) -> str:
        """What is read, without passwords."""
        name = f"{self._schema}.{self._table}" if self._schema else self._table
        return f"sql {self._address.shown} table {name}"

    def chunks(self, window: TimeWindow | None, times_only: bool = False) -> Iterator[pd.DataFrame]:
        """The rows around the window, and those whose time cannot be read."""
        import sqlalchemy as sa

        with self._connected() as connection:
            types = self._column_types(connection)
            time = time_name(types, self.usecase, self.origin)
            names = [time] if times_only else columns_to_read(types, self.usecase)
            as_text = _is_text(types[time], connection)
            if not (as_text or isinstance(types[time], sa.DateTime | sa.Date)):
                raise SchemaProblem(
                    f"{self.origin}: column {time} is {types[time]}; event times are date-times or text"
                )
            columns = {n: sa.column(n, sa.String() if n == time and as_text else types[n]) for n in names}
            query = sa.select(*columns.values()).select_from(sa.table(self._table, schema=self._schema or None))
            if window is not None:
                query = query.where(_around(columns[time], types[time], window, as_text))
            frame = pd.read_sql(query, connection, dtype_backend="numpy_nullable")
        yield frame

    def _column_types(self, connection: Connection) -> dict[str, TypeEngine[Any]]:
        import sqlalchemy as sa

        try:
            columns = sa.inspect(connection).get_columns(self._table, schema=self._schema or None)
        except sa.exc.NoSuchTableError as exc:
            raise SourceOptionsError(f"{self.origin}: no such table or view") from exc
        return {c["name"]: c["type"] for c in columns}

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection; errors of the driver lose the secrets of the URL."""
        import sqlalchemy as sa

        engine = self._engine()
        try:
            with engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as exc:
            text = str(getattr(exc, "orig", None) or exc)
            # The driver's own error may quote the URL, so it is dropped where it does.
            raise SourceUnavailable(f"{self.origin}: {self._address.scrub(text)}") from self._shown(exc)
        finally:
            engine.dispose()

    def _engine(self) -> Engine:
        import sqlalchemy as sa

        try:
            url = sa.make_url(self._address.value)
            if url.drivername in ("postgres", "postgresql"):
                url = url.set(drivername="postgresql+psycopg")  # the driver that comes with the product
            return sa.create_engine(url, poolclass=sa.pool.NullPool)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, ValueError) as exc:
            text = self._address.scrub(str(exc))
            raise SourceOptionsError(f"{self.origin}: not a usable database URL ({text})") from self._shown(exc)

    def _shown(self, exc: Exception) -> Exception | None:
        return exc if self._address.scrub(str(exc)) == str(exc) else None


def _is_text(kind: TypeEngine[Any], connection: Connection) -> bool:
    """Whether times are compared as text. SQLite has no time type: what it calls one is text."""
    import sqlalchemy as sa

    times = isinstance(kind, sa.DateTime | sa.Date)
    return isinstance(kind, sa.String) or (times and connection.dialect.name == "sqlite")


def _around(column: ColumnElement[Any], kind: TypeEngine[Any], window: TimeWindow, as_text: bool) -> Any:
    """A condition for the rows around the window and those without a readable time."""
    import sqlalchemy as sa

    low, high = window.start.astimezone(UTC) - MARGIN, window.end.astimezone(UTC) + 2 * MARGIN
    if as_text:
        # "2026-03-01T..." and "2026-03-01 ..." agree in the date; text without one sorts outside 0..9.
        inside = (column >= f"{low:%Y-%m-%d}") & (column < f"{high:%Y-%m-%d}")
        return inside | (column < "0") | (column >= ":") | column.is_(None)
    if isinstance(kind, sa.Date):
        return column.between(low.date(), high.date()) | column.is_(None)
    if not getattr(kind, "timezone", False):
        low, high = low.replace(tzinfo=None), high.replace(tzinfo=None)
    return column.between(low, high) | column.is_(None)
