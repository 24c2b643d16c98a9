"""Comparisons: the frozen plan of each, its frozen days, and how it ended.

Opening and closing stand in the chain of decisions, in the same transaction. A stored day is never
changed: the database refuses it.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection, desc, insert, select, update

from monitoring.comparison.daily_series import FrozenDay, PairedDay
from monitoring.comparison.plan import ComparisonPlan
from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.errors import JournalConflict
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us, to_us
from monitoring.store.database.tables import comparison_days, comparisons
from monitoring.store.decisions.decisions import NewDecision, append_decision

Ending = Literal["promote", "keep", "replaced"]
_DAY_COLUMNS: Final = ("comparison_id", "day", "payload", "digest", "as_of", "stored_at")


@dataclass(frozen=True)
class StoredComparison:
    """One comparison.

    Attributes:
        id: its name, 16 digits.
        plan, plan_hash: what it rests on; the hash is the plan's digest.
        opened_at: business time of its opening.
        closed_at, outcome, verdict_digest: how it ended: ``promote``, ``keep``, or ``replaced`` by
            another plan or pair; none while it is under way.
    """

    id: str
    plan: ComparisonPlan
    plan_hash: str
    opened_at: datetime
    closed_at: datetime | None = None
    outcome: str | None = None
    verdict_digest: str | None = None


class Comparisons:
    """Reads and writes of comparisons."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, plan: ComparisonPlan, at: datetime, actor: str, reason: str) -> StoredComparison:
        """Begin a comparison; what else is under way for the model ends as ``replaced``.

        The same plan that is under way already is returned as it is.
        """
        c = comparisons.c
        text = canonical_json(plan.to_json())
        hashed = sha256_hex(text)
        with self._database.write() as connection:
            under_way = self._rows(connection, select(comparisons).where(c.model == plan.model, c.closed_at.is_(None)))
            for one in under_way:
                if one.plan_hash == hashed:
                    return one
            for one in under_way:
                self._close(connection, one, "replaced", None, at, actor)
            name = sha256_hex(f"{hashed} {to_us(at)}".encode())[:16]
            if self._rows(connection, select(comparisons).where(c.id == name)):
                return self._reopen(connection, StoredComparison(name, plan, hashed, at), actor, reason)
            row = {
                "id": name, "usecase": plan.usecase, "model": plan.model, "champion": plan.champion,
                "challenger": plan.challenger, "plan": text.decode(), "plan_hash": hashed, "opened_at": to_us(at),
                "first_day": plan.first_day.isoformat(),
            }  # fmt: skip
            connection.execute(insert(comparisons).values(row))
            payload = {
                "model": plan.model, "comparison": name, "champion": plan.champion, "challenger": plan.challenger,
                "plan_hash": hashed, "plan": plan.to_json(), "reason": reason,
            }  # fmt: skip
            append_decision(
                self._database, connection, NewDecision(plan.usecase, "comparison.opened", payload, actor, at)
            )
        return StoredComparison(name, plan, hashed, at)

    def current(self, model: str, champion: str, challenger: str, as_of: datetime) -> StoredComparison | None:
        """The newest comparison of the two that had begun at ``as_of`` and is or was under way then."""
        c = comparisons.c
        query = select(comparisons).where(c.model == model, c.champion == champion, c.challenger == challenger)
        query = query.where(c.opened_at <= to_us(as_of), c.closed_at.is_(None) | (c.closed_at >= to_us(as_of)))
        with self._database.read() as connection:
            found = self._rows(connection, query.order_by(desc(c.opened_at), desc(c.id)).limit(1))
        return found[0] if found else None

    def list(self, usecase: str) -> builtins.list[StoredComparison]:
        """All comparisons of a use case, oldest first."""
        c = comparisons.c
        with self._database.read() as connection:
            return self._rows(connection, select(comparisons).where(c.usecase == usecase).order_by(c.opened_at, c.id))

    def close(self, name: str, outcome: Ending, verdict_digest: str | None, at: datetime, actor: str) -> bool:
        """End a comparison; whether it was under way."""
        c = comparisons.c
        with self._database.write() as connection:
            found = self._rows(connection, select(comparisons).where(c.id == name, c.closed_at.is_(None)))
            for one in found:
                self._close(connection, one, outcome, verdict_digest, at, actor)
        return bool(found)

    def days(self, name: str, as_of: datetime) -> builtins.list[FrozenDay]:
        """The days that were frozen up to business time ``as_of``, oldest first.

        Raises:
            JournalConflict: a stored day is not what its digest says.
        """
        c = comparison_days.c
        query = select(c.payload, c.digest, c.as_of).where(c.comparison_id == name, c.as_of <= to_us(as_of))
        with self._database.read() as connection:
            rows = fetch(connection, query.order_by(c.day))
        for payload, digest, _ in rows:
            if sha256_hex(payload.encode()) != digest:
                raise JournalConflict(
                    f"a frozen day of comparison {name} was changed: its content gives another digest"
                )
        return [FrozenDay(PairedDay.from_json(json.loads(p)), from_us(at), digest) for p, digest, at in rows]

    def freeze(self, name: str, days: Sequence[PairedDay], as_of: datetime) -> int:
        """Freeze days; those that are there already stay. Returns how many are new."""
        texts = [(day.day.isoformat(), canonical_json(day.to_json()).decode()) for day in days]
        with self._database.write() as connection:
            now = self._database.now(connection)
            rows = [(name, day, text, sha256_hex(text.encode()), to_us(as_of), now) for day, text in texts]
            return self._database.insert_new(connection, comparison_days, _DAY_COLUMNS, rows) if rows else 0

    def _close(
        self,
        connection: Connection,
        one: StoredComparison,
        outcome: Ending,
        digest: str | None,
        at: datetime,
        actor: str,
    ) -> None:
        c, plan = comparisons.c, one.plan
        ended = {"closed_at": to_us(at), "outcome": outcome, "verdict_digest": digest}
        connection.execute(update(comparisons).where(c.id == one.id).values(ended))
        payload = {
            "model": plan.model, "comparison": one.id, "champion": plan.champion, "challenger": plan.challenger,
            "plan_hash": one.plan_hash, "outcome": outcome, "verdict": digest,
        }  # fmt: skip
        append_decision(self._database, connection, NewDecision(plan.usecase, "comparison.closed", payload, actor, at))

    def _reopen(self, connection: Connection, one: StoredComparison, actor: str, reason: str) -> StoredComparison:
        """The very same plan from the very same time goes on: it is no new plan, and its frozen days stay."""
        fresh = {"closed_at": None, "outcome": None, "verdict_digest": None}
        connection.execute(update(comparisons).where(comparisons.c.id == one.id).values(fresh))
        payload = {"model": one.plan.model, "comparison": one.id, "plan_hash": one.plan_hash, "reason": reason}
        append_decision(
            self._database,
            connection,
            NewDecision(one.plan.usecase, "comparison.reopened", payload, actor, one.opened_at),
        )
        return one

    def _rows(self, connection: Connection, query: Any) -> builtins.list[StoredComparison]:
        names = [column.name for column in comparisons.columns]
        return [_comparison(dict(zip(names, row, strict=True))) for row in fetch(connection, query)]


def _comparison(row: dict[str, Any]) -> StoredComparison:
    plan, closed_at = ComparisonPlan.from_json(json.loads(row["plan"])), row["closed_at"]
    return StoredComparison(
        row["id"], plan, row["plan_hash"], from_us(row["opened_at"]),
        None if closed_at is None else from_us(closed_at), row["outcome"], row["verdict_digest"],
    )  # fmt: skip
