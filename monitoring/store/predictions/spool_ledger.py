"""The ledger of the spool: how far each writer's records have come, exactly.

A writer numbers its records 1, 2, 3 and so on, dropped ones included. One transaction moves a
batch's rows into their tables and the ledger past them, so a crash at any point neither loses nor
repeats a record. What holds for each writer, and so for their sum:

    accepted = stored + spooled + quarantined + dropped

accepted      the highest number given
stored        its row is in the database: new ones, ``duplicates`` (the event id was there already; an
              answer that took the place of an unscored event is one of them), labels, and actions
              (counted as labels)
spooled       still in a segment file
quarantined   kept in the quarantine table with a reason, or numbers lost in a damaged file
dropped       refused by a full spool in ``available`` mode
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from monitoring.errors import LeaseHeld
from monitoring.policies import LabelPolicy
from monitoring.store.database.day_partitions import prepare_days
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch
from monitoring.store.database.records import ActionRecord, LabelRecord, PlanRecord, RefusedRecord, ScoreRecord
from monitoring.store.database.tables import quarantine, spool_ledger
from monitoring.store.predictions.actions import insert_actions
from monitoring.store.predictions.insert import insert_plans, insert_scores
from monitoring.store.predictions.labels import insert_labels


@dataclass(frozen=True)
class WriterState:
    """The ledger's row of one writer; see the module for the meaning of the counts.

    ``segment`` and ``position`` (a byte offset) say where its next record is read; ``gaps`` are numbers
    that no record carried; ``torn`` counts half-written ends of files that were skipped.
    """

    writer: str
    segment: int = 0
    position: int = 0
    last_seq: int = 0
    stored: int = 0
    duplicates: int = 0
    labels: int = 0
    quarantined: int = 0
    gaps: int = 0
    dropped: int = 0
    torn: int = 0
    finished: int = 0


@dataclass(frozen=True)
class Shipment:
    """A step of one writer: from the ledger's state ``before`` to a new place and number.

    Attributes:
        usecase: name of the use case.
        before: the state that the step starts from; another state in the database refuses it.
        segment, position: where the next record is read.
        last_seq: number of the last record of the step.
        dropped: the writer's own count of drops, read after the records of the step.
        gaps: numbers in the step that no record carried.
        torn: half-written ends that were skipped.
    """

    usecase: str
    before: WriterState
    segment: int
    position: int
    last_seq: int
    dropped: int = 0
    gaps: int = 0
    torn: int = 0


@dataclass(frozen=True)
class Cargo:
    """The records of one step, by kind; ``filled`` is what :func:`~monitoring.store.predictions.insert.insert_scores`
    takes.
    """

    scores: Sequence[ScoreRecord] = ()
    labels: Sequence[LabelRecord] = ()
    plans: Sequence[PlanRecord] = ()
    actions: Sequence[ActionRecord] = ()
    filled: tuple[str, ...] = ()
    refused: Sequence[tuple[int, RefusedRecord]] = ()
    """Rows that were refused when they arrived, with their numbers: they go into quarantine."""


@dataclass(frozen=True)
class Poison:
    """A record that cannot be stored: its number, its bytes and why; ``records`` is 0 for a plan."""

    seq: int
    payload: bytes
    reason: str
    records: int = 1


@dataclass(frozen=True)
class Accounting:
    """The identity of the module, at one moment. ``stored`` includes ``duplicates`` and ``labels``."""

    accepted: int = 0
    stored: int = 0
    spooled: int = 0
    quarantined: int = 0
    dropped: int = 0
    duplicates: int = 0
    labels: int = 0
    torn: int = 0
    balance: int = field(init=False)

    def __post_init__(self) -> None:
        explained_records = self.stored + self.spooled + self.quarantined + self.dropped
        object.__setattr__(self, "balance", self.accepted - explained_records)

    @property
    def is_balanced(self) -> bool:
        """Whether every accepted record is explained; anything else is a defect."""
        return self.balance == 0


class SpoolLedger:
    """Moves records into the database and remembers how far it came."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def state(self, usecase: str, writer: str) -> WriterState:
        """Where this writer stands; a fresh state for an unknown one."""
        with self._database.read() as connection:
            return _state(connection, usecase, writer)

    def states(self, usecase: str) -> list[WriterState]:
        """All writers that were ever shipped, oldest name first."""
        query = _select().where(spool_ledger.c.usecase == usecase).order_by(spool_ledger.c.writer)
        with self._database.read() as connection:
            return [WriterState(*row) for row in fetch(connection, query)]

    def ship(self, shipment: Shipment, cargo: Cargo, policy: LabelPolicy) -> WriterState:
        """Store the cargo and move the ledger, in one transaction.

        Raises:
            RowRefused: a row cannot be stored; nothing was.
            LeaseHeld: the ledger stands elsewhere: another scribe ships this spool. Nothing was stored.
            StoreUnavailable: nothing was stored; try again.
        """
        prepare_days(self._database, [record.event_time for record in cargo.scores])
        # Its records stay in the spool until ``settle`` has committed durably behind it.
        with self._database.write(lazy=True) as connection:
            insert_plans(self._database, connection, cargo.plans)
            scores = insert_scores(self._database, connection, cargo.scores, cargo.filled)
            if cargo.labels:
                insert_labels(self._database, connection, cargo.labels, policy)
            insert_actions(self._database, connection, cargo.actions)
            said = len(cargo.labels) + len(cargo.actions)
            self._quarantine(connection, shipment, cargo.refused)
            counts = {"stored": scores.stored, "duplicates": scores.duplicates, "labels": said}
            counts["quarantined"] = len(cargo.refused)
            return self._advance(connection, shipment, counts)

    def refuse(self, shipment: Shipment, poison: Poison) -> WriterState:
        """Put one record into quarantine and move the ledger past it, in one transaction."""
        with self._database.write() as connection:
            row = {
                "usecase": shipment.usecase,
                "writer": shipment.before.writer,
                "segment": shipment.segment,
                "position": shipment.position,
                "seq": poison.seq,
                "records": poison.records,
                "reason": poison.reason,
                "payload": poison.payload,
                "stored_at": self._database.now(connection),
            }
            connection.execute(insert(quarantine).values(row))
            return self._advance(connection, shipment, {"quarantined": poison.records})

    def _quarantine(
        self, connection: Connection, shipment: Shipment, refused: Sequence[tuple[int, RefusedRecord]]
    ) -> None:
        if not refused:
            return
        place = {"segment": shipment.segment, "position": shipment.position, "records": 1}
        place |= {"stored_at": self._database.now(connection)}
        rows = [refused_row(record, shipment.before.writer, seq) | place for seq, record in refused]
        connection.execute(insert(quarantine), rows)

    def settle(self, usecase: str, writer: str, finished: bool = False) -> WriterState:
        """Wait until all that was shipped is on the disk; ``finished`` says the writer is dead and read to its end.

        After this a shipped segment may be deleted: a power cut cannot take the rows back.
        """
        with self._database.write(durable=True) as connection:
            values = {"finished": int(finished), "updated_at": self._database.now(connection)}
            self._open(connection, usecase, writer)
            connection.execute(update(spool_ledger).where(*_is_writer(usecase, writer)).values(values))
            return _state(connection, usecase, writer)

    def accounting(self, usecase: str) -> Accounting:
        """What the database knows by itself: ``spooled`` is 0, ``accepted`` ends at the last shipped number."""
        return sum_accounts([account_writer(state) for state in self.states(usecase)])

    def _advance(self, connection: Connection, shipment: Shipment, counts: dict[str, int]) -> WriterState:
        before = shipment.before
        self._open(connection, shipment.usecase, before.writer)
        c = spool_ledger.c
        step = {"gaps": shipment.gaps, "torn": shipment.torn} | counts
        values: dict[str, Any] = {name: c[name] + amount for name, amount in step.items()}
        values |= {name: getattr(shipment, name) for name in ("segment", "position", "last_seq", "dropped")}
        unmoved = (c.segment == before.segment, c.position == before.position, c.last_seq == before.last_seq)
        statement = update(spool_ledger).where(*_is_writer(shipment.usecase, before.writer), *unmoved)
        moved = connection.execute(statement.values(values | {"updated_at": self._database.now(connection)}))
        if moved.rowcount != 1:
            raise LeaseHeld("the ledger stands elsewhere: another scribe ships this spool")
        return _state(connection, shipment.usecase, before.writer)

    def _open(self, connection: Connection, usecase: str, writer: str) -> None:
        now = self._database.now(connection)
        columns = ("usecase", "writer", "updated_at")
        self._database.insert_new(connection, spool_ledger, columns, [(usecase, writer, now)])


def refused_row(record: RefusedRecord, writer: str, seq: int) -> dict[str, Any]:
    """The row of the quarantine for a refused record, but for its place in the spool and the time of storing."""
    reason = f"{record.reason}: {record.kind}"
    return {"usecase": record.usecase, "writer": writer, "seq": seq, "reason": reason, "payload": record.body}


def account_writer(state: WriterState, spooled: int = 0, gaps: int = 0, accepted: int | None = None) -> Accounting:
    """The identity of one writer, from the ledger and from what a scan of its files adds.

    Args:
        state: the ledger's row.
        spooled: records in the files behind that state.
        gaps: numbers among those that no record carries.
        accepted: the highest number given; none is the ledger's last.
    """
    missing_numbers = state.gaps + gaps
    return Accounting(
        accepted=state.last_seq if accepted is None else accepted,
        stored=state.stored + state.duplicates + state.labels,
        spooled=spooled,
        quarantined=state.quarantined + max(0, missing_numbers - state.dropped),
        dropped=min(missing_numbers, state.dropped),
        duplicates=state.duplicates,
        labels=state.labels,
        torn=state.torn,
    )


def sum_accounts(parts: Sequence[Accounting]) -> Accounting:
    """The sum over writers."""
    names = ("accepted", "stored", "spooled", "quarantined", "dropped", "duplicates", "labels", "torn")
    return Accounting(**{name: sum(getattr(part, name) for part in parts) for name in names})


def quarantined(database: Database, usecase: str) -> dict[str, int]:
    """Count the records in quarantine by reason."""
    c = quarantine.c
    query = select(c.reason, func.sum(c.records)).where(c.usecase == usecase).group_by(c.reason).order_by(c.reason)
    with database.read() as connection:
        return {str(reason): int(count) for reason, count in fetch(connection, query)}


def _select() -> Any:
    return select(*(spool_ledger.c[name] for name in WriterState.__dataclass_fields__))


def _is_writer(usecase: str, writer: str) -> tuple[Any, ...]:
    return (spool_ledger.c.usecase == usecase, spool_ledger.c.writer == writer)


def _state(connection: Connection, usecase: str, writer: str) -> WriterState:
    rows = fetch(connection, _select().where(*_is_writer(usecase, writer)))
    return WriterState(*rows[0]) if rows else WriterState(writer)
