"""Carries records from the spool into the database, exactly once each.

At most 2,000 records go into a transaction that also moves the ledger
(:mod:`monitoring.store.predictions.spool_ledger`), so this may die at any point. A record that the database refuses is
found by halving its batch and put into quarantine. A segment is deleted when its records are on the
database's disk.

It rests between rounds that were not full: hundreds of small transactions a second would take the core that the
service needs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from bentos.spool.segments import (
    Item,
    is_alive,
    read_segment,
    read_state,
    segment_path,
    segments_of,
    writer_path,
    writers_of,
)
from monitoring.errors import RowRefused
from monitoring.policies import LabelPolicy
from monitoring.store import Accounting, Store
from monitoring.store.database.records import ActionRecord, LabelRecord, PlanRecord, RefusedRecord, ScoreRecord
from monitoring.store.predictions.spool_ledger import Cargo, Poison, Shipment, WriterState, account_writer, sum_accounts

log = logging.getLogger("incumbent.scribe")

BATCH: Final = 2000
_SCAN: Final = 10_000


@dataclass(frozen=True)
class ShipResult:
    """What one round did: records moved, records quarantined, torn ends skipped, segments deleted."""

    shipped: int = 0
    quarantined: int = 0
    torn: int = 0
    deleted: int = 0

    def __add__(self, other: ShipResult) -> ShipResult:
        names = self.__dataclass_fields__
        return ShipResult(**{name: getattr(self, name) + getattr(other, name) for name in names})


class Scribe:
    """Ships one spool into one store.

    Args:
        store: the database.
        folder: the spool of one use case.
        usecase: its name in the log.
        policy: ranks of label sources.
        batch: most records in a transaction.
        stop: ends a round after the batch that is under way.
        filled: columns whose values clients do not send, see :func:`monitoring.store.predictions.insert.insert_scores`.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        usecase: str,
        policy: LabelPolicy,
        batch: int = BATCH,
        stop: threading.Event | None = None,
        filled: tuple[str, ...] = (),
    ) -> None:
        self._store = store
        self._folder = folder
        self._usecase = usecase
        self._policy = policy
        self._batch = batch
        self._stop = stop or threading.Event()
        self._filled = filled

    def run_once(self) -> ShipResult:
        """Ship everything that is whole now.

        Raises:
            StoreUnavailable: what was not stored stays in the spool.
            LeaseHeld: another scribe ships this spool.
        """
        result = ShipResult()
        for writer in writers_of(self._folder):
            if self._stop.is_set():
                break
            result += self._writer(writer)
        return result

    def _writer(self, writer: str) -> ShipResult:
        # Asked before the files are listed: a writer that is dead now adds nothing to what is seen below.
        writer_lives = is_alive(self._folder, writer)
        numbers = segments_of(self._folder, writer)
        writer_round = _WriterRound(self._store.ledger.state(self._usecase, writer))
        for number in numbers:
            if number < writer_round.state.segment:
                writer_round.emptied.append(number)
                continue
            final = not writer_lives or number != numbers[-1]
            if not self._segment(writer_round, number, final):
                break
        else:
            if not writer_lives:
                self._close(writer_round)
                return writer_round.result
        self._delete(writer_round, finished=False)
        return writer_round.result

    def _segment(self, writer_round: _WriterRound, number: int, final: bool) -> bool:
        """Ship a segment from where the ledger stands; whether it is done with."""
        position = writer_round.state.position if number == writer_round.state.segment else 0
        path = segment_path(self._folder, writer_round.state.writer, number)
        while not self._stop.is_set():
            chunk = read_segment(path, position, self._batch, final)
            if chunk.items:
                self._ship(writer_round, number, chunk.items, torn=int(chunk.skipped > 0))
                position = chunk.position
                continue
            if not final:
                if chunk.size == position:
                    _note_shipped(path)
                return False
            if chunk.size > position:
                self._move(writer_round, number, chunk.size, writer_round.state.last_seq, torn=1)
            writer_round.emptied.append(number)
            return True
        return False

    def _ship(self, writer_round: _WriterRound, number: int, items: Sequence[Item], torn: int = 0) -> None:
        """Store the records; on a refusal find the one that is to blame by halving."""
        step = self._step(writer_round.state, number, items, torn)
        try:
            writer_round.state = self._store.ledger.ship(step, _cargo(items, self._filled), self._policy)
        except (RowRefused, msgspec.MsgspecError) as exc:
            if len(items) == 1:
                self._refuse(writer_round, step, items[0], exc)
                return
            middle = len(items) // 2
            self._ship(writer_round, number, items[:middle], torn)
            self._ship(writer_round, number, items[middle:])
            return
        writer_round.result += ShipResult(shipped=sum(item.seq > 0 for item in items), torn=torn)

    def _refuse(self, writer_round: _WriterRound, step: Shipment, item: Item, exc: Exception) -> None:
        # msgspec names the field and the type that it expected; a refusal of ours names no value either.
        poison = Poison(item.seq, item.payload, f"{type(exc).__name__}: {exc}", records=int(item.seq > 0))
        writer_round.state = self._store.ledger.refuse(step, poison)
        writer_round.result += ShipResult(quarantined=1, torn=step.torn)
        log.warning("a record of writer %s was put into quarantine: %s", step.before.writer, poison.reason)

    def _step(self, state: WriterState, number: int, items: Sequence[Item], torn: int) -> Shipment:
        record_numbers = [item.seq for item in items if item.seq > 0]
        last_seq = record_numbers[-1] if record_numbers else state.last_seq
        gaps = last_seq - state.last_seq - len(record_numbers)
        # Read after the records: a drop is noted before any later record is written.
        dropped = max(state.dropped, read_state(self._folder, state.writer).dropped)
        return Shipment(self._usecase, state, number, items[-1].end, last_seq, dropped, gaps, torn)

    def _move(self, writer_round: _WriterRound, number: int, position: int, last_seq: int, torn: int = 0) -> None:
        """Move the ledger without a record."""
        state = writer_round.state
        dropped = max(state.dropped, read_state(self._folder, state.writer).dropped)
        step = Shipment(self._usecase, state, number, position, last_seq, dropped, last_seq - state.last_seq, torn)
        writer_round.state = self._store.ledger.ship(step, Cargo(), self._policy)
        writer_round.result += ShipResult(torn=torn)

    def _close(self, writer_round: _WriterRound) -> None:
        """The writer is dead and read to its end: count its last drops and forget its files."""
        state = writer_round.state
        seq = read_state(self._folder, state.writer).seq
        if seq > state.last_seq:
            self._move(writer_round, state.segment, state.position, seq)
        self._delete(writer_round, finished=True)
        writer_path(self._folder, state.writer).unlink(missing_ok=True)

    def _delete(self, writer_round: _WriterRound, finished: bool) -> None:
        if not writer_round.emptied and not finished:
            return
        self._store.ledger.settle(self._usecase, writer_round.state.writer, finished)
        for number in writer_round.emptied:
            segment_path(self._folder, writer_round.state.writer, number).unlink(missing_ok=True)
        writer_round.result += ShipResult(deleted=len(writer_round.emptied))


def _note_shipped(path: Path) -> None:
    """A segment ages from its last record that is not shipped: one that a quiet service keeps open is not late."""
    with contextlib.suppress(OSError):
        os.utime(path)


@dataclass
class _WriterRound:
    """One writer in one round: the ledger's word, segments that are done with, what happened."""

    state: WriterState
    result: ShipResult = ShipResult()

    def __post_init__(self) -> None:
        self.emptied: list[int] = []


def _cargo(items: Sequence[Item], filled: tuple[str, ...]) -> Cargo:
    records = [item.decode() for item in items]
    return Cargo(
        [r for r in records if isinstance(r, ScoreRecord)],
        [r for r in records if isinstance(r, LabelRecord)],
        [r for r in records if isinstance(r, PlanRecord)],
        [r for r in records if isinstance(r, ActionRecord)],
        filled,
        [(item.seq, r) for item, r in zip(items, records, strict=True) if isinstance(r, RefusedRecord)],
    )


def accounting(store: Store, folder: Path, usecase: str) -> Accounting:
    """Every accepted record and where it is, exact also while writers write and a scribe ships.

    See :mod:`monitoring.store.predictions.spool_ledger` for the identity that the figures keep.

    Raises:
        StoreUnavailable: the ledger cannot be read.
    """
    ledger_writers = {state.writer for state in store.ledger.states(usecase)}
    return sum_accounts(
        [_account(store, folder, usecase, writer) for writer in sorted(ledger_writers | set(writers_of(folder)))]
    )


def _account(store: Store, folder: Path, usecase: str, writer: str) -> Accounting:
    # The order makes one moment of it: every number up to ``noted.seq`` was written or dropped before the
    # files are listed, what was deleted before that is in the ledger, and a gap's drops are noted by the end.
    while True:
        writer_file, writer_lives, numbers = (
            read_state(folder, writer),
            is_alive(folder, writer),
            segments_of(folder, writer),
        )
        state = store.ledger.state(usecase, writer)
        try:
            count, last_seq = _scan(folder, state, numbers, writer_lives)
        except FileNotFoundError:
            continue  # the scribe deleted a file meanwhile, so the ledger has moved
        break
    accepted = max(last_seq, writer_file.seq)
    dropped = max(state.dropped, read_state(folder, writer).dropped)
    gaps = accepted - state.last_seq - count
    return account_writer(replace(state, dropped=dropped), count, gaps, accepted)


def _scan(folder: Path, state: WriterState, numbers: Sequence[int], writer_lives: bool) -> tuple[int, int]:
    """How many records lie behind the ledger's place, and the highest number seen."""
    count, last_seq = 0, state.last_seq
    for number in numbers:
        position = state.position if number == state.segment else 0
        final = not writer_lives or number != numbers[-1]
        while number >= state.segment:
            chunk = read_segment(segment_path(folder, state.writer, number), position, _SCAN, final)
            if not chunk.items:
                break
            record_numbers = [item.seq for item in chunk.items if item.seq > 0]
            count, last_seq, position = count + len(record_numbers), max(last_seq, *record_numbers, 0), chunk.position
    return count, last_seq
