"""Who held which role when: the one answer to that question, for audits, status and comparisons.

The view ``roles_history`` has the terms as they were decided; SQL tools may read it too (``docs/how-to/audit.md``). A
decision carries the business time that it was made for, and whoever was in office answers until the replicas have seen
it: in a replay that is hours of event time. So a champion's term begins after the last event that the version before it
answered, which the log knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, and_, column, or_, select, table

from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us, to_us
from monitoring.store.database.tables import predictions

_VIEW = table(
    "roles_history",
    *(
        column(name)
        for name in (
            "usecase", "model", "role", "version", "contract", "since_us", "until_us", "decision", "decided_as",
            "decided_by", "decision_hash",
        )
    ),
)  # fmt: skip


_OFFICE: Final = "champion"
_INSTANT: Final = timedelta(microseconds=1)
_ENOUGH: Final = 50
"""Answers of the next version in a row after which the one before it has gone: requests in flight are fewer."""
_CHUNK: Final = 2_000
_CHUNKS: Final = 250
"""Parts of the log that are looked at after a decision, at most."""


@dataclass(frozen=True)
class Term:
    """One version in one role, in business time: ``since`` is included, ``until`` is not; none goes on.

    Attributes:
        model, role, version: who held what.
        contract: contract digest, where the decision named it.
        since, until: the term.
        decision, decided_as, decided_by: seq, kind and actor of the decision that began it.
    """

    model: str
    role: str
    version: str
    contract: str | None
    since: datetime
    until: datetime | None
    decision: int
    decided_as: str
    decided_by: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        until = None if self.until is None else self.until.isoformat()
        return asdict(self) | {"since": self.since.isoformat(), "until": until}


def terms_between(
    database: Database, model: str, start: datetime, end: datetime, role: str | None = None
) -> list[Term]:
    """Every term that touches the span (both ends included), in the order in which they began."""
    c = _VIEW.c
    query = select(
        c.usecase, c.model, c.role, c.version, c.contract, c.since_us, c.until_us, c.decision, c.decided_as,
        c.decided_by,
    ).where(c.model == model, c.since_us <= to_us(end))  # fmt: skip
    if role is not None:
        query = query.where(c.role == role)
    with database.read() as connection:
        rows = fetch(connection, query.order_by(c.since_us, c.decision, c.role))
        decided = [
            Term(m, r, v, contract, from_us(since), None if until is None else from_us(until), seq, kind, actor)
            for _, m, r, v, contract, since, until, seq, kind, actor in rows
        ]
        offices = list(_answered(connection, rows[0][0], [t for t in decided if t.role == _OFFICE])) if rows else []
    found = sorted([*offices, *(t for t in decided if t.role != _OFFICE)], key=lambda t: (t.since, t.decision, t.role))
    return [t for t in found if t.since <= end and (t.until is None or t.until > start)]


def holder_at(database: Database, model: str, role: str, at: datetime) -> str | None:
    """The version that held the role at a business time; ``None`` when nobody did."""
    found = terms_between(database, model, at, at, role)
    return found[-1].version if found else None


def _answered(connection: Connection, usecase: str, decided: list[Term]) -> Iterator[Term]:
    """Terms of office in the order of their decisions, each until the last answer of its version."""
    ended, handed_over = None, None
    for term in sorted(decided, key=lambda term: term.decision):
        since = handed_over if handed_over is not None and term.since == ended else term.since
        ended = term.until
        handed_over = None if ended is None else _last_answer(connection, usecase, term, max(ended, since))
        yield replace(term, since=since, until=handed_over)


def _last_answer(connection: Connection, usecase: str, term: Term, since: datetime) -> datetime:
    """The instant after the last event from ``since`` on that the version of a term answered as champion."""
    c = predictions.c
    query = select(c.event_time, c.row_id, c.model, c.version, c.alias).where(c.usecase == usecase)
    query = query.order_by(c.event_time, c.row_id).limit(_CHUNK)
    after, found, others = c.event_time >= to_us(since), since, 0
    for _ in range(_CHUNKS):
        rows = fetch(connection, query.where(after))
        for at, _, model, version, alias in rows:
            if (model, version, alias) == (term.model, term.version, _OFFICE):
                found, others = from_us(at) + _INSTANT, 0
            elif version is not None and (others := others + 1) >= _ENOUGH:
                return found
        if len(rows) < _CHUNK:
            break
        last, row = rows[-1][0], rows[-1][1]
        after = and_(c.event_time >= last, or_(c.event_time > last, c.row_id > row))
    return found
