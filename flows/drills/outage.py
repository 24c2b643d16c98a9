"""A drill: the database is away for a while under load. Answers go on, and afterwards every one is in the log."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flows.drills.load.run_load import RunningLoad, read_answers
from flows.drills.load.temporary_postgresql import Postgres, temporary_postgresql
from flows.drills.prediction_log import Victims, compare_answers, drain_spool, endless_load, make_drill_home
from flows.errors import StackError

ProgressCallback = Callable[[str], None]
_LOCK_SCRIPT = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
held.execute("ROLLBACK")
"""


def drill_outage(
    root: Path,
    report_progress: ProgressCallback,
    *,
    seconds: float = 60.0,
    postgresql: bool = False,
    pause: float = 3.0,
    connections: int = 8,
) -> dict[str, Any]:
    """Lock the SQLite file, or crash the PostgreSQL server, for ``seconds`` under load, then compare.

    Args:
        root: folder of the drill; emptied first.
        report_progress: told what happens.
        seconds: how long the database is away.
        postgresql: whether the log lies in a PostgreSQL server (made for the drill).
        pause: seconds of undisturbed load before and after.
        connections: of the load.

    Returns:
        what ``drill_log`` returns but ``kills``, and ``answered_meanwhile``: answers given while the database was
        away; ``failed``: requests that were not answered with 200.

    Raises:
        StackError: the spool did not drain.
    """
    with ExitStack() as stack:
        server = stack.enter_context(temporary_postgresql()) if postgresql else None
        report_progress("model")
        home = make_drill_home(root, server.url if server else "")
        victims = Victims(home)
        record = root / "answers.txt"
        stack.callback(victims.stop)
        report_progress("start")
        victims.start()
        interruption = _stopped_server(server) if server else _locked_file(home.root / "dev-log.db")
        with RunningLoad(endless_load(victims.port, connections, record)) as running:
            time.sleep(pause)
            report_progress(f"the database is away for {seconds:g} s")
            first, last = _interrupt(interruption, seconds)
            time.sleep(pause)
            figures = running.stop()
        report_progress("drain")
        balance = drain_spool(home)
        comparison = compare_answers(home, record)
    answers = [answer.at for answer in read_answers(record) if answer.status == 200]
    return comparison | {
        "answered_meanwhile": sum(first <= at <= last for at in answers),
        "failed": sum(figures.statuses.values()),
        "refused": figures.statuses,
        "accounting": balance,
        "seconds": seconds,
    }


def _interrupt(interruption: AbstractContextManager[None], seconds: float) -> tuple[float, float]:
    with interruption:
        first = time.time()
        time.sleep(seconds)
        return first, time.time()


@contextmanager
def _locked_file(file: Path) -> Iterator[None]:
    """Another process holds the exclusive lock of a SQLite file."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _LOCK_SCRIPT, str(file)], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"held\n":
            raise StackError("the database could not be locked")
        yield
        holder.communicate(timeout=30)


@contextmanager
def _stopped_server(server: Postgres) -> Iterator[None]:
    """A server that has crashed, and comes back."""
    server.stop("immediate")
    try:
        yield
    finally:
        server.start()
