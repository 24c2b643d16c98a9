"""Who held which role when: the one answer to that question, for audits, status and comparisons.

The view ``roles_history`` has the terms as they were decided; SQL tools may read it too (``docs/how-to/audit.md``). A
decision carries the business time that it was made for, and whoever was active answers until the replicas have seen
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


_CHAMPION: Final = "champion"
_INSTANT: Final = timedelta(microseconds=1)
_HANDOVER_ANSWERS: Final = 50
"""Answers of the next version in a row after which the one before it has gone: requests in flight are fewer."""
_CHUNK: Final = 2_000
_CHUNKS: Final = 250
"""Parts of the log that are looked at after a decision, at most."""


@dataclass(frozen=True)
class RoleTerm:
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
) -> list[RoleTerm]:
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
        decided_terms = [
            RoleTerm(m, r, v, contract, from_us(since), None if until is None else from_us(until), seq, kind, actor)
            for _, m, r, v, contract, since, until, seq, kind, actor in rows
        ]
        champion_terms = (
            list(_answered_terms(connection, rows[0][0], [t for t in decided_terms if t.role == _CHAMPION]))
            if rows
            else []
        )
    terms = sorted(
        [*champion_terms, *(t for t in decided_terms if t.role != _CHAMPION)],
        key=lambda t: (t.since, t.decision, t.role),
    )
    return [t for t in terms if t.since <= end and (t.until is None or t.until > start)]


def holder_at(database: Database, model: str, role: str, at: datetime) -> str | None:
    """The version that held the role at a business time; ``None`` when nobody did."""
    terms = terms_between(database, model, at, at, role)
    return terms[-1].version if terms else None


def _answered_terms(connection: Connection, usecase: str, decided_terms: list[RoleTerm]) -> Iterator[RoleTerm]:
    """Terms of champions in the order of their decisions, each until the last answer of its version."""
    decided_end, answered_until = None, None
    for term in sorted(decided_terms, key=lambda term: term.decision):
        since = answered_until if answered_until is not None and term.since == decided_end else term.since
        decided_end = term.until
        answered_until = (
            None if decided_end is None else _last_answer(connection, usecase, term, max(decided_end, since))
        )
        yield replace(term, since=since, until=answered_until)


def _last_answer(connection: Connection, usecase: str, term: RoleTerm, since: datetime) -> datetime:
    """The instant after the last event from ``since`` on that the version of a term answered as champion."""
    c = predictions.c
    query = select(c.event_time, c.row_id, c.model, c.version, c.alias).where(c.usecase == usecase)
    query = query.order_by(c.event_time, c.row_id).limit(_CHUNK)
    from_bound, last_answer, other_answers = c.event_time >= to_us(since), since, 0
    for _ in range(_CHUNKS):
        rows = fetch(connection, query.where(from_bound))
        for at, _, model, version, alias in rows:
            if (model, version, alias) == (term.model, term.version, _CHAMPION):
                last_answer, other_answers = from_us(at) + _INSTANT, 0
            elif version is not None and (other_answers := other_answers + 1) >= _HANDOVER_ANSWERS:
                return last_answer
        if len(rows) < _CHUNK:
            break
        last_time, last_row = rows[-1][0], rows[-1][1]
        from_bound = and_(c.event_time >= last_time, or_(c.event_time > last_time, c.row_id > last_row))
    return last_answer
