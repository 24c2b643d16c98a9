"""Answers as they were logged, one by one: for the complaint desk, and for what a rollback would change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, select

from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us, to_us
from monitoring.store.database.tables import predictions, roles, shadow
from monitoring.store.predictions.log import read_plan

_CHUNK: Final = 5_000


@dataclass(frozen=True)
class LoggedAnswer:
    """One logged answer. Times: business ``event_time``, machine ``received_at``; both UTC.

    Attributes:
        body: the event's declared columns as JSON.
        features, names: float32 values, little endian, and the feature of each; none for an event without.
        contract: contract digest of the version that answered; none for an external score.
        other_score, other_threshold, other_decision: what another version said in shadow, where it was asked.
    """

    event_id: str
    event_time: datetime
    received_at: datetime
    origin: str
    body: bytes
    names: tuple[str, ...]
    features: bytes | None
    model: str
    version: str
    alias: str
    contract: str | None
    raw_score: float | None
    score: float
    threshold: float
    decision: bool
    other_score: float | None = None
    other_threshold: float | None = None
    other_decision: bool | None = None


def find_answer(database: Database, usecase: str, event_id: str) -> LoggedAnswer | None:
    """The answer to one event; ``None`` when it was not scored."""
    c = predictions.c
    query = select(*_columns()).where(c.usecase == usecase, c.event_id == event_id, c.score.is_not(None))
    with database.read() as connection:
        rows = fetch(connection, query)
        if not rows:
            return None
        names = read_plan(connection, rows[0][5]) if rows[0][5] is not None else ()
    return _logged_answer(rows[0], names, (None, None, None))


def read_answers_of(
    database: Database, usecase: str, model: str, version: str, since: datetime, other_version: str
) -> Iterator[LoggedAnswer]:
    """Every answer of a version that was received from ``since`` (machine time) on, in the order of the log.

    ``other_version`` is the version whose shadow scores are read beside it.
    """
    c, s = predictions.c, shadow.c
    same_event = and_(s.usecase == c.usecase, s.model == model, s.version == other_version, s.event_id == c.event_id)
    query = select(*_columns(), s.score, s.threshold, s.decision, c.row_id).join_from(
        predictions, shadow, same_event, isouter=True
    )
    query = query.where(c.usecase == usecase, c.model == model, c.version == version, c.received_at >= to_us(since))
    query = query.where(c.score.is_not(None), c.origin == "live").order_by(c.row_id).limit(_CHUNK)
    plans: dict[str, tuple[str, ...]] = {}
    last_row_id = 0
    while True:
        with database.read() as connection:
            rows = fetch(connection, query.where(c.row_id > last_row_id))
            for plan in {row[5] for row in rows} - {None, *plans}:
                plans[plan] = read_plan(connection, plan)
        for row in rows:
            yield _logged_answer(row, plans.get(row[5], ()), row[15:18])
        if len(rows) < _CHUNK:
            return
        last_row_id = rows[-1][18]


def became_champion_at(database: Database, model: str, version: str) -> datetime | None:
    """Machine time at which a version last became champion, by the journal; ``None`` when it never did."""
    r = roles.c
    query = select(r.recorded_at).where(r.model == model, r.role == "champion", r.version == version)
    with database.read() as connection:
        rows = fetch(connection, query.order_by(r.role_id.desc()).limit(1))
    return from_us(rows[0][0]) if rows else None


def _columns() -> tuple[Any, ...]:
    c = predictions.c
    return (
        c.event_id, c.event_time, c.received_at, c.origin, c.body, c.plan_id, c.features, c.model, c.version, c.alias,
        c.contract, c.raw_score, c.score, c.threshold, c.decision,
    )  # fmt: skip


def _logged_answer(row: tuple[Any, ...], names: tuple[str, ...], other_row: tuple[Any, ...]) -> LoggedAnswer:
    (
        event_id,
        event_time,
        received_at,
        origin,
        body,
        _,
        features,
        model,
        version,
        alias,
        contract,
        raw_score,
        score,
        threshold,
        decision,
    ) = row[:15]
    feature_bytes = None if features is None else bytes(features)
    other_decision = None if other_row[2] is None else bool(other_row[2])
    return LoggedAnswer(
        event_id, from_us(event_time), from_us(received_at), origin, bytes(body), names,
        feature_bytes, model or "", version or "",
        alias or "", contract, raw_score, score, threshold, bool(decision), other_row[0], other_row[1], other_decision,
    )  # fmt: skip
