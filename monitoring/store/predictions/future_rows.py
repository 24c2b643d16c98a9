"""Rows of the future that an older log holds: find them, and move them into quarantine.

Events count by their time, labels by ``observed_at``, actions by ``taken_at``. A row moves in one transaction with
up to 2,000 others, so whoever is interrupted starts again. The ledger of the spool says how a record came into the
database, not what became of its row later, so its accounting stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from monitoring.store.database.day_partitions import DAY_US, days_with_tables
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us
from monitoring.store.database.records import IN_FUTURE
from monitoring.store.database.tables import actions, labels, prediction_ids, predictions, quarantine, shadow

REPAIR: Final = "repair"
"""Stands for the writer of a quarantined row that came from a table, not from the spool."""
_CHUNK: Final = 2_000


@dataclass(frozen=True)
class _TimedTable:
    """A table: its key, its time, and the columns that its quarantined payload keeps."""

    kind: str
    table: Any
    key: Any
    time: Any
    kept: tuple[str, ...]


_TIMED_TABLES: Final = (
    _TimedTable("event", predictions, predictions.c.row_id, predictions.c.event_time, ("body",)),
    _TimedTable("label", labels, labels.c.label_id, labels.c.observed_at, ("event_id", "y", "observed_at", "source")),
    _TimedTable("action", actions, actions.c.action_id, actions.c.taken_at, ("event_id", "action", "by", "taken_at")),
)


@dataclass(frozen=True)
class FutureRows:
    """Rows of one kind (event, label, action) beyond a time: how many, and the first and last time they have."""

    kind: str
    rows: int
    first: datetime
    last: datetime


def find_future_rows(database: Database, usecase: str, after_us: int) -> list[FutureRows]:
    """Count the rows whose time lies after ``after_us``, microseconds; kinds without any are left out."""
    future_rows = []
    with database.read() as connection:
        for timed_table in _TIMED_TABLES:
            query = select(func.count(), func.min(timed_table.time), func.max(timed_table.time))
            count, first, last = connection.execute(query.where(*_is_later(timed_table, usecase, after_us))).one()
            if count:
                future_rows.append(FutureRows(timed_table.kind, int(count), from_us(first), from_us(last)))
    return future_rows


def move_future_rows(database: Database, usecase: str, after_us: int) -> Iterator[tuple[str, list[str]]]:
    """Move what :func:`find_future_rows` counts into quarantine; gives the kind and the event ids of each part.

    Raises:
        StoreUnavailable: the database cannot be used now; what was moved before stays moved.
    """
    for timed_table in _TIMED_TABLES:
        while ids := _move(database, timed_table, usecase, after_us):
            yield timed_table.kind, ids
    if not database.is_sqlite:
        _drop_empty_days(database, after_us)


def _is_later(timed_table: _TimedTable, usecase: str, after_us: int) -> tuple[Any, ...]:
    return (timed_table.table.c.usecase == usecase, timed_table.time > after_us)


def _move(database: Database, timed_table: _TimedTable, usecase: str, after_us: int) -> list[str]:
    columns = [timed_table.table.c[name] for name in ("event_id", *timed_table.kept)]
    query = (
        select(timed_table.key, *columns)
        .where(*_is_later(timed_table, usecase, after_us))
        .order_by(timed_table.key)
        .limit(_CHUNK)
    )
    with database.write() as connection:
        rows = fetch(connection, query)
        if not rows:
            return []
        common = {
            "usecase": usecase, "writer": REPAIR, "segment": 0, "position": 0, "seq": 0, "records": 1,
            "reason": f"{IN_FUTURE}: {timed_table.kind}", "stored_at": database.now(connection),
        }  # fmt: skip
        connection.execute(insert(quarantine), [common | {"payload": _payload(timed_table, row[2:])} for row in rows])
        keys, ids = [row[0] for row in rows], [str(row[1]) for row in rows]
        # The time stands in the condition so that PostgreSQL looks at the tables of those days alone.
        connection.execute(
            delete(timed_table.table).where(*_is_later(timed_table, usecase, after_us), timed_table.key.in_(keys))
        )
        if timed_table.kind == "event":
            _delete_traces(database, connection, usecase, ids)
    return ids


def _payload(timed_table: _TimedTable, values: Sequence[Any]) -> bytes:
    if timed_table.kind == "event":
        return bytes(values[0])
    return msgspec.json.encode(dict(zip(timed_table.kept, values, strict=True)))


def _delete_traces(database: Database, connection: Connection, usecase: str, ids: Sequence[str]) -> None:
    """What stands beside an event: its scores in shadow, and in PostgreSQL its id."""
    tables = (shadow,) if database.is_sqlite else (shadow, prediction_ids)
    for table in tables:
        connection.execute(delete(table).where(table.c.usecase == usecase, table.c.event_id.in_(ids)))


def _drop_empty_days(database: Database, after_us: int) -> None:
    """Tables of days that lie wholly beyond, and hold nothing of any use case."""
    with database.read() as connection:
        day_tables = days_with_tables(connection)
    for day, name in day_tables.items():
        if day * DAY_US <= after_us:
            continue
        with database.write() as connection:
            execute = connection.exec_driver_sql
            execute("SET LOCAL lock_timeout = '5s'")
            execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
            if execute(f"SELECT 1 FROM {name} LIMIT 1").first() is None:  # noqa: S608  # a name of our own
                execute(f"DROP TABLE {name}")
        database.known_days.discard(day)
