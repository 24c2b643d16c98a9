"""Operations of release and the leases that keep them apart.

An operation moves through its states one by one; each move is checked against the lease's fencing
epoch and written to the chain of decisions in the same transaction. Leases run on the database's
clock, so the clocks of those who compete for one do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection, select, update

from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.errors import JournalConflict, LeaseHeld
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us, to_us
from monitoring.store.database.tables import leases, operations
from monitoring.store.decisions.decisions import Decision, NewDecision, RoleChange, append_decision

State = Literal["PLANNED", "VERIFIED", "PREVIOUS_SET", "CHAMPION_SET", "CONFIRMED", "DONE", "ABORTED"]
OperationKind = Literal["promotion", "rollback", "installation"]
FINAL_STATES: Final = ("DONE", "ABORTED")


@dataclass(frozen=True)
class Lease:
    """A right to act until ``expires_at``, on the database's clock; ``epoch`` grows with every holder."""

    name: str
    holder: str
    epoch: int
    expires_at: datetime


@dataclass(frozen=True)
class Operation:
    """One promotion, rollback or installation, as far as it has come.

    Attributes:
        op_id: digest of what it is about; the same request gives the same id.
        usecase, model: what it is about.
        kind: ``promotion``, ``rollback`` or ``installation``.
        from_version: the champion that it replaces; none for an installation.
        to_version: the champion that it sets.
        previous_version: who held ``@previous`` before; an abort puts it back.
        evidence: digest of the verdict, or the term as champion that a rollback ends.
        contract: contract digest of ``to_version``.
        actor, reason: who asked for it and why.
        at: business time of the request.
        state: how far it has come.
        epoch: of the lease under which the last move was made.
        note: what the last move found, in plain words.
    """

    op_id: str
    usecase: str
    model: str
    kind: OperationKind
    from_version: str | None
    to_version: str
    previous_version: str | None
    evidence: str
    contract: str
    actor: str
    reason: str
    at: datetime
    state: State = "PLANNED"
    epoch: int = 0
    note: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in FINAL_STATES


def operation_id(
    model: str, kind: str, from_version: str | None, to_version: str, evidence: str, attempt: int = 0
) -> str:
    """The id of an operation: a digest of what it is about, so that a repeated request is the same one.

    ``attempt`` counts the times that the same request was aborted before.
    """
    return sha256_hex(canonical_json([model, kind, from_version, to_version, evidence, attempt]))


class Journal:
    """Operations and leases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, holder: str, seconds: float) -> Lease:
        """Take a lease that is free or has run out.

        Raises:
            LeaseHeld: naming the holder and until when.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            self._database.insert_new(
                connection, leases, ("name", "holder", "epoch", "acquired_at", "expires_at"), [(name, "", 0, 0, 0)]
            )
            until = now + int(seconds * 1e6)
            values = {"holder": holder, "epoch": leases.c.epoch + 1, "acquired_at": now, "expires_at": until}
            free = (leases.c.name == name, leases.c.expires_at <= now)
            taken = connection.execute(update(leases).where(*free).values(values))
            _, held_by, epoch, _, expires = fetch(connection, select(leases).where(leases.c.name == name))[0]
            if taken.rowcount != 1:
                raise LeaseHeld(f"{name} is held by {held_by} until {from_us(expires).isoformat()}; try again later")
        return Lease(name, holder, epoch, from_us(until))

    def renew(self, lease: Lease, seconds: float) -> Lease:
        """Hold on to a lease; ``LeaseHeld`` when it ran out or another has it."""
        with self._database.write() as connection:
            self._hold(connection, lease)
            until = self._database.now(connection) + int(seconds * 1e6)
            connection.execute(update(leases).where(leases.c.name == lease.name).values(expires_at=until))
        return Lease(lease.name, lease.holder, lease.epoch, from_us(until))

    def check(self, lease: Lease) -> None:
        """``LeaseHeld`` unless this lease is still ours and has not run out."""
        with self._database.write() as connection:
            self._hold(connection, lease)

    def release(self, lease: Lease) -> None:
        """Give a lease back; one that was lost is left alone."""
        ours = (leases.c.name == lease.name, leases.c.epoch == lease.epoch)
        with self._database.write() as connection:
            connection.execute(update(leases).where(*ours).values(expires_at=0))

    def _hold(self, connection: Connection, lease: Lease) -> None:
        """Check within a transaction; the row stays locked, so nobody takes the lease before the commit."""
        query = select(leases.c.epoch, leases.c.expires_at).where(leases.c.name == lease.name).with_for_update()
        row = connection.execute(query).first()
        if row is None or row[0] != lease.epoch or row[1] <= self._database.now(connection):
            raise LeaseHeld(f"the lease on {lease.name} ran out or was taken over; nothing was written")

    def plan(self, operation: Operation, lease: Lease, payload: Mapping[str, Any]) -> Operation:
        """Record a new operation as PLANNED.

        Raises:
            JournalConflict: the id is there already.
            LeaseHeld: the lease was lost; nothing was written.
        """
        with self._database.write() as connection:
            self._hold(connection, lease)
            now = self._database.now(connection)
            names = _fields()
            row = tuple(_plain(operation, lease)[name] for name in names)
            new = self._database.insert_new(
                connection, operations, (*names, "created_at", "updated_at"), [(*row, now, now)]
            )
            if new != 1:
                raise JournalConflict("this operation is in the journal already; it cannot be planned twice")
            self._record(connection, operation, (), payload)
            return _get(connection, operation.op_id)

    def move(
        self,
        operation: Operation,
        state: State,
        lease: Lease,
        note: str = "",
        changes: Sequence[RoleChange] = (),
        payload: Mapping[str, Any] | None = None,
    ) -> Operation:
        """Record that the operation has come to ``state``, with the role changes that this made.

        Raises:
            LeaseHeld: the lease was lost; nothing was written.
            JournalConflict: the operation stands in another state than ours; nothing was written.
        """
        with self._database.write() as connection:
            self._hold(connection, lease)
            values = {"state": state, "epoch": lease.epoch, "note": note}
            values["updated_at"] = self._database.now(connection)
            here = (operations.c.op_id == operation.op_id, operations.c.state == operation.state)
            if connection.execute(update(operations).where(*here).values(values)).rowcount != 1:
                raise JournalConflict(f"the operation is not in state {operation.state} any more; read it again")
            moved = _get(connection, operation.op_id)
            self._record(connection, moved, changes, payload or {})
            return moved

    def _record(
        self,
        connection: Connection,
        operation: Operation,
        changes: Sequence[RoleChange],
        payload: Mapping[str, Any],
    ) -> Decision:
        unsaid = ("usecase", "kind", "actor", "at", "epoch")  # the decision's own columns say them
        full = {name: getattr(operation, name) for name in _fields() if name not in unsaid} | dict(payload)
        kind = f"{operation.kind}.{operation.state.lower()}"
        return append_decision(
            self._database,
            connection,
            NewDecision(operation.usecase, kind, full, operation.actor, operation.at, changes),
        )

    def get(self, op_id: str) -> Operation | None:
        """The operation of that id."""
        with self._database.read() as connection:
            rows = fetch(connection, _select().where(operations.c.op_id == op_id))
        return _operation(rows[0]) if rows else None

    def unfinished(self, model: str) -> list[Operation]:
        """Operations of this model that were begun and not ended, oldest first."""
        query = _select().where(operations.c.model == model, operations.c.state.not_in(FINAL_STATES))
        with self._database.read() as connection:
            return [_operation(row) for row in fetch(connection, query.order_by(operations.c.created_at))]

    def recent(self, model: str, limit: int = 20) -> list[Operation]:
        """Newest operations first."""
        query = _select().where(operations.c.model == model).order_by(operations.c.created_at.desc()).limit(limit)
        with self._database.read() as connection:
            return [_operation(row) for row in fetch(connection, query)]


def _fields() -> tuple[str, ...]:
    return tuple(Operation.__dataclass_fields__)


def _select() -> Any:
    return select(*(operations.c[name] for name in _fields()))


def _get(connection: Connection, op_id: str) -> Operation:
    return _operation(fetch(connection, _select().where(operations.c.op_id == op_id))[0])


def _plain(operation: Operation, lease: Lease) -> dict[str, Any]:
    row = {name: getattr(operation, name) for name in _fields()}
    return row | {"at": to_us(operation.at), "epoch": lease.epoch}


def _operation(row: tuple[Any, ...]) -> Operation:
    values = dict(zip(_fields(), row, strict=True))
    return Operation(**values | {"at": from_us(values["at"])})
