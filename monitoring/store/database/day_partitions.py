"""The predictions table in PostgreSQL: one table for each UTC day of event time, and one for all other days.

A day's table is made when its first events arrive, in a transaction of its own that gives up at once
when somebody else holds the locks: the events then go into ``predictions_default`` and are moved when
the day's table is made later. So this is only ever a saving (a day is dropped in one step, reads look at
the days they need) and can never hold up the log.

A partitioned table cannot keep an event id unique over all its days, so the slim table
``prediction_ids`` decides what is new.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

from sqlalchemy import Connection

from monitoring.errors import StoreError
from monitoring.store.database.engine import Database

DAY_US: Final = 86_400_000_000
DEFAULT_TABLE: Final = "predictions_default"
_PREFIX: Final = "predictions_"
_EPOCH: Final = date(1970, 1, 1)
_LAST_DAY: Final = (date(2200, 1, 1) - _EPOCH).days
_MAX_TABLES: Final = 4_000
"""Tables of days at most, eleven years: a stream of absurd dates must not fill the catalogue."""
_TABLES_AT_ONCE: Final = 50
_RETRY_SECONDS: Final = 30.0
_DAY_LOCK: Final = 4_823_004
_LOG = logging.getLogger(__name__)


def day_table_name(day: int) -> str:
    """Name of a day's table; ``day`` counts from 1970."""
    return f"{_PREFIX}{(_EPOCH + timedelta(days=day)).strftime('%Y%m%d')}"


def day_of_table(name: str) -> int | None:
    """The day of a table's name; none for any other table."""
    digits = name.removeprefix(_PREFIX)
    if len(digits) != 8 or not digits.isdigit():
        return None
    return (date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) - _EPOCH).days


def prepare_days(database: Database, event_times: Iterable[int]) -> None:
    """Make tables for the days of these events (microseconds) where they are missing; nothing on SQLite."""
    if database.is_sqlite:
        return
    missing_days = sorted({at // DAY_US for at in event_times} - database.known_days)
    if not missing_days or time.monotonic() < database.days_retry_at:
        return
    try:
        for start in range(0, len(missing_days), _TABLES_AT_ONCE):
            _prepare(database, missing_days[start : start + _TABLES_AT_ONCE])
    except StoreError as exc:
        database.days_retry_at = time.monotonic() + _RETRY_SECONDS
        _LOG.info("no table for a new day could be made now, the default one is used: %s", exc)


def _prepare(database: Database, days: list[int]) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '500ms'")
        database.lock(connection, _DAY_LOCK)
        day_tables = days_with_tables(connection)
        free_tables = max(0, _MAX_TABLES - len(day_tables))
        for day in [day for day in days if day not in day_tables and 0 <= day <= _LAST_DAY][:free_tables]:
            make_day_table(connection, day)
    # Days without a table are remembered too: nobody asks again for a date that gets none.
    database.known_days.update(days)


def make_day_table(connection: Connection, day: int) -> None:
    """Make one day's table, with the rows of that day which the default table holds."""
    name, start_us, end_us = day_table_name(day), day * DAY_US, (day + 1) * DAY_US
    where = f"event_time >= {start_us} AND event_time < {end_us}"
    run = connection.exec_driver_sql
    run(f"CREATE TABLE {name} (LIKE predictions INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    run(f"WITH moved AS (DELETE FROM {DEFAULT_TABLE} WHERE {where} RETURNING *) INSERT INTO {name} SELECT * FROM moved")  # noqa: S608  # numbers and names of our own
    # Attaching takes a lighter lock on the whole than making a partition in place would.
    run(f"ALTER TABLE predictions ATTACH PARTITION {name} FOR VALUES FROM ({start_us}) TO ({end_us})")


def days_with_tables(connection: Connection) -> dict[int, str]:
    """Days that have a table, with its name, oldest first."""
    text = (
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'predictions'::regclass"
    )
    tables = {day_of_table(str(name)): str(name) for (name,) in connection.exec_driver_sql(text)}
    return dict(sorted((day, name) for day, name in tables.items() if day is not None))
