"""A drill: processes are killed under load, and every event that was answered must be in the log exactly once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select

from bentos.spool.shipper import accounting
from bentos.usecase.loading import load_usecase
from flows.drills.load.bodies import BodySpec
from flows.drills.load.homes import BenchHome
from flows.drills.load.load_generator import Load
from flows.drills.load.models import fit_model, training_rows
from flows.drills.load.run_load import RunningLoad, recorded
from flows.errors import StackError
from flows.workspace.processes import Child, free_port, stop_all
from monitoring.store.database.tables import predictions

Notice = Callable[[str], None]
KILLS = ("worker", "scribe", "both", "worker", "scribe", "both")
"""Who is killed, in this order."""
SMALL_WORLD = {"customers": 150, "terminals": 300, "days": 40}
_READY_SECONDS = 120.0
_DRAIN_SECONDS = 180.0


@dataclass
class Victims:
    """The processes of the drill.

    Attributes:
        home: where they live.
        port: of the service.
        service, scribe: what runs.
        killed: processes killed so far.
    """

    home: BenchHome
    port: int = field(default_factory=free_port)
    service: Child = field(init=False)
    scribe: Child = field(init=False)
    killed: int = 0

    def start(self) -> None:
        """Start both and wait until the service is ready."""
        self.service, self.scribe = self.home.service(self.port), self.home.scribe()
        self.service.wait_ready()

    def kill(self, who: str) -> None:
        """SIGKILL the Bento's worker, the scribe or both; a killed scribe is started again, as a supervisor would.

        The worker is started again by BentoML's own master process.
        """
        if who in ("worker", "both"):
            for pid in children_of(self.service.pid):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1
        if who in ("scribe", "both"):
            os.kill(self.scribe.pid, signal.SIGKILL)
            self.killed += 1
            self.scribe.wait_gone()
            time.sleep(1.0)  # the spool grows meanwhile
            self.scribe = self.home.scribe()

    def wait_serving(self) -> None:
        """Wait until the service answers again.

        Raises:
            StackError: it does not in time.
        """
        deadline = time.monotonic() + _READY_SECONDS
        while not self.service.ready():
            if time.monotonic() > deadline:
                raise StackError(f"the service did not come back; look at {self.service.command.log}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End both."""
        stop_all([self.service, self.scribe])


def drill_log(
    root: Path,
    notice: Notice,
    *,
    kills: Sequence[str] = KILLS,
    pause: float = 4.0,
    connections: int = 16,
    database_url: str = "",
) -> dict[str, Any]:
    """Kill the worker, the scribe and both under load, then compare what was answered with what is stored.

    Args:
        root: folder of the drill; emptied first.
        notice: told what happens.
        kills: who, in order.
        pause: seconds of undisturbed load before each kill.
        connections: of the load.
        database_url: where the log lies; empty is SQLite in the drill's own home. Use an empty database.

    Returns:
        ``answered`` events with status 200, ``stored`` those of them that are in the database, ``lost`` the
        others, ``duplicated`` surplus rows, ``kills``; ``wrong`` stored with another score than was answered,
        ``refused`` requests by status or ``no answer``, and the ``accounting`` of the log.

    Raises:
        StackError: the service did not come back, or the spool did not drain.
    """
    started = time.monotonic()
    notice("model")
    home = seated_home(root, database_url)
    victims = Victims(home)
    record = root / "answers.txt"
    try:
        notice("start")
        victims.start()
        load = endless(victims.port, connections, record)
        with RunningLoad(load) as running:
            for who in kills:
                time.sleep(pause)
                notice(f"kill -9: {who}")
                victims.kill(who)
                victims.wait_serving()
            time.sleep(pause)
            measured = running.stop()
        notice("drain")
        balance = drained(home)
    finally:
        victims.stop()
    found = compare_answers(home, record)
    return found | {
        "kills": victims.killed,
        "refused": measured.statuses,
        "accounting": balance,
        "seconds": round(time.monotonic() - started, 1),
    }


def seated_home(root: Path, database_url: str = "") -> BenchHome:
    """A new home in an emptied folder, with a small champion and a challenger."""
    shutil.rmtree(root, ignore_errors=True)
    home = BenchHome(root / "home", database_url=database_url)
    home.home.make()
    usecase = load_usecase("fraud")
    features, y = training_rows(usecase, **SMALL_WORLD)
    home.seat([fit_model(usecase, features, y, seed, trees=30, depth=3) for seed in (1, 2)])
    return home


def endless(port: int, connections: int, record: Path) -> Load:
    """A load of single events that goes on until it is stopped and records every answer."""
    return Load(port, "/score", BodySpec("event", 200_000), connections, 0.0, 0.0, None, "log-", True, str(record))


def drained(home: BenchHome) -> dict[str, Any]:
    """Wait until the spool is empty; the accounting of the log then.

    Raises:
        StackError: it does not become empty.
    """
    deadline = time.monotonic() + _DRAIN_SECONDS
    with home.store() as store:
        while True:
            balance = accounting(store, home.home.settings.spool(home.usecase.name), home.usecase.name)
            if balance.spooled == 0:
                return asdict(balance) | {"balanced": balance.balanced}
            if time.monotonic() > deadline:
                raise StackError(f"{balance.spooled} records are still in the spool after {_DRAIN_SECONDS:.0f} s")
            time.sleep(0.2)


class _Said(msgspec.Struct):
    event_id: str
    score: float


def compare_answers(home: BenchHome, record: Path) -> dict[str, Any]:
    """Answers of a load against rows of the log: ``answered``, ``stored``, ``lost``, ``duplicated``, ``wrong``."""
    decode = msgspec.json.Decoder(_Said).decode
    said = {a.event_id: decode(a.body).score for a in recorded(record) if a.status == 200}
    c = predictions.c
    query = select(c.event_id, c.score).where(c.usecase == home.usecase.name, c.origin == "live")
    with home.store() as store, store.database.read() as connection:
        rows = [(str(event_id), score) for event_id, score in connection.execute(query)]
    counted = Counter(event_id for event_id, _ in rows)
    scores = dict(rows)
    return {
        "answered": len(said),
        "stored": sum(event_id in counted for event_id in said),
        "lost": sum(event_id not in counted for event_id in said),
        "duplicated": sum(count - 1 for count in counted.values()),
        "wrong": sum(scores.get(event_id, score) != score for event_id, score in said.items()),
    }


def children_of(pid: int) -> list[int]:
    """Direct children of a process."""
    listed = subprocess.run(["ps", "-o", "pid=,ppid=", "-A"], capture_output=True, text=True, check=True)
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]
