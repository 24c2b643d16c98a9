"""Retention: rows that are older than a day go, table by table. The chain of decisions is never touched.

Ages are counted in whole UTC days, each table by its own time: ``predictions`` by event time, ``labels`` by
``observed_at``, ``reports`` by ``as_of``; ``shadow`` and ``quarantine`` by the machine time of their row. In
PostgreSQL a day of predictions that no other use case shares is dropped as a table; everything else is
deleted in short transactions, between which others write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select, tuple_
from sqlalchemy.sql import ColumnElement

from monitoring.errors import MonitoringError
from monitoring.store.database.day_partitions import DAY_US, days_with_tables
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch
from monitoring.store.database.tables import (
    actions,
    decisions,
    labels,
    operations,
    prediction_ids,
    predictions,
    quarantine,
    reports,
    shadow,
)

TABLES: Final = {
    "predictions": (predictions, predictions.c.event_time),
    "shadow": (shadow, shadow.c.scored_at),
    "labels": (labels, labels.c.observed_at),
    "actions": (actions, actions.c.taken_at),
    "quarantine": (quarantine, quarantine.c.stored_at),
    "reports": (reports, reports.c.as_of),
}
"""Table to its time."""
_CHUNK: Final = 5_000
_DIGEST: Final = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True)
class OldDay:
    """What a table holds of one UTC day: ``rows``, and about how many ``bytes`` of content."""

    table: str
    day: int
    rows: int
    bytes: int


def old_days(database: Database, usecase: str, table: str, before: int) -> list[OldDay]:
    """What would be pruned: days of the table that end at or before ``before`` (microseconds), oldest first."""
    source, at = TABLES[table]
    day = (at - at % DAY_US) / DAY_US if database.is_sqlite else func.div(at, DAY_US)
    size = sum((func.coalesce(func.length(c), 0) for c in _contents(table)), start=_fixed_bytes(table))
    query = select(day, func.count(), func.sum(size)).where(source.c.usecase == usecase, at < before)
    if table == "reports":
        query = query.where(source.c.report_id.not_in(_cited_reports(database, usecase, before) or [-1]))
    with database.read() as connection:
        rows = fetch(connection, query.group_by(day).order_by(day))
    return [OldDay(table, int(d), int(n), int(b)) for d, n, b in rows]


def kept_reports(database: Database, usecase: str, before: int) -> int:
    """How many old reports stay, because a decision rests on them."""
    return len(_cited_reports(database, usecase, before))


def prune_table(database: Database, usecase: str, table: str, before: int) -> int:
    """Remove what :func:`old_days` shows; returns the rows. May be interrupted and started again.

    Raises:
        StoreUnavailable: the database cannot be used now; what was removed before stays removed.
    """
    source, at = TABLES[table]
    conditions = [source.c.usecase == usecase, at < before]
    if table == "reports" and (cited_reports := _cited_reports(database, usecase, before)):
        conditions.append(source.c.report_id.not_in(cited_reports))
    removed_rows = 0
    if table == "predictions" and not database.is_sqlite:
        removed_rows += sum(_drop_days(database, usecase, before))
    removed_rows += sum(_delete_chunks(database, source, conditions))
    if table == "predictions" and not database.is_sqlite:
        ids = prediction_ids.c
        sum(_delete_chunks(database, prediction_ids, [ids.usecase == usecase, ids.event_time < before]))
    return removed_rows


def _delete_chunks(database: Database, source: Any, conditions: Sequence[ColumnElement[bool]]) -> Iterator[int]:
    keys = list(source.primary_key.columns)
    chunk_keys = select(*keys).where(*conditions).limit(_CHUNK)
    key = keys[0] if len(keys) == 1 else tuple_(*keys)
    while True:
        with database.write() as connection:
            count = connection.execute(delete(source).where(key.in_(chunk_keys))).rowcount
        if not count:
            return
        yield count


def _drop_days(database: Database, usecase: str, before: int) -> Iterator[int]:
    with database.read() as connection:
        day_tables = days_with_tables(connection)
    for day, name in day_tables.items():
        if (day + 1) * DAY_US > before:
            return
        with database.write() as connection:
            yield _drop_day(connection, usecase, name)
        database.known_days.discard(day)


def _drop_day(connection: Connection, usecase: str, name: str) -> int:
    """Drop a day's table unless another use case has rows there; how many rows went."""
    execute = connection.exec_driver_sql
    # Rather give up than keep every reader waiting behind us.
    execute("SET LOCAL lock_timeout = '5s'")
    execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
    others = f"SELECT 1 FROM {name} WHERE usecase <> %s LIMIT 1"  # noqa: S608  # a name of our own
    if execute(others, (usecase,)).first() is not None:
        return 0
    count = int(execute(f"SELECT count(*) FROM {name}").scalar_one())  # noqa: S608  # a name of our own
    execute(f"DROP TABLE {name}")
    return count


def _cited_reports(database: Database, usecase: str, before: int) -> list[int]:
    """Old reports that a decision names: by their digest, the digest of their verdict or of their rows."""
    r = reports.c
    with database.read() as connection:
        cited_digests = set().union(
            *(_DIGEST.findall(row[0]) for row in fetch(connection, select(decisions.c.payload)))
        )
        cited_digests |= {row[0] for row in fetch(connection, select(operations.c.evidence))}
        old_reports = fetch(
            connection, select(r.report_id, r.digest, r.payload).where(r.usecase == usecase, r.as_of < before)
        )
    return [number for number, digest, payload in old_reports if cited_digests & {digest, *_evidence(payload)}]


def _evidence(payload: str) -> Iterator[str]:
    from monitoring.core.verdict import Verdict

    content = json.loads(payload)
    if isinstance(rows := content.get("evidence_snapshot"), str):
        yield rows
    if isinstance(verdict := content.get("verdict"), dict):
        try:
            yield Verdict.from_json(verdict).digest
        except (MonitoringError, KeyError, TypeError, ValueError):
            return


def _contents(table: str) -> list[Any]:
    names = {"predictions": ("event_id", "body", "features"), "shadow": ("event_id", "error"), "labels": ("event_id",)}
    names |= {"actions": ("event_id",)}
    names |= {"quarantine": ("payload", "reason"), "reports": ("payload",)}
    return [TABLES[table][0].c[name] for name in names[table]]


def _fixed_bytes(table: str) -> Any:
    """Bytes of a row beside its texts: eight a column."""
    from sqlalchemy import literal

    return literal(8 * len(TABLES[table][0].columns))
