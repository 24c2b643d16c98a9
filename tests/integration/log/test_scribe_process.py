"""The scribe as it runs: a process that is asked to stop, killed, and kept from its database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from bentos.scribe import accounting
from bentos.settings import Settings, read_settings
from bentos.spool.writer import SpoolWriter
from monitoring.store import Store, open_store
from monitoring.store.database.tables import predictions
from tests.support.log.logged import label, scored

ROOT = Path(__file__).parents[3]


class Running:
    """One scribe process; its log lies in a file."""

    def __init__(self, home: Path) -> None:
        self.log = home / "scribe.log"
        environment = os.environ | {"INCUMBENT_HOME": str(home), "INCUMBENT_USECASE": "fraud"}
        command = [sys.executable, "-m", "bentos.scribe", "--no-shadow", "--poll", "0.02"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(timeout=600)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(home=tmp_path)


@pytest.fixture
def log(settings: Settings) -> Iterator[Store]:
    store = open_store(settings.log_url, busy_seconds=20)
    yield store
    store.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Running]]:
    made: list[Running] = []

    def begin() -> Running:
        made.append(Running(tmp_path))
        return made[-1]

    yield begin
    for running in made:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def rows(store: Store) -> int:
    with store.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(predictions)).scalar_one())


def wait_for(store: Store, count: int) -> None:
    deadline = time.monotonic() + 600
    while rows(store) < count:
        assert time.monotonic() < deadline, f"{rows(store)} of {count} rows after a minute"
        time.sleep(0.02)


def test_it_ships_what_arrives_and_stops_in_order_when_asked(
    settings: Settings, log: Store, start: Callable[[], Running]
) -> None:
    writer = SpoolWriter.of(settings, "fraud")
    running = start()
    writer.append([scored(1), label(1, 1, 2)])
    wait_for(log, 1)
    writer.append([scored(2)])
    wait_for(log, 2)
    assert running.end(signal.SIGTERM) == 0
    said = running.log.read_text()
    assert "stopped in order" in said
    assert "e00001" not in said
    writer.close()


def test_killed_again_and_again_it_neither_loses_nor_repeats(
    settings: Settings, log: Store, start: Callable[[], Running]
) -> None:
    writer = SpoolWriter(settings.spool("fraud"), rotate_bytes=100_000)
    number = 0
    for _ in range(2):
        running = start()
        goal = rows(log) + 300
        while rows(log) < goal:
            writer.append([scored(number + n) for n in range(20)])
            number += 20
            time.sleep(0.002)
        running.end(signal.SIGKILL)
        assert accounting(log, writer.folder, "fraud").balance == 0
    writer.close()
    start()
    wait_for(log, number)
    found = accounting(log, writer.folder, "fraud")
    assert (found.accepted, found.stored, found.duplicates, found.quarantined) == (number, number, 0, 0)


def test_a_second_scribe_stands_by_and_takes_over(settings: Settings, log: Store, start: Callable[[], Running]) -> None:
    first = start()
    writer = SpoolWriter.of(settings, "fraud")
    writer.append([scored(1)])
    wait_for(log, 1)
    start()
    first.end(signal.SIGKILL)
    writer.append([scored(2)])
    wait_for(log, 2)
    writer.close()


def test_it_says_where_every_record_is(settings: Settings, log: Store) -> None:
    writer = SpoolWriter.of(settings, "fraud")
    writer.append([scored(1), scored(2)])
    environment = os.environ | {"INCUMBENT_HOME": str(settings.home)}
    command = [sys.executable, "-m", "bentos.scribe", "--accounting"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True, timeout=600)
    said = json.loads(done.stdout)
    assert (said["accepted"], said["spooled"], said["balance"]) == (2, 2, 0)
    writer.close()
