"""The scribe's process while its database is locked, stopped or full: the spool goes on, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from bentos.scribe import Scribe, accounting
from bentos.spool.writer import SpoolWriter
from flows.drills.load.temporary_postgresql import Postgres, temporary_postgresql
from monitoring.errors import StoreUnavailable
from monitoring.store import Store, open_store
from monitoring.store.database.tables import predictions
from monitoring.store.predictions.spool_ledger import Accounting
from tests.support.log.logged import label, labels_policy, scored, unscored
from tests.support.processes.postgresql import programs

ROOT = Path(__file__).parents[3]


@contextmanager
def running_scribe(home: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"INCUMBENT_HOME": str(home), "INCUMBENT_USECASE": "fraud"}
    command = [sys.executable, "-m", "bentos.scribe", "--no-shadow", "--poll", "0.02"]
    with (home / "scribe.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment | {"INCUMBENT_DATABASE_URL": url}, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


class Load:
    """Appends to the spool without a pause, as a serving worker does before each answer."""

    def __init__(self, folder: Path) -> None:
        self.writer = SpoolWriter(folder, rotate_bytes=200_000)
        self.appended = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            self.writer.append([scored(self.appended + n) for n in range(10)])
            self.appended += 10

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        self.writer.close()
        return self.appended


def settled(url: str, folder: Path, count: int) -> tuple[Accounting, int]:
    """The accounting when the spool is empty, and the rows of the log."""
    store = open_store(url)
    try:
        deadline = time.monotonic() + 600
        while True:
            found = accounting(store, folder, "fraud")
            assert found.is_balanced
            if found.stored >= count or time.monotonic() > deadline:
                return found, rows(store)
            time.sleep(0.1)
    finally:
        store.close()


def rows(store: Store) -> int:
    with store.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(predictions)).scalar_one())


def assert_all_stored(url: str, load: Load) -> None:
    count = load.stop()
    found, stored = settled(url, load.writer.folder, count)
    assert (found.accepted, found.stored, found.spooled, found.dropped) == (count, count, 0, 0)
    assert (found.duplicates, found.quarantined, stored) == (0, 0, count)


@pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_a_locked_database_holds_nobody_up_and_the_backlog_drains(tmp_path: Path, seconds: float) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    open_store(url).close()
    load = Load(tmp_path / "spool" / "dev" / "fraud")
    with running_scribe(tmp_path, url):
        time.sleep(1.0)
        blocker = sqlite3.connect(tmp_path / "log.db", isolation_level=None, timeout=20)
        blocker.execute("BEGIN EXCLUSIVE")
        before = load.appended
        time.sleep(seconds)
        assert load.appended > before
        blocker.execute("ROLLBACK")
        blocker.close()
        assert_all_stored(url, load)


@pytest.mark.needs_postgresql
def test_a_server_that_crashes_under_load_loses_and_repeats_nothing(tmp_path: Path) -> None:
    programs()
    with temporary_postgresql() as server:
        open_store(server.url).close()
        load = Load(tmp_path / "spool" / "dev" / "fraud")
        with running_scribe(tmp_path, server.url):
            time.sleep(1.0)
            server.stop("immediate")
            before = load.appended
            time.sleep(1.0)
            assert load.appended > before
            server.start()
            assert_all_stored(server.url, load)


@pytest.mark.needs_postgresql
def test_killed_while_it_copies_the_scribe_neither_loses_nor_repeats(tmp_path: Path) -> None:
    programs()
    with temporary_postgresql() as server:
        open_store(server.url).close()
        load = Load(tmp_path / "spool" / "dev" / "fraud")
        for _ in range(2):
            with running_scribe(tmp_path, server.url):
                time.sleep(1.0)
        with running_scribe(tmp_path, server.url):
            assert_all_stored(server.url, load)


def test_a_full_sqlite_file_keeps_the_backlog_and_takes_it_when_there_is_room(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'log.db'}")
    folder = tmp_path / "spool"
    writer = SpoolWriter(folder)
    with store.database.read() as connection:
        pages = int(connection.execute(text("PRAGMA page_count")).scalar_one())
    limit(store, pages + 20)
    writer.append([scored(n) for n in range(3000)])
    scribe = Scribe(store, folder, "fraud", labels_policy(), batch=100)
    with pytest.raises(StoreUnavailable, match="full"):
        scribe.run_once()
    halfway = accounting(store, folder, "fraud")
    assert halfway.is_balanced
    assert halfway.spooled > 0
    limit(store, 1_000_000)
    scribe.run_once()
    found = accounting(store, folder, "fraud")
    assert (found.accepted, found.stored, found.spooled, rows(store)) == (3000, 3000, 0, 3000)
    writer.close()
    store.close()


def limit(store: Store, pages: int) -> None:
    driver = store.database.engine.raw_connection()
    driver.execute(f"PRAGMA max_page_count={pages}")  # type: ignore[attr-defined]  # sqlite3's connection
    driver.close()


@contextmanager
def small_disk(owner: str, megabytes: int) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="small-disk-", dir="/tmp"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("a small file system needs the right to mount")
    try:
        shutil.chown(folder, owner)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def on_small_disk(server: Postgres, disk: Path) -> None:
    """Make the tables of the database lie on the disk; the server's own files stay where they are."""
    import psycopg

    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as session:
        session.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")  # type: ignore[call-overload]  # our own text
        session.execute("ALTER DATABASE postgres SET default_tablespace = small")


@pytest.mark.needs_postgresql
def test_a_full_postgresql_disk_keeps_the_backlog_and_takes_it_when_there_is_room(tmp_path: Path) -> None:
    programs()
    if os.getuid() != 0:
        pytest.skip("a small file system needs root")
    with temporary_postgresql() as server, small_disk("postgres", 6) as disk:
        on_small_disk(server, disk)
        store = open_store(server.url)
        writer = SpoolWriter(tmp_path, rotate_bytes=200_000)
        body = b'{"id":"e","text":"%s"}' % os.urandom(700).hex().encode()
        writer.append([scored(n, body=body) for n in range(6000)])
        scribe = Scribe(store, tmp_path, "fraud", labels_policy())
        with pytest.raises(StoreUnavailable, match="53100"):
            scribe.run_once()
        halfway = accounting(store, tmp_path, "fraud")
        assert halfway.is_balanced
        assert 0 < halfway.spooled <= 6000
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        scribe.run_once()
        found = accounting(store, tmp_path, "fraud")
        assert (found.accepted, found.stored, found.spooled, rows(store)) == (6000, 6000, 0, 6000)
        writer.close()
        store.close()


def test_poison_is_found_among_copied_rows_and_the_rest_is_stored_once(store: Store, tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    records = [scored(n, n % 3) for n in range(200)]
    records[7] = scored(7, score=7.0)
    records[70] = scored(70, event_id="x\x00y")
    records[150] = scored(150, raw_score=-1.0)
    writer.append([*records, label(1, 1, 2)])
    done = Scribe(store, tmp_path, "fraud", labels_policy()).run_once()
    # SQLite can hold a text with a NUL inside, PostgreSQL cannot.
    refused = 2 if store.database.is_sqlite else 3
    assert (done.quarantined, done.shipped, rows(store)) == (refused, 201 - refused, 200 - refused)
    found = accounting(store, tmp_path, "fraud")
    assert (found.balance, found.quarantined, found.stored) == (0, refused, 201 - refused)
    writer.close()


def test_an_answer_to_a_known_event_is_in_the_log_and_the_accounting_is_exact(store: Store, tmp_path: Path) -> None:
    store.log.append([unscored(1), unscored(2, body=b'{"id":"e00002","amount":7.0}')])
    writer = SpoolWriter(tmp_path)
    writer.append([scored(1), scored(2), scored(3)])
    done = Scribe(store, tmp_path, "fraud", labels_policy()).run_once()
    # The second says something else about its event: its answer is kept in quarantine, with its payload.
    assert (done.shipped, done.quarantined) == (2, 1)
    found = accounting(store, tmp_path, "fraud")
    assert (found.accepted, found.stored, found.duplicates, found.quarantined) == (3, 2, 1, 1)
    assert (found.balance, rows(store)) == (0, 3)
    writer.close()
