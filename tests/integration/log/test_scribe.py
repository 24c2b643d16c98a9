from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from bentos.scribe import Scribe, accounting
from bentos.spool.segments import segment_path, segments_of, writer_path
from bentos.spool.writer import SpoolWriter
from monitoring.errors import LeaseHeld, StoreUnavailable
from monitoring.metrics.process import oldest_seconds
from monitoring.store import Store, memory_store, open_store
from monitoring.store.database.tables import predictions, quarantine
from tests.support.log.logged import PLAN, days, label, labels_policy, numbers, scored
from tests.support.log.spooling import FlakyLedger, die, sizes
from tests.support.processes.postgresql import Cluster

POLICY = labels_policy()
WINDOW = days(0, 30)


def scribe(store: Store, folder: Path, batch: int = 500) -> Scribe:
    return Scribe(store, folder, "fraud", POLICY, batch)


def logged(store: Store) -> list[int]:
    return sorted(numbers(store.log.answers("fraud", WINDOW)["event_id"]))


def reasons(store: Store) -> list[str]:
    with store.database.read() as connection:
        return [row[0] for row in connection.execute(select(quarantine.c.reason))]


@pytest.fixture
def log() -> Store:
    return memory_store()


def test_an_open_segment_is_shipped_and_kept_a_closed_one_is_shipped_and_deleted(log: Store, tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, rotate_bytes=1000)
    writer.declare(PLAN)
    writer.append([scored(1), label(1, 1, 2)])
    assert scribe(log, tmp_path).run_once().shipped == 2
    assert logged(log) == [1]
    assert len(sizes(tmp_path)) == 1
    for number in range(2, 20):
        writer.append([scored(number)])
    assert scribe(log, tmp_path).run_once().shipped == 18
    assert segments_of(tmp_path, writer.writer)[-1] == writer._segment
    assert len(sizes(tmp_path)) == 1
    assert logged(log) == list(range(1, 20))
    assert len(log.labels.history("fraud")) == 1
    assert log.log.plan_names(PLAN.plan_id) == PLAN.names
    writer.close()


def test_an_open_segment_ages_only_while_it_holds_what_is_not_shipped(log: Store, tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, rotate_seconds=3600.0)
    writer.append([scored(1)])
    (path,) = tmp_path.glob("*.seg")
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    assert oldest_seconds(tmp_path, time.time()) > 3500
    assert scribe(log, tmp_path).run_once().shipped == 1
    assert oldest_seconds(tmp_path, time.time()) < 1800
    os.utime(path, (hour_ago, hour_ago))  # nobody asks the service for an hour
    scribe(log, tmp_path).run_once()
    assert oldest_seconds(tmp_path, time.time()) < 1800
    os.utime(path, (hour_ago, hour_ago))
    path.write_bytes(path.read_bytes() + b"half a record")
    os.utime(path, (hour_ago, hour_ago))
    scribe(log, tmp_path).run_once()
    assert oldest_seconds(tmp_path, time.time()) > 3500
    writer.close()


def test_a_dead_writer_leaves_nothing_behind(log: Store, tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append([scored(1)])
    writer.close()
    done = scribe(log, tmp_path).run_once()
    assert (done.shipped, done.deleted) == (1, 1)
    assert list(tmp_path.iterdir()) == []
    (state,) = log.ledger.states("fraud")
    assert (state.finished, state.stored) == (1, 1)
    assert scribe(log, tmp_path).run_once().shipped == 0


def test_a_repeated_event_is_one_row_and_counted_as_a_duplicate(log: Store, tmp_path: Path) -> None:
    for _ in range(2):
        writer = SpoolWriter(tmp_path)
        writer.append([scored(1), scored(2)])
        writer.close()
    scribe(log, tmp_path).run_once()
    found = accounting(log, tmp_path, "fraud")
    assert (found.accepted, found.stored, found.duplicates, found.balance) == (4, 4, 2, 0)
    assert logged(log) == [1, 2]


def test_poison_is_found_by_halving_and_the_rest_is_stored(log: Store, tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    records = [scored(n) for n in range(20)]
    records[3] = scored(3, score=7.0)
    records[11] = scored(11, score=None)
    writer.append([*records, label(1, 1, 2, "rumour"), label(2, 1, 2)])
    done = scribe(log, tmp_path).run_once()
    assert (done.shipped, done.quarantined) == (19, 3)
    assert logged(log) == [n for n in range(20) if n not in (3, 11)]
    assert accounting(log, tmp_path, "fraud").quarantined == 3
    said = " ".join(reasons(log))
    assert "score" in said
    assert "source is not ranked" in said
    writer.close()


def test_bytes_that_are_no_record_are_quarantined_with_their_payload(log: Store, tmp_path: Path) -> None:
    from bentos.spool.segments import HEADER, MAGIC, SCORE, _checksum

    payload = b"\x93\x01\x02\x03"
    (tmp_path / "w.00000001.seg").write_bytes(
        HEADER.pack(MAGIC, SCORE, len(payload), _checksum(payload, SCORE, 1), 1) + payload
    )
    assert scribe(log, tmp_path).run_once().quarantined == 1
    with log.database.read() as connection:
        assert connection.execute(select(quarantine.c.payload)).scalar_one() == payload
    found = accounting(log, tmp_path, "fraud")
    assert (found.accepted, found.quarantined, found.balance) == (1, 1, 0)


def test_a_torn_end_is_skipped_and_counted_and_its_record_was_never_accepted(log: Store, tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append([scored(1)])
    die(writer, tail=b"\xa5I\x01half a record")
    assert accounting(log, tmp_path, "fraud").balance == 0
    assert scribe(log, tmp_path).run_once().torn == 1
    found = accounting(log, tmp_path, "fraud")
    assert (found.accepted, found.stored, found.torn, found.balance) == (1, 1, 1, 0)


def test_records_lost_to_damage_are_accounted_as_quarantined(log: Store, tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append([scored(n) for n in range(5)])
    writer.close()
    path = segment_path(tmp_path, writer.writer, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = accounting(log, tmp_path, "fraud")
    assert (before.accepted, before.spooled, before.quarantined, before.balance) == (5, 4, 1, 0)
    scribe(log, tmp_path).run_once()
    after = accounting(log, tmp_path, "fraud")
    assert (after.accepted, after.stored, after.quarantined, after.balance) == (5, 4, 1, 0)


def test_drops_are_accounted_while_the_writer_lives_and_after_its_death(log: Store, tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, cap_bytes=700, sync_seconds=3600)
    for number in range(5):
        writer.append([scored(number)])
    live = accounting(log, tmp_path, "fraud")
    assert live.dropped == writer.stats.dropped > 0
    assert (live.accepted, live.balance) == (5, 0)
    scribe(log, tmp_path).run_once()
    assert accounting(log, tmp_path, "fraud").balance == 0
    die(writer)
    scribe(log, tmp_path).run_once()
    dead = accounting(log, tmp_path, "fraud")
    assert (dead.accepted, dead.dropped, dead.spooled, dead.balance) == (5, live.dropped, 0, 0)
    assert log.ledger.accounting("fraud") == dead
    assert not writer_path(tmp_path, writer.writer).exists()


@pytest.mark.parametrize("word", ["before", "after"])
def test_a_failure_at_any_write_neither_loses_nor_repeats(tmp_path: Path, word: str) -> None:
    for broken in range(30):
        store, folder = memory_store(), tmp_path / str(broken)
        writer = SpoolWriter(folder, rotate_bytes=1500)
        writer.declare(PLAN)
        for number in range(0, 24, 2):
            writer.append([scored(number), scored(number + 1, score=9.0 if number == 6 else 0.2)])
        writer.close()
        ledger = FlakyLedger(store.ledger, ["ok"] * broken + [word])
        failing = dataclasses.replace(store, ledger=ledger)
        try:
            scribe(failing, folder, batch=5).run_once()
        except StoreUnavailable:
            assert accounting(store, folder, "fraud").balance == 0
            scribe(store, folder, batch=5).run_once()
        assert logged(store) == [n for n in range(24) if n != 7]
        found = accounting(store, folder, "fraud")
        assert (found.accepted, found.stored, found.quarantined, found.spooled, found.duplicates) == (24, 23, 1, 0, 0)
        assert list(folder.iterdir()) == []
        store.close()
        if ledger.writes <= broken:
            return
    pytest.fail("the round had more writes than this test looked at")


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("events"), st.integers(1, 9), st.sampled_from(["new", "repeat", "poison"])),
        st.tuples(st.just("labels"), st.integers(1, 3), st.just("")),
        st.tuples(st.just("full"), st.integers(1, 4), st.just("")),
        st.tuples(st.just("kill"), st.integers(0, 40), st.just("")),
        st.tuples(st.just("close"), st.just(0), st.just("")),
        st.tuples(st.just("ship"), st.integers(0, 6), st.sampled_from(["ok", "before", "after"])),
    ),
    max_size=20,
)


@settings(max_examples=25, deadline=None)
@given(OPERATIONS)
def test_the_accounting_identity_is_exact_whatever_happens(operations: list[tuple[str, int, str]]) -> None:
    store = memory_store()
    with TemporaryDirectory() as place:
        folder = Path(place)
        accepted, fresh, expected = 0, 0, set()
        writer: SpoolWriter | None = None
        for word, amount, how in [*operations, ("close", 0, ""), ("ship", 9, "ok")]:
            if word in ("events", "labels", "full"):
                writer = writer or SpoolWriter(folder, rotate_bytes=900, sync_seconds=3600)
                writer._cap = 0 if word == "full" else 1 << 30
                accepted += amount
            if word == "labels":
                writer.append([label(n, 1, 2) for n in range(amount)])  # type: ignore[union-attr]  # made above
            elif word in ("events", "full"):
                ids = range(amount) if how == "repeat" else range(fresh, fresh + amount)
                fresh = max(fresh, ids.stop)
                wrong = {"score": 2.0} if how == "poison" else {}
                writer.append([scored(n, **wrong) for n in ids])  # type: ignore[union-attr]  # made above
                expected |= set(ids) if how in ("new", "repeat") else set()
            elif word == "kill" and writer is not None:
                die(writer, tail=b"\xa5I\x01" + bytes(amount))
                writer = None
            elif word == "close" and writer is not None:
                writer.close()
                writer = None
            elif word == "ship":
                ledger = FlakyLedger(store.ledger, ["ok"] * amount + [how])
                with contextlib.suppress(StoreUnavailable):
                    scribe(dataclasses.replace(store, ledger=ledger), folder, batch=3).run_once()
            found = accounting(store, folder, "fraud")
            assert (found.accepted, found.balance) == (accepted, 0)
        assert logged(store) == sorted(expected)
        assert found.spooled == 0
        assert found.stored - found.duplicates - found.labels == len(expected)
    store.close()


def test_a_locked_database_leaves_everything_in_the_spool_until_it_is_free(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    store = open_store(f"sqlite:///{file}", busy_seconds=0.05)
    writer = SpoolWriter(tmp_path / "spool")
    writer.append([scored(n) for n in range(3)])
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        scribe(store, writer.folder).run_once()
    found = accounting(store, writer.folder, "fraud")
    assert (found.accepted, found.spooled, found.balance) == (3, 3, 0)
    blocker.execute("ROLLBACK")
    blocker.close()
    scribe(store, writer.folder).run_once()
    assert logged(store) == [0, 1, 2]
    writer.close()
    store.close()


@pytest.mark.needs_postgresql
def test_a_postgresql_that_goes_away_and_returns_loses_nothing(postgresql: Cluster, tmp_path: Path) -> None:
    name = postgresql.create()
    store = open_store(postgresql.url(name))
    writer = SpoolWriter(tmp_path)
    writer.append([scored(n) for n in range(30)])
    assert scribe(store, tmp_path, batch=10).run_once().shipped == 30
    postgresql.shut(name)
    writer.append([scored(n) for n in range(30, 60)])
    with pytest.raises(StoreUnavailable):
        scribe(store, tmp_path, batch=10).run_once()
    postgresql.reopen(name)
    assert scribe(store, tmp_path, batch=10).run_once().shipped == 30
    assert logged(store) == list(range(60))
    assert accounting(store, tmp_path, "fraud").balance == 0
    writer.close()
    store.close()
    postgresql.drop(name)


def test_two_scribes_never_store_a_record_twice(store_url: str, tmp_path: Path) -> None:
    one, other = open_store(store_url), open_store(store_url)
    writer = SpoolWriter(tmp_path / "spool")
    writer.append([scored(n) for n in range(40)])
    stale = dataclasses.replace(other, ledger=_Stale(other.ledger))
    scribe(one, writer.folder, batch=10).run_once()
    with pytest.raises(LeaseHeld, match="another scribe"):
        scribe(stale, writer.folder, batch=10).run_once()
    assert logged(one) == list(range(40))
    found = accounting(one, writer.folder, "fraud")
    assert (found.stored, found.duplicates, found.balance) == (40, 0, 0)
    writer.close()
    one.close()
    other.close()


class _Stale:
    """A ledger that reads what was true before the other scribe came."""

    def __init__(self, real: object) -> None:
        self._real = real

    def state(self, usecase: str, writer: str) -> object:
        return type(self._real.state(usecase, writer))(writer)  # type: ignore[attr-defined]  # a ledger's state

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def test_the_identity_holds_at_every_moment_of_a_busy_spool(store_url: str, tmp_path: Path) -> None:
    store = open_store(store_url, busy_seconds=20)
    folder = tmp_path / "spool"
    writer = SpoolWriter(folder, rotate_bytes=4000)
    over = threading.Event()

    def write() -> None:
        for number in range(0, 1200, 4):
            writer._cap = 0 if number % 100 == 40 else 1 << 30
            writer.append([scored(number + n) for n in range(4)])
        over.set()

    def ship() -> None:
        worker = scribe(store, folder, batch=50)
        while not over.is_set():
            worker.run_once()

    threads = [threading.Thread(target=write), threading.Thread(target=ship)]
    for thread in threads:
        thread.start()
    seen = []
    while not over.is_set():
        seen.append(accounting(store, folder, "fraud"))
    for thread in threads:
        thread.join()
    assert [found.balance for found in seen] == [0] * len(seen)
    assert [found.quarantined for found in seen] == [0] * len(seen)
    writer.close()
    scribe(store, folder).run_once()
    last = accounting(store, folder, "fraud")
    assert (last.accepted, last.spooled, last.dropped) == (1200, 0, 48)
    with store.database.read() as connection:
        assert len(connection.execute(select(predictions.c.event_id)).all()) == 1152
    store.close()
