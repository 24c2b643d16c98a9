"""Where a serving process and its workers keep the files behind ``/metrics``: a folder for each start.

Files of counters are mapped into memory and sparse: where the disk behind them is full, the process is ended by
SIGBUS. So they lie in memory (``/dev/shm``), or in a temporary folder with room, and never beside the log. A
folder is removed when its service ends, and by the next service where that one was killed.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

VARIABLE = "INCUMBENT_METRICS_FOLDER"
"""Tells the workers of a service where their folder is."""
ROOM_BYTES = 16 << 20
"""A place with less is passed over; a worker's files take some hundred kilobytes."""
_PREFIX = "incumbent-metrics-"
_OWNER = ".owner"


def candidate_folders(preferred: str = "") -> list[Path]:
    """Folders that may hold one, best first; the one that was chosen before all."""
    return [Path(path) for path in (preferred, "/dev/shm", "/tmp", tempfile.gettempdir()) if path]  # noqa: S108


def make_folder(candidates: Sequence[Path]) -> Path:
    """A folder for this process and its children, removed when this process ends; others' leftovers go first.

    Args:
        candidates: places to choose from, best first.

    Raises:
        OSError: no place can be written to.
    """
    for parent in candidates:
        remove_leftovers(parent)
    refusal: OSError | None = None
    for parent in _with_room_first(candidates):
        try:
            return _make(parent)
        except OSError as exc:
            refusal = exc
    raise refusal or OSError("no place for the files of /metrics")


def remove_leftovers(parent: Path) -> None:
    """Remove the folders of services that are gone: the kernel dropped their lock."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def enter_folder() -> None:
    """Let prometheus_client of this process, a worker, write into its service's folder."""
    if folder := os.environ.get(VARIABLE):
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder


def forget_dead_workers() -> None:
    """Remove the gauges of workers that were killed: what they said last is true no more."""
    from prometheus_client.multiprocess import mark_process_dead

    if not (folder := os.environ.get(VARIABLE)) or not Path("/proc/self").exists():
        return
    writers = {file.stem.rpartition("_")[2] for file in Path(folder).glob("gauge_live*.db")}
    for pid in writers:
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            mark_process_dead(int(pid))


def _with_room_first(candidates: Sequence[Path]) -> Iterable[Path]:
    """The candidates in their order, but those without room last, the roomiest of them first."""
    free_bytes = {parent: _room(parent) for parent in candidates}
    return sorted(
        free_bytes, key=lambda parent: 0 if free_bytes[parent] >= ROOM_BYTES else -free_bytes[parent] + (1 << 62)
    )


def _room(parent: Path) -> int:
    try:
        stats = os.statvfs(parent)
    except OSError:
        return 0
    return stats.f_bavail * stats.f_frsize


def _make(parent: Path) -> Path:
    """Made under another name, and found by :func:`remove_leftovers` only once its lock is held."""
    hidden_folder = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
    try:
        descriptor = os.open(hidden_folder / _OWNER, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.set_inheritable(descriptor, True)  # a worker that outlives this process for a moment still counts
        folder = hidden_folder.rename(hidden_folder.with_name(hidden_folder.name.removeprefix(".")))
    except OSError:
        shutil.rmtree(hidden_folder, ignore_errors=True)
        raise
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a fork inherits what is to be done at the end
        shutil.rmtree(folder, ignore_errors=True)
