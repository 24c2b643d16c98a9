"""Rows of the log page by page: memory does not grow with what is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Select, and_, or_

from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch
from monitoring.store.database.tables import predictions


def read_pages(
    database: Database, query: Select[Any], since_us: int, page_rows: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of a query over the log in the order (event time, arrival), so many at a time.

    Args:
        database: holds the log.
        query: its first two columns are ``row_id`` and ``event_time``; without order and limit.
        since_us: event time from which rows are read, in microseconds.
        page_rows: most rows of a page.
    """
    c = predictions.c
    query = query.order_by(c.event_time, c.row_id).limit(page_rows)
    bound: Any = c.event_time >= since_us
    while True:
        with database.read() as connection:
            rows = fetch(connection, query.where(bound))
        if rows:
            yield rows
        if len(rows) < page_rows:
            return
        last_row, last_time = rows[-1][:2]
        past_last_row = or_(c.event_time > last_time, and_(c.event_time == last_time, c.row_id > last_row))
        bound = and_(c.event_time >= last_time, past_last_row)  # the plain bound leaves out earlier days' tables
