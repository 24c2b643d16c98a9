"""Who held which role when: the view ``roles_history``, read.

The view is for SQL tools too; its columns are described in ``docs/audit.md``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import column, or_, select, table

from monitoring.store.engine import Database
from monitoring.store.frames import fetch, from_us, to_us

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
        c.model, c.role, c.version, c.contract, c.since_us, c.until_us, c.decision, c.decided_as, c.decided_by
    ).where(c.model == model, c.since_us <= to_us(end))
    query = query.where(or_(c.until_us.is_(None), c.until_us > to_us(start)))
    if role is not None:
        query = query.where(c.role == role)
    with database.read() as connection:
        rows = fetch(connection, query.order_by(c.since_us, c.decision, c.role))
    return [
        Term(m, r, v, contract, from_us(since), None if until is None else from_us(until), seq, kind, actor)
        for m, r, v, contract, since, until, seq, kind, actor in rows
    ]
