"""Standing orders: what the journal tells a serving process beside the registry's aliases.

A *pin* makes a version answer while the registry cannot be written. *Explained* versions are those
that the journal lets hold ``@champion``. A *threshold order* replaces the promoted threshold of one
version for a while, and ends by itself. All three are read at once, by every replica, every second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, desc, func, select

from monitoring.errors import JournalConflict
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us
from monitoring.store.database.tables import decisions, operations, pins, roles
from monitoring.store.decisions.decisions import Decision, NewDecision, RoleChange, append_decision

THRESHOLD_KINDS: Final = ("threshold.override", "threshold.lifted")
_RUNNING_STATES: Final = ("VERIFIED", "PREVIOUS_SET", "CHAMPION_SET", "CONFIRMED")


@dataclass(frozen=True)
class Pin:
    """A version that is active by the journal's word alone.

    Attributes:
        model, version: what is active.
        from_version: the version that it replaced; the registry may still name it.
        contract: contract digest of ``version``; empty for an external score.
        decision: seq of the decision that pinned it.
        actor, reason: who asked, and why.
        pinned_at: machine time, by the database's clock.
    """

    model: str
    version: str
    from_version: str | None
    contract: str
    decision: int
    actor: str
    reason: str
    pinned_at: datetime


@dataclass(frozen=True)
class ThresholdOrder:
    """A threshold that holds for one version until a moment of machine time.

    Attributes:
        version: whose promoted threshold it replaces; any other version keeps its own.
        value: calibrated scores at or above it are flagged.
        until: from then on the promoted threshold holds again.
        decision: seq of the decision that ordered it.
        owners: whose keys ordered it.
        reason: why.
    """

    version: str
    value: float
    until: datetime
    decision: int
    owners: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Overrides:
    """All standing orders of one model, as the database holds them at one moment.

    Attributes:
        pin: a version that is active without the registry.
        explained: versions that may hold ``@champion``.
        threshold: the last order of another threshold, also after its time.
        holders: role to the version that holds it by the last decision about it; vacant roles are left out.
    """

    pin: Pin | None = None
    explained: frozenset[str] = field(default_factory=frozenset)
    threshold: ThresholdOrder | None = None
    holders: Mapping[str, str] = field(default_factory=dict)


class Orders:
    """Standing orders of a model."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def standing(self, model: str) -> Overrides:
        """Everything that stands now; a threshold order is returned even after its time."""
        with self._database.read() as connection:
            holders = role_holders(connection, model)
            explained = _explained_versions(connection, model, holders.get("champion"))
            return Overrides(_pin(connection, model), explained, _threshold(connection, model), holders)

    def pin(
        self,
        usecase: str,
        champion: RoleChange,
        from_version: str | None,
        payload: Mapping[str, Any],
        actor: str,
        at: datetime,
    ) -> Decision:
        """Put an active version without the registry: the pin, its decision and the role changes at once.

        The payload holds the ``reason``. A champion without a contract is an external score: by the journal
        ``@champion`` is then vacant.

        Raises:
            JournalConflict: a pin stands already.
        """
        model, version, contract = champion.model, champion.version, champion.contract
        seated = champion if contract else RoleChange(model, "champion", None)
        changes = [seated, RoleChange(model, "previous", None)]
        full = {"model": model, "from_version": from_version, "to_version": version, "contract": contract, **payload}
        with self._database.write() as connection:
            made = append_decision(
                self._database, connection, NewDecision(usecase, "rollback.pinned", full, actor, at, changes)
            )
            names = (
                "model", "usecase", "version", "from_version", "contract", "decision", "actor", "reason", "pinned_at",
            )  # fmt: skip
            row = (model, usecase, version, from_version, contract, made.seq, actor, payload["reason"])
            now = self._database.now(connection)
            if self._database.insert_new(connection, pins, names, [(*row, now)]) != 1:
                raise JournalConflict(f"a version of {model} is pinned already; reconcile first")
        return made

    def unpin(self, pin: Pin, usecase: str, actor: str, at: datetime, payload: Mapping[str, Any]) -> Decision | None:
        """End a pin whose aliases have been written; ``None`` when somebody else ended it."""
        with self._database.write() as connection:
            here = (pins.c.model == pin.model, pins.c.decision == pin.decision)
            if connection.execute(delete(pins).where(*here)).rowcount != 1:
                return None
            said = {"model": pin.model, "version": pin.version, "pinned_by": pin.decision, **payload}
            return append_decision(
                self._database, connection, NewDecision(usecase, "rollback.reconciled", said, actor, at)
            )


def _pin(connection: Connection, model: str) -> Pin | None:
    c = pins.c
    names = (c.model, c.version, c.from_version, c.contract, c.decision, c.actor, c.reason, c.pinned_at)
    rows = fetch(connection, select(*names).where(c.model == model))
    if not rows:
        return None
    *columns, at = rows[0]
    model_, version, from_version, contract, decision, actor, reason = columns
    return Pin(model_, version, from_version, contract, decision, actor, reason, from_us(at))


def _explained_versions(connection: Connection, model: str, champion: str | None) -> frozenset[str]:
    """The champion by the last decision, and those that an operation under way is about to seat."""
    o = operations.c
    running_query = select(o.to_version).where(o.model == model, o.state.in_(_RUNNING_STATES))
    return frozenset(filter(None, [champion, *(row[0] for row in fetch(connection, running_query))]))


def role_holders(connection: Connection, model: str) -> dict[str, str]:
    """Role to version by the last decision about each role; vacant roles are left out."""
    r = roles.c
    last_changes = select(func.max(r.role_id)).where(r.model == model).group_by(r.role)
    rows = fetch(connection, select(r.role, r.version).where(r.role_id.in_(last_changes), r.version.is_not(None)))
    return {role: str(version) for role, version in rows}


def _threshold(connection: Connection, model: str) -> ThresholdOrder | None:
    c = decisions.c
    query = select(c.seq, c.kind, c.payload).where(c.kind.in_(THRESHOLD_KINDS)).order_by(desc(c.seq)).limit(50)
    for seq, kind, text in fetch(connection, query):
        order = json.loads(text)
        if order.get("model") == model:
            return None if kind == "threshold.lifted" else _order(seq, order)
    return None


def _order(seq: int, order: Mapping[str, Any]) -> ThresholdOrder:
    owners: Sequence[str] = order["owners"]
    until = datetime.fromisoformat(order["until"])
    return ThresholdOrder(order["version"], float(order["value"]), until, seq, tuple(owners), order["reason"])
