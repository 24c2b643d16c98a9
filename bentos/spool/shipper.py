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
from monitoring.store.predictions.spool_ledger import Cargo, Poison, Shipment, WriterState, account, total

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
        done = ShipResult()
        for writer in writers_of(self._folder):
            if self._stop.is_set():
                break
            done += self._writer(writer)
        return done

    def _writer(self, writer: str) -> ShipResult:
        # Asked before the files are listed: a writer that is dead now adds nothing to what is seen below.
        alive = is_alive(self._folder, writer)
        numbers = segments_of(self._folder, writer)
        journey = _Journey(self._store.ledger.state(self._usecase, writer))
        for number in numbers:
            if number < journey.state.segment:
                journey.emptied.append(number)
                continue
            final = not alive or number != numbers[-1]
            if not self._segment(journey, number, final):
                break
        else:
            if not alive:
                self._close(journey)
                return journey.result
        self._delete(journey, finished=False)
        return journey.result

    def _segment(self, journey: _Journey, number: int, final: bool) -> bool:
        """Ship a segment from where the ledger stands; whether it is done with."""
        position = journey.state.position if number == journey.state.segment else 0
        path = segment_path(self._folder, journey.state.writer, number)
        while not self._stop.is_set():
            chunk = read_segment(path, position, self._batch, final)
            if chunk.items:
                self._ship(journey, number, chunk.items, torn=int(chunk.skipped > 0))
                position = chunk.position
                continue
            if not final:
                if chunk.size == position:
                    _note_shipped(path)
                return False
            if chunk.size > position:
                self._move(journey, number, chunk.size, journey.state.last_seq, torn=1)
            journey.emptied.append(number)
            return True
        return False

    def _ship(self, journey: _Journey, number: int, items: Sequence[Item], torn: int = 0) -> None:
        """Store the records; on a refusal find the one that is to blame by halving."""
        step = self._step(journey.state, number, items, torn)
        try:
            journey.state = self._store.ledger.ship(step, _cargo(items, self._filled), self._policy)
        except (RowRefused, msgspec.MsgspecError) as exc:
            if len(items) == 1:
                self._refuse(journey, step, items[0], exc)
                return
            half = len(items) // 2
            self._ship(journey, number, items[:half], torn)
            self._ship(journey, number, items[half:])
            return
        journey.result += ShipResult(shipped=sum(item.seq > 0 for item in items), torn=torn)

    def _refuse(self, journey: _Journey, step: Shipment, item: Item, exc: Exception) -> None:
        # msgspec names the field and the type that it expected; a refusal of ours names no value either.
        poison = Poison(item.seq, item.payload, f"{type(exc).__name__}: {exc}", records=int(item.seq > 0))
        journey.state = self._store.ledger.refuse(step, poison)
        journey.result += ShipResult(quarantined=1, torn=step.torn)
        log.warning("a record of writer %s was put into quarantine: %s", step.before.writer, poison.reason)

    def _step(self, state: WriterState, number: int, items: Sequence[Item], torn: int) -> Shipment:
        numbered = [item.seq for item in items if item.seq > 0]
        last = numbered[-1] if numbered else state.last_seq
        gaps = last - state.last_seq - len(numbered)
        # Read after the records: a drop is noted before any later record is written.
        dropped = max(state.dropped, read_state(self._folder, state.writer).dropped)
        return Shipment(self._usecase, state, number, items[-1].end, last, dropped, gaps, torn)

    def _move(self, journey: _Journey, number: int, position: int, last: int, torn: int = 0) -> None:
        """Move the ledger without a record."""
        state = journey.state
        dropped = max(state.dropped, read_state(self._folder, state.writer).dropped)
        step = Shipment(self._usecase, state, number, position, last, dropped, last - state.last_seq, torn)
        journey.state = self._store.ledger.ship(step, Cargo(), self._policy)
        journey.result += ShipResult(torn=torn)

    def _close(self, journey: _Journey) -> None:
        """The writer is dead and read to its end: count its last drops and forget its files."""
        state = journey.state
        seq = read_state(self._folder, state.writer).seq
        if seq > state.last_seq:
            self._move(journey, state.segment, state.position, seq)
        self._delete(journey, finished=True)
        writer_path(self._folder, state.writer).unlink(missing_ok=True)

    def _delete(self, journey: _Journey, finished: bool) -> None:
        if not journey.emptied and not finished:
            return
        self._store.ledger.settle(self._usecase, journey.state.writer, finished)
        for number in journey.emptied:
            segment_path(self._folder, journey.state.writer, number).unlink(missing_ok=True)
        journey.result += ShipResult(deleted=len(journey.emptied))


def _note_shipped(path: Path) -> None:
    """A segment ages from its last record that is not shipped: one that a quiet service keeps open is not late."""
    with contextlib.suppress(OSError):
        os.utime(path)


@dataclass
class _Journey:
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
    known = {state.writer for state in store.ledger.states(usecase)}
    return total([_account(store, folder, usecase, writer) for writer in sorted(known | set(writers_of(folder)))])


def _account(store: Store, folder: Path, usecase: str, writer: str) -> Accounting:
    # The order makes one moment of it: every number up to ``noted.seq`` was written or dropped before the
    # files are listed, what was deleted before that is in the ledger, and a gap's drops are noted by the end.
    while True:
        noted, alive, numbers = read_state(folder, writer), is_alive(folder, writer), segments_of(folder, writer)
        state = store.ledger.state(usecase, writer)
        try:
            count, last = _scan(folder, state, numbers, alive)
        except FileNotFoundError:
            continue  # the scribe deleted a file meanwhile, so the ledger has moved
        break
    accepted = max(last, noted.seq)
    dropped = max(state.dropped, read_state(folder, writer).dropped)
    gaps = accepted - state.last_seq - count
    return account(replace(state, dropped=dropped), count, gaps, accepted)


def _scan(folder: Path, state: WriterState, numbers: Sequence[int], alive: bool) -> tuple[int, int]:
    """How many records lie behind the ledger's place, and the highest number seen."""
    count, last = 0, state.last_seq
    for number in numbers:
        position = state.position if number == state.segment else 0
        final = not alive or number != numbers[-1]
        while number >= state.segment:
            chunk = read_segment(segment_path(folder, state.writer, number), position, _SCAN, final)
            if not chunk.items:
                break
            numbered = [item.seq for item in chunk.items if item.seq > 0]
            count, last, position = count + len(numbered), max(last, *numbered, 0), chunk.position
    return count, last
