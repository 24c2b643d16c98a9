"""Decisions: an append-only chain in which every row holds the hash of the row before it.

The database refuses to change or delete a row and to insert one that does not follow the last;
``verify`` recomputes every hash, so an edit behind the database's back shows. ``at`` is the business
time that the caller decided for, ``recorded_at`` the database's clock.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, desc, insert, select

from monitoring.core.hashing import canonical_json
from monitoring.errors import JournalConflict
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us, to_us
from monitoring.store.database.tables import decisions, operations, roles
from monitoring.store.decisions.consistency import acting_problems
from monitoring.store.decisions.hash_chain import (
    COLUMNS,
    GENESIS,
    ROLE_COLUMNS,
    chain_problems,
    role_problems,
    role_row,
    row_hash,
)
from monitoring.store.decisions.role_terms import holder_at

_CHAIN_LOCK: Final = 4_823_003
_BARRING_KINDS: Final = ("rollback.champion_set", "rollback.pinned", "rollback.external")
_UNBARRING_KINDS: Final = ("unbar", "comparison.opened")


@dataclass(frozen=True)
class RoleChange:
    """A role changes hands: ``version`` holds it from now on, or nobody (``None``).

    ``contract`` is the contract digest of that version.
    """

    model: str
    role: str
    version: str | None
    contract: str | None = None


@dataclass(frozen=True)
class Decision:
    """One row of the chain. ``payload`` is JSON; role changes stand in it under ``roles``."""

    seq: int
    usecase: str
    kind: str
    payload: Mapping[str, Any]
    actor: str
    at: datetime
    recorded_at: datetime
    prev_hash: str
    hash: str

    @property
    def id(self) -> str:
        """Short name: the first 16 digits of the hash."""
        return self.hash[:16]


class Decisions:
    """The chain, and what follows from it: who held which role, which versions are approved or barred."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(
        self,
        usecase: str,
        kind: str,
        payload: Mapping[str, Any],
        actor: str,
        at: datetime,
        changes: Sequence[RoleChange] = (),
    ) -> Decision:
        """Add a row, with the role changes that it makes.

        Raises:
            JournalConflict: the payload is not JSON, or the chain was changed meanwhile.
            StoreUnavailable: nothing was stored; try again.
        """
        with self._database.write() as connection:
            return append_decision(self._database, connection, NewDecision(usecase, kind, payload, actor, at, changes))

    def verify(self) -> list[str]:
        """Problems in plain words; empty when every row is as it was written.

        The tables of roles, operations and pins must say what the chain says.
        """
        c = decisions.c
        with self._database.read() as connection:
            rows = fetch(connection, select(*(c[name] for name in COLUMNS)).order_by(c.seq))
            projected = fetch(
                connection,
                select(*(roles.c[name] for name in ROLE_COLUMNS)).order_by(roles.c.role_id),
            )
            acting = acting_problems(connection, rows)
        return [*chain_problems(rows), *role_problems(rows, projected), *acting]

    def list(
        self, usecase: str | None = None, kinds: Sequence[str] = (), after: int = 0, limit: int | None = 1000
    ) -> builtins.list[Decision]:
        """The newest ``limit`` rows after ``after``, oldest first; all use cases and kinds unless named."""
        query = (
            _select_decisions(usecase, kinds)
            .where(decisions.c.seq > after)
            .order_by(desc(decisions.c.seq))
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_decision(row) for row in fetch(connection, query)][::-1]

    def last(self, usecase: str | None = None, kinds: Sequence[str] = ()) -> Decision | None:
        """The newest row."""
        with self._database.read() as connection:
            rows = fetch(connection, _select_decisions(usecase, kinds).order_by(desc(decisions.c.seq)).limit(1))
        return _decision(rows[0]) if rows else None

    def numbered(self, seq: int) -> Decision | None:
        """The row of that number; ``None`` where there is none."""
        with self._database.read() as connection:
            rows = fetch(connection, _select_decisions(None, ()).where(decisions.c.seq == seq))
        return _decision(rows[0]) if rows else None

    def role_at(self, model: str, role: str, at: datetime) -> str | None:
        """The version that held the role at business time ``at``; ``None`` when nobody did."""
        return holder_at(self._database, model, role, at)

    def terms(self, model: str, role: str) -> builtins.list[tuple[str | None, datetime, int]]:
        """All changes of the role in order: version (or none), business time, seq of the decision."""
        c = roles.c
        query = select(c.version, c.at, c.seq).where(c.model == model, c.role == role).order_by(c.role_id)
        with self._database.read() as connection:
            return [(version, from_us(at), seq) for version, at, seq in fetch(connection, query)]

    def contracts(self, model: str) -> frozenset[str]:
        """Contract digests that the journal holds for this model: no other version may serve."""
        o, r = operations.c, roles.c
        query = select(r.contract).where(r.model == model, r.contract.is_not(None))
        planned = select(o.contract).where(o.model == model, o.state != "ABORTED")
        with self._database.read() as connection:
            return frozenset(row[0] for row in [*fetch(connection, query), *fetch(connection, planned)])

    def contract_of(self, model: str, version: str) -> str | None:
        """The contract digest that the journal holds for a version; the newest, where there are several."""
        o, r = operations.c, roles.c
        held = select(r.contract).where(r.model == model, r.version == version, r.contract.is_not(None))
        planned = select(o.contract).where(o.model == model, o.to_version == version, o.state != "ABORTED")
        with self._database.read() as connection:
            for query in (held.order_by(desc(r.role_id)), planned.order_by(desc(o.created_at))):
                if found := fetch(connection, query.limit(1)):
                    return str(found[0][0])
        return None

    def barred(self, model: str) -> Mapping[str, str]:
        """Versions that may not be promoted, with the reason: each was rolled back from.

        A bar ends with a comparison that was opened for the version afterwards, or is lifted by hand.
        """
        found: dict[str, str] = {}
        query = _select_decisions(None, (*_BARRING_KINDS, *_UNBARRING_KINDS)).order_by(decisions.c.seq)
        with self._database.read() as connection:
            rows = [_decision(row) for row in fetch(connection, query)]
        for row in rows:
            if row.payload.get("model") != model:
                continue
            if row.kind in _UNBARRING_KINDS:
                named = row.payload.get("version", row.payload.get("challenger"))
                found.pop(str(named).rpartition("/")[2], None)
            elif row.payload.get("from_version") is not None:
                found[str(row.payload["from_version"])] = str(row.payload["reason"])
        return found


@dataclass(frozen=True)
class NewDecision:
    """What a line of the chain will say; its number, its machine time and its hash come with the line."""

    usecase: str
    kind: str
    payload: Mapping[str, Any]
    actor: str
    at: datetime
    changes: Sequence[RoleChange] = ()


def append_decision(database: Database, connection: Connection, new: NewDecision) -> Decision:
    """Add a row within a transaction of the caller."""
    database.lock(connection, _CHAIN_LOCK)
    last_row = connection.execute(
        select(decisions.c.seq, decisions.c.hash).order_by(desc(decisions.c.seq)).limit(1)
    ).first()
    full_payload = dict(new.payload)
    if new.changes:
        full_payload["roles"] = [_as_json(change) for change in new.changes]
    row: dict[str, Any] = {
        "seq": 1 if last_row is None else last_row[0] + 1,
        "usecase": new.usecase,
        "kind": new.kind,
        "payload": _json_text(full_payload),
        "actor": new.actor,
        "at": to_us(new.at),
        "recorded_at": database.now(connection),
        "prev_hash": GENESIS if last_row is None else last_row[1],
    }
    row["hash"] = row_hash(row)
    connection.execute(insert(decisions).values(row))
    for change in new.changes:
        connection.execute(insert(roles).values(role_row(_as_json(change), row)))
    return _decision(tuple(row[name] for name in COLUMNS))


def _json_text(payload: Mapping[str, Any]) -> str:
    try:
        return canonical_json(payload).decode()
    except (TypeError, ValueError) as exc:
        raise JournalConflict(f"a decision's payload must be JSON without NaN: {exc}") from exc


def _as_json(change: RoleChange) -> dict[str, Any]:
    names = ("model", "role", "version", "contract")
    return {name: getattr(change, name) for name in names}


def _decision(row: tuple[Any, ...]) -> Decision:
    seq, usecase, kind, payload, actor, at, recorded_at, prev_hash, own_hash = row
    return Decision(
        seq, usecase, kind, json.loads(payload), actor, from_us(at), from_us(recorded_at), prev_hash, own_hash
    )


def _select_decisions(usecase: str | None, kinds: Sequence[str]) -> Any:
    query = select(*(decisions.c[name] for name in COLUMNS))
    if usecase is not None:
        query = query.where(decisions.c.usecase == usecase)
    return query.where(decisions.c.kind.in_(kinds)) if kinds else query
