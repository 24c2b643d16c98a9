"""A drill: the database is away for a while under load. Answers go on, and afterwards every one is in the log."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flows.drills.load.run_load import RunningLoad, recorded
from flows.drills.load.temporary_postgresql import Postgres, temporary_postgresql
from flows.drills.prediction_log import Victims, compare_answers, drained, endless, seated_home
from flows.errors import StackError

Notice = Callable[[str], None]
_HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
held.execute("ROLLBACK")
"""


def drill_outage(
    root: Path,
    notice: Notice,
    *,
    seconds: float = 60.0,
    postgresql: bool = False,
    pause: float = 3.0,
    connections: int = 8,
) -> dict[str, Any]:
    """Lock the SQLite file, or crash the PostgreSQL server, for ``seconds`` under load, then compare.

    Args:
        root: folder of the drill; emptied first.
        notice: told what happens.
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
        notice("model")
        home = seated_home(root, server.url if server else "")
        victims = Victims(home)
        record = root / "answers.txt"
        stack.callback(victims.stop)
        notice("start")
        victims.start()
        away = _stopped(server) if server else _locked(home.root / "dev-log.db")
        with RunningLoad(endless(victims.port, connections, record)) as running:
            time.sleep(pause)
            notice(f"the database is away for {seconds:g} s")
            first, last = _meanwhile(away, seconds)
            time.sleep(pause)
            measured = running.stop()
        notice("drain")
        balance = drained(home)
        found = compare_answers(home, record)
    answers = [answer.at for answer in recorded(record) if answer.status == 200]
    return found | {
        "answered_meanwhile": sum(first <= at <= last for at in answers),
        "failed": sum(measured.statuses.values()),
        "refused": measured.statuses,
        "accounting": balance,
        "seconds": seconds,
    }


def _meanwhile(away: AbstractContextManager[None], seconds: float) -> tuple[float, float]:
    with away:
        first = time.time()
        time.sleep(seconds)
        return first, time.time()


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Another process holds the exclusive lock of a SQLite file."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(file)], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"held\n":
            raise StackError("the database could not be locked")
        yield
        holder.communicate(timeout=30)


@contextmanager
def _stopped(server: Postgres) -> Iterator[None]:
    """A server that has crashed, and comes back."""
    server.stop("immediate")
    try:
        yield
    finally:
        server.start()
