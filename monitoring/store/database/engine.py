"""One database: connections, transactions, its clock, and the translation of its errors.

The store in memory is SQLite in memory: a second implementation would have to repeat constraints and triggers, and
would drift.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import RLock
from typing import Any, Final

from sqlalchemy import Connection, Double, Engine, Table, create_engine, event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import StaticPool

from monitoring.errors import RowRefused, StoreError, StoreUnavailable

MEMORY_URL: Final = "memory://"
_BUSY_MS: Final = 5_000
_LOG = logging.getLogger(__name__)

_SQLITE_CLOCK = "SELECT CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"
_POSTGRES_CLOCK = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"


class Database:
    """Read and write transactions on one engine.

    SQLite runs in WAL mode with ``synchronous=NORMAL``: readers never wait for the writer, and a
    power cut may take the last commits. ``write(durable=True)`` waits for the disk.
    """

    def __init__(self, url: str, busy_ms: int = _BUSY_MS) -> None:
        self.url = _parse_url(url)
        self.engine = _make_engine(self.url, busy_ms)
        # Whoever forgets to close a store leaves no session behind in the server.
        weakref.finalize(self, self.engine.dispose)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.in_memory = isinstance(self.engine.pool, StaticPool)
        self.known_days: set[int] = set()
        """Days of the log that have a table of their own, as far as this process knows (PostgreSQL)."""
        self.days_retry_at = 0.0
        # A database in memory lives in one connection, which its users take in turn.
        self._turn: Any = RLock() if self.in_memory else nullcontext()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database.

        Raises:
            StoreUnavailable: the database cannot be reached or is locked.
        """
        with self._turn, translate_errors(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, durable: bool = False, lazy: bool = False) -> Iterator[Connection]:
        """A transaction that may write; SQLite takes its write lock at once, so it never upgrades midway.

        Args:
            durable: return from the commit only when it, and all before it, are on the disk.
            lazy: PostgreSQL need not wait for the disk either: for rows that can be stored again until
                a durable write has followed.

        Raises:
            StoreUnavailable: unreachable, locked or full; nothing was stored.
            RowRefused: a value cannot be stored; nothing was stored.
        """
        with self._turn, translate_errors(), self.engine.connect() as connection:
            if self.is_sqlite:
                level = "FULL" if durable else "NORMAL"
                connection.connection.driver_connection.execute(f"PRAGMA synchronous={level}")  # type: ignore[union-attr]  # an open connection has a driver's
                connection = connection.execution_options(incumbent_begin="BEGIN IMMEDIATE")
            with connection.begin():
                if lazy and not self.is_sqlite:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                yield connection

    def now(self, connection: Connection) -> int:
        """The database's own clock in microseconds: the same for all who share the database."""
        text = _SQLITE_CLOCK if self.is_sqlite else _POSTGRES_CLOCK
        return int(connection.exec_driver_sql(text).scalar_one())

    def lock(self, connection: Connection, key: int) -> None:
        """Let one transaction at a time pass with ``key``, so that row numbers appear in commit order.

        SQLite has one writer anyway.
        """
        if not self.is_sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({int(key)})")

    def insert_new(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> int:
        """Insert the rows whose unique key is new; returns how many those were.

        Goes to the driver directly: SQLAlchemy's per-row work would double the cost. ``INSERT OR
        IGNORE`` would also swallow rows that break a NOT NULL or CHECK rule, so it is not used.
        """
        if not rows:
            return 0
        head = f"INSERT INTO {table.name} ({', '.join(columns)})"  # names come from our own tables
        if self.is_sqlite:
            marks = ", ".join("?" * len(columns))
            text = f"{head} VALUES ({marks}) ON CONFLICT DO NOTHING"
            return connection.exec_driver_sql(text, list(rows)).rowcount
        text = f"{head} SELECT * FROM unnest({array_marks(table, columns)}) ON CONFLICT DO NOTHING"  # noqa: S608  # as above
        return connection.exec_driver_sql(text, as_arrays(table, columns, rows)).rowcount

    def copy_rows(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Append rows by ``COPY``, PostgreSQL's fastest way in; any row that breaks a rule refuses all.

        Raises:
            RowRefused, StoreUnavailable, StoreError: as :meth:`write`, whose transaction this needs.
        """
        from psycopg import Error
        from sqlalchemy.dialects import postgresql

        driver: Any = connection.connection.driver_connection
        types = [_COPY_TYPES[table.c[name].type.compile(postgresql.dialect())] for name in columns]  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are untyped
        text = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
        try:
            with driver.cursor() as cursor, cursor.copy(text) as copy:
                copy.set_types(types)
                for row in rows:
                    copy.write_row(row)
        except Error as error:
            raise _driver_error(error) from error

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


_COPY_TYPES: Final = {
    "TEXT": "text",
    "BIGINT": "int8",
    "INTEGER": "int4",
    "SMALLINT": "int2",
    "BYTEA": "bytea",
    "DOUBLE PRECISION": "float8",
}


def array_marks(table: Table, columns: Sequence[str]) -> str:
    """One parameter for each column, cast to an array of its type: one statement carries any number of rows."""
    from sqlalchemy.dialects import postgresql

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects are untyped
    return ", ".join(f"%s::{table.c[name].type.compile(dialect)}[]" for name in columns)


def as_arrays(table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    """The rows as one list for each column."""
    lists = [list(values) for values in zip(*rows, strict=True)]
    for index, name in enumerate(columns):
        if isinstance(table.c[name].type, Double):  # the driver refuses a list that mixes 1 and 0.5
            lists[index] = [None if value is None else float(value) for value in lists[index]]
    return tuple(lists)


def _driver_error(error: Exception) -> StoreError:
    """The meaning of an error that came past SQLAlchemy."""
    from psycopg import DataError, IntegrityError, OperationalError

    name = getattr(error, "sqlstate", None) or type(error).__name__
    if isinstance(error, (DataError, IntegrityError)):
        return RowRefused(f"the database refuses a row: {name}")
    if isinstance(error, OperationalError):
        return StoreUnavailable(f"the database cannot be used now: {name}")
    return StoreError(f"the database refuses a request: {name}")


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn errors of the driver into this room's errors."""
    try:
        yield
    except (exc.DataError, exc.IntegrityError) as error:
        raise RowRefused(f"the database refuses a row: {_describe_error(error)}") from error
    except (exc.OperationalError, exc.TimeoutError, exc.DisconnectionError) as error:
        raise StoreUnavailable(f"the database cannot be used now: {_describe_error(error)}") from error
    except exc.SQLAlchemyError as error:
        if _is_value_error(error):
            raise RowRefused(f"the database refuses a row: {_describe_error(error)}") from error
        if getattr(error, "connection_invalidated", False):
            raise StoreUnavailable(f"the connection to the database broke: {_describe_error(error)}") from error
        raise StoreError(f"the database refuses a request: {_describe_error(error)}") from error
    except (UnicodeError, OverflowError) as error:
        raise RowRefused(f"the database refuses a row: {type(error).__name__}") from error


def _is_value_error(error: exc.SQLAlchemyError) -> bool:
    """Whether the driver could not carry a value (a lone surrogate, a number that is too long)."""
    cause = getattr(error, "orig", None)
    if isinstance(cause, (UnicodeError, OverflowError, ValueError, TypeError)):
        return True
    return isinstance(error, (exc.InterfaceError, exc.ProgrammingError)) and "bind" in str(cause)


def _describe_error(error: exc.SQLAlchemyError) -> str:
    """What went wrong, without the statement and its parameters: those hold personal data."""
    cause = getattr(error, "orig", None) or error
    sqlstate = getattr(cause, "sqlstate", None)
    name = getattr(cause, "sqlite_errorname", None) or sqlstate or type(cause).__name__
    # SQLite's own texts name tables and columns, never values; PostgreSQL's DETAIL line quotes rows.
    return f"{name}: {str(cause).splitlines()[0]}" if type(cause).__module__ == "sqlite3" else str(name)


def _parse_url(url: str) -> URL:
    if url == MEMORY_URL:
        return make_url("sqlite://")
    try:
        database_url = make_url(url)
    except exc.ArgumentError as error:
        raise StoreError("the database URL cannot be read; expected e.g. sqlite:////path/log.db") from error
    if database_url.drivername in ("postgres", "postgresql"):
        return database_url.set(drivername="postgresql+psycopg")
    if database_url.get_backend_name() not in ("sqlite", "postgresql"):
        raise StoreError(f"no support for {database_url.get_backend_name()!r}; use sqlite or postgresql")
    return database_url


def _make_engine(url: URL, busy_ms: int) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=4, connect_args={"connect_timeout": 5})
    in_memory = url.database in (None, "", ":memory:")
    options: dict[str, Any] = {"connect_args": {"check_same_thread": False, "timeout": busy_ms / 1000}}
    if in_memory:
        options["poolclass"] = StaticPool
    engine = create_engine(url, **options)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transactions start too late and end before DDL; BEGIN is sent by us.
    connection.isolation_level = None
    for pragma in ("foreign_keys=ON", "recursive_triggers=ON", "cache_size=-65536", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("incumbent_begin", "BEGIN"))
