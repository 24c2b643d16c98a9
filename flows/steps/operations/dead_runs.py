"""Runs whose process is gone: killed by the kernel for want of memory, by a power loss, or by a person.

Such a process writes nothing any more, so the next look closes its row. A running row names its process and is
touched while the process lives; one that waits for a person has no process and is left alone.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from bentos.home_lock import born
from monitoring.errors import MonitoringError

if TYPE_CHECKING:
    from monitoring.store import Run, Store

TOUCH_SECONDS: Final = 60.0
_SILENT: Final = timedelta(minutes=15)
"""A run of another machine that was not touched for so long is dead; a locked database may delay some touches."""
_SILENT_WITHOUT_PROCESS: Final = timedelta(hours=6)
"""The same for a run that names no process, of an earlier version."""


def this_process(now: datetime) -> dict[str, Any]:
    """What a running row says of this process."""
    pid = os.getpid()
    return {"process": {"host": _host(), "pid": pid, "born": born(pid), "seen": now.isoformat()}}


def close_dead_runs(store: Store, usecase: str, now: datetime) -> list[Run]:
    """Close every running row whose process is gone as ``killed``.

    Args:
        now: machine time.

    Returns:
        The runs that this call closed, as they are now.
    """
    closed_runs = []
    for run in store.runs.running(usecase):
        reason = death_reason(run, now)
        if reason is not None and store.runs.end(run.run_id, "killed", now, reason):
            closed_runs.append(replace(run, state="killed", ended_at=now, message=reason))
    return closed_runs


def death_reason(run: Run, now: datetime) -> str | None:
    """Why a running row cannot be true any more; none while its process lives or a person is awaited."""
    process = run.payload.get("process")
    if process is None:
        if run.message or now - run.started_at < _SILENT_WITHOUT_PROCESS:
            return None
        return f"killed: nothing was heard of it since {run.started_at:%Y-%m-%d %H:%M} UTC"
    if process["host"] == _host():
        if born(int(process["pid"])) == process["born"]:
            return None
        return (
            f"killed: its process {process['pid']} is gone and left no word; the kernel may have ended it for want of "
            "memory (journalctl -k)"
        )
    last_seen = datetime.fromisoformat(process["seen"])
    if now - last_seen < _SILENT:
        return None
    return f"killed: its process on {process['host']} was not heard of since {last_seen:%Y-%m-%d %H:%M} UTC"


@contextmanager
def keep_touching(touch: Any) -> Iterator[None]:
    """Call ``touch`` each minute, in a thread of its own, while the block runs."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(TOUCH_SECONDS):
            with suppress(MonitoringError):  # the next one says the same
                touch()

    thread = threading.Thread(target=loop, name="run-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _host() -> str:
    """This machine or container; its process ids mean nothing in another."""
    with suppress(OSError):
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()
