"""A process and everything that it started, as the kernel lists them; also what leads a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessTree:
    """One look at a process and its descendants.

    Attributes:
        pids: their ids, the process itself first.
        cpu_seconds: processor time that all of them together have used.
        at_work: whether one of them runs, or waits for the processor or the disk, at this moment.
    """

    pids: tuple[int, ...]
    cpu_seconds: float
    at_work: bool

    def kill(self) -> None:
        """Send SIGKILL to all of them: what hangs hears nothing else, and an orphan of it would keep the port."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def read_process_tree(pid: int) -> ProcessTree | None:
    """Return a process with its descendants; none where the kernel has no ``/proc`` (not Linux)."""
    stats = {int(folder.name): fields for folder in Path("/proc").glob("[0-9]*") if (fields := _stat(folder))}
    if not stats:
        return None
    children: dict[int, list[int]] = {}
    for process_id, fields in stats.items():
        children.setdefault(int(fields[1]), []).append(process_id)
    pids = [pid]
    for process_id in pids:
        pids += children.get(process_id, [])
    tree_stats = [stats[process_id] for process_id in pids if process_id in stats]
    ticks = sum(int(fields[11]) + int(fields[12]) for fields in tree_stats)
    return ProcessTree(tuple(pids), ticks / _TICKS_A_SECOND, any(_at_work(process_id) for process_id in pids))


def _at_work(pid: int) -> bool:
    return any((fields := _stat(thread)) and fields[0] in "RD" for thread in Path(f"/proc/{pid}/task").glob("*"))


def _stat(folder: Path) -> list[str]:
    """The fields of a ``stat`` file from the state on; empty where the process has ended."""
    with contextlib.suppress(OSError):
        return (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return []
