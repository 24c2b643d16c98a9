"""The newest answers of one version beside what another one said about the same events in shadow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import and_, func, select
from sqlalchemy.sql import ColumnElement

from monitoring.store.database.engine import Database
from monitoring.store.database.frames import columns_of, fetch, floats, from_us, to_us
from monitoring.store.database.records import split_label
from monitoring.store.database.tables import predictions, shadow

NEWEST: Final = 5_000
_SEARCHED_ROWS: Final = 100_000
"""Rows from the end of the log in which new answers are looked for, every few seconds."""
_ANSWER_DELAY: Final = timedelta(days=1)
"""Events may be answered some time after they happened."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Events that ``ours`` answered and ``theirs`` scored in shadow, in one order.

    Attributes:
        ours, theirs: calibrated scores (0..1).
        our_alerts, their_alerts: whether each was flagged.
    """

    ours: np.ndarray
    our_alerts: np.ndarray
    theirs: np.ndarray
    their_alerts: np.ndarray

    def __len__(self) -> int:
        return len(self.ours)


def read_pairs_since(
    database: Database, usecase: str, model: str, shadow_model: str, since: datetime, limit: int = NEWEST
) -> Pairs:
    """The newest events that were received from ``since`` (machine time) on.

    Args:
        database: of the log.
        usecase: name of the use case.
        model: label of the version that answered, for example ``dev-fraud/2``.
        shadow_model: label of the version in shadow.
        since: machine time.
        limit: events at most; only the newest 100,000 rows of the log are looked at.
    """
    p = predictions.c
    with database.read() as connection:
        newest_row = connection.execute(select(func.max(p.row_id))).scalar() or 0
    conditions = (p.row_id > newest_row - _SEARCHED_ROWS, p.received_at >= to_us(since))
    return _read_pairs(database, usecase, model, shadow_model, conditions, p.row_id, limit)


def read_pairs_before(
    database: Database, usecase: str, model: str, shadow_model: str, at: datetime, before: datetime, limit: int = NEWEST
) -> Pairs:
    """The newest events that were received before ``before`` (machine time), when business time was ``at``."""
    p = predictions.c
    # By event time, because that has an index and the time of receipt has none.
    conditions = (p.event_time < to_us(at + _ANSWER_DELAY), p.received_at < to_us(before))
    return _read_pairs(database, usecase, model, shadow_model, conditions, p.event_time, limit)


def newest_event(database: Database, usecase: str, until: datetime | None = None) -> datetime | None:
    """How far business time has come: the newest event time of the log, up to ``until``; none without any event."""
    p = predictions.c
    query = select(func.max(p.event_time)).where(p.usecase == usecase)
    with database.read() as connection:
        newest_us = connection.execute(query if until is None else query.where(p.event_time <= to_us(until))).scalar()
    return None if newest_us is None else from_us(int(newest_us))


def latest_times(database: Database, usecase: str, count: int) -> list[int]:
    """Times of the latest events that the log took in, oldest first, in microseconds."""
    p = predictions.c
    query = select(p.event_time).where(p.usecase == usecase).order_by(p.row_id.desc()).limit(count)
    with database.read() as connection:
        return [int(row[0]) for row in fetch(connection, query)][::-1]


def _read_pairs(
    database: Database,
    usecase: str,
    model: str,
    shadow_model: str,
    conditions: tuple[ColumnElement[bool], ...],
    order: ColumnElement[Any],
    limit: int,
) -> Pairs:
    p, s = predictions.c, shadow.c
    name, version = split_label(model)
    other_name, other_version = split_label(shadow_model)
    same_event = and_(
        s.usecase == p.usecase, s.model == other_name, s.version == other_version, s.event_id == p.event_id
    )
    query = select(p.score, p.decision, s.score, s.decision).select_from(predictions.join(shadow, same_event))
    query = query.where(p.usecase == usecase, p.model == name, p.version == version, p.origin == "live")
    query = query.where(*conditions, s.error.is_(None)).order_by(order.desc()).limit(limit)
    with database.read() as connection:
        parts = columns_of(fetch(connection, query), 4)
    score, is_flagged, their_score, their_is_flagged = (floats(part) for part in parts)
    return Pairs(score, is_flagged == 1.0, their_score, their_is_flagged == 1.0)
