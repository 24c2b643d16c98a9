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
from flows.drills.load.load_generator import LoadRound
from flows.drills.load.models import fit_model, training_rows
from flows.drills.load.run_load import RunningLoad, read_answers
from flows.errors import StackError
from flows.workspace.processes import Child, free_port, stop_all
from monitoring.store.database.tables import predictions

ProgressCallback = Callable[[str], None]
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

    def kill(self, target: str) -> None:
        """SIGKILL the Bento's worker, the scribe or both; a killed scribe is started again, as a supervisor would.

        The worker is started again by BentoML's own master process.
        """
        if target in ("worker", "both"):
            for pid in children_of(self.service.pid):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1
        if target in ("scribe", "both"):
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
    report_progress: ProgressCallback,
    *,
    kills: Sequence[str] = KILLS,
    pause: float = 4.0,
    connections: int = 16,
    database_url: str = "",
) -> dict[str, Any]:
    """Kill the worker, the scribe and both under load, then compare what was answered with what is stored.

    Args:
        root: folder of the drill; emptied first.
        report_progress: told what happens.
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
    start_time = time.monotonic()
    report_progress("model")
    home = make_drill_home(root, database_url)
    victims = Victims(home)
    record = root / "answers.txt"
    try:
        report_progress("start")
        victims.start()
        load = endless_load(victims.port, connections, record)
        with RunningLoad(load) as running:
            for target in kills:
                time.sleep(pause)
                report_progress(f"kill -9: {target}")
                victims.kill(target)
                victims.wait_serving()
            time.sleep(pause)
            figures = running.stop()
        report_progress("drain")
        balance = drain_spool(home)
    finally:
        victims.stop()
    comparison = compare_answers(home, record)
    return comparison | {
        "kills": victims.killed,
        "refused": figures.statuses,
        "accounting": balance,
        "seconds": round(time.monotonic() - start_time, 1),
    }


def make_drill_home(root: Path, database_url: str = "") -> BenchHome:
    """A new home in an emptied folder, with a small champion and a challenger."""
    shutil.rmtree(root, ignore_errors=True)
    home = BenchHome(root / "home", database_url=database_url)
    home.home.make()
    usecase = load_usecase("fraud")
    features, y = training_rows(usecase, **SMALL_WORLD)
    home.seat([fit_model(usecase, features, y, seed, trees=30, depth=3) for seed in (1, 2)])
    return home


def endless_load(port: int, connections: int, record: Path) -> LoadRound:
    """A load of single events that goes on until it is stopped and records every answer."""
    return LoadRound(port, "/score", BodySpec("event", 200_000), connections, 0.0, 0.0, None, "log-", True, str(record))


def drain_spool(home: BenchHome) -> dict[str, Any]:
    """Wait until the spool is empty; the accounting of the log then.

    Raises:
        StackError: it does not become empty.
    """
    deadline = time.monotonic() + _DRAIN_SECONDS
    with home.store() as store:
        while True:
            balance = accounting(store, home.home.settings.spool(home.usecase.name), home.usecase.name)
            if balance.spooled == 0:
                return asdict(balance) | {"balanced": balance.is_balanced}
            if time.monotonic() > deadline:
                raise StackError(f"{balance.spooled} records are still in the spool after {_DRAIN_SECONDS:.0f} s")
            time.sleep(0.2)


class _ScoredAnswer(msgspec.Struct):
    event_id: str
    score: float


def compare_answers(home: BenchHome, record: Path) -> dict[str, Any]:
    """Answers of a load against rows of the log: ``answered``, ``stored``, ``lost``, ``duplicated``, ``wrong``."""
    decode = msgspec.json.Decoder(_ScoredAnswer).decode
    answered_scores = {a.event_id: decode(a.body).score for a in read_answers(record) if a.status == 200}
    c = predictions.c
    query = select(c.event_id, c.score).where(c.usecase == home.usecase.name, c.origin == "live")
    with home.store() as store, store.database.read() as connection:
        rows = [(str(event_id), score) for event_id, score in connection.execute(query)]
    counts = Counter(event_id for event_id, _ in rows)
    scores = dict(rows)
    return {
        "answered": len(answered_scores),
        "stored": sum(event_id in counts for event_id in answered_scores),
        "lost": sum(event_id not in counts for event_id in answered_scores),
        "duplicated": sum(count - 1 for count in counts.values()),
        "wrong": sum(scores.get(event_id, score) != score for event_id, score in answered_scores.items()),
    }


def children_of(pid: int) -> list[int]:
    """Direct children of a process."""
    listing = subprocess.run(["ps", "-o", "pid=,ppid=", "-A"], capture_output=True, text=True, check=True)
    pairs = (line.split() for line in listing.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]
