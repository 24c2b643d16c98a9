"""The spool: records are on the disk before the answer leaves.

Each process writes segments of its own (:mod:`bentos.spool.segments`), one ``os.write`` for each batch.
What is written survives the death of the process at once; a background thread makes it survive a
power cut within ``sync_seconds``. The scribe reads the segments and deletes them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from bentos.errors import SpoolFull
from bentos.spool.segments import (
    Record,
    WriterFile,
    claim,
    count_whole,
    frame,
    frame_plan,
    segment_path,
    spool_bytes,
    write_state,
)
from monitoring.store.database.records import PlanRecord

if TYPE_CHECKING:
    from bentos.settings import Settings

Mode = Literal["available", "strict"]
_LOG = logging.getLogger(__name__)
ROOM_BYTES = 4_096
"""What a record may need, generously: only its writing tells, which is too late for an event to be refused."""
# The length of a file is part of what fdatasync writes; macOS has only the full fsync.
_FLUSH: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


_FULL = (errno.ENOSPC, errno.EDQUOT)
_QUIET_SECONDS = 60.0


class Complaint:
    """Says what the disk refuses: at once, then once a minute while it lasts, and when it is over."""

    def __init__(self) -> None:
        self._next = 0.0
        self._open = False

    def make(self, exc: OSError, dropped: int) -> None:
        """Log a refusal, unless one was logged within the last minute."""
        self._open = True
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _QUIET_SECONDS
            _LOG.error("the spool cannot be written: %s; %d records dropped so far", exc.strerror, dropped)

    def settle(self, dropped: int) -> None:
        """Log that the disk takes records again, where it did not."""
        if self._open:
            self._open = False
            _LOG.warning("the spool is written again; %d records were dropped", dropped)


@dataclass(frozen=True)
class SpoolStats:
    """Figures of one writer: records accepted and dropped, bytes in the whole spool, failed fsyncs."""

    accepted: int
    dropped: int
    bytes: int
    sync_errors: int


class SpoolWriter:
    """Appends records for one process. Safe to call from several threads.

    Args:
        folder: the spool of one use case; made when it is missing.
        mode: at the cap, ``available`` counts drops and ``strict`` raises.
        cap_bytes: size of all segments in the folder at which the mode decides.
        rotate_bytes, rotate_seconds: when a segment is closed.
        sync_seconds: longest time between two fsyncs.
        writer: unique name; none makes one from the time, the pid and chance.

    Raises:
        OSError: the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mode: Mode = "available",
        cap_bytes: int = 2 << 30,
        rotate_bytes: int = 16 << 20,
        rotate_seconds: float = 5.0,
        sync_seconds: float = 0.2,
        writer: str | None = None,
    ) -> None:
        self.folder = folder
        self.writer = writer or f"{time.time_ns() // 1000:017d}-{os.getpid()}-{secrets.token_hex(3)}"
        self._mode, self._cap = mode, cap_bytes
        self._rotate_bytes, self._rotate_seconds, self._sync_seconds = rotate_bytes, rotate_seconds, sync_seconds
        self._lock = threading.Lock()
        self._seq = self._dropped = self._segment = self._size = self._slot = 0
        self._fd = -1
        self._opened = 0.0
        self._unsynced = False
        self._disk_refuses = False
        self._retired: list[int] = []
        self._spool_bytes = 0
        self._sync_errors = 0
        self._plan_bytes: dict[str, bytes] = {}
        self._complaint = Complaint()
        folder.mkdir(parents=True, exist_ok=True)
        self._state_fd = -1
        self._claim()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run_maintenance, name="spool", daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, settings: Settings, usecase: str) -> Self:
        """The writer that the settings describe."""
        return cls(
            settings.spool(usecase),
            mode=settings.log_mode,
            cap_bytes=settings.spool_cap_mb << 20,
            rotate_bytes=int(settings.spool_rotate_mb * (1 << 20)),
            rotate_seconds=settings.spool_rotate_seconds,
            sync_seconds=settings.spool_sync_seconds,
        )

    def declare(self, plan: PlanRecord) -> None:
        """Say which names a plan id stands for, before the first record that carries it."""
        with self._lock:
            if plan.plan_id in self._plan_bytes:
                return
            self._plan_bytes[plan.plan_id] = frame_plan(plan)
            if self._fd >= 0:
                self._put(self._plan_bytes[plan.plan_id])

    def require_room(self, events: int) -> None:
        """Refuse, before anything was done with them, events that would not be logged.

        Raises:
            SpoolFull: the spool is near its cap, or the disk refused the last record, and the mode is ``strict``.
        """
        if self._mode != "strict":
            return
        if self._spool_bytes + events * ROOM_BYTES > self._cap:
            self._refuse(events, "the spool is at its cap")
        if self._disk_refuses:
            self._refuse(events, "the disk refuses new records")

    def append(self, records: Sequence[Record]) -> None:
        """Write the records with one call; they survive the death of this process when it returns.

        Raises:
            SpoolFull: the spool is at its cap or the disk refuses, and the mode is ``strict``.
        """
        count = len(records)
        if not count:
            return
        with self._lock:
            data = frame(records, self._seq)
            if self._spool_bytes + len(data) > self._cap:
                self._refuse(count, "the spool is at its cap")
                return
            if self._fd < 0 and (self._disk_refuses or not self._open_segment()):
                self._disk_refuses = True
                self._refuse(count, "the disk refuses new records")
                return
            byte_count = self._put(data)
            if byte_count == len(data):
                self._seq += count
            else:
                self._truncate_to_whole_records(data, byte_count, count)
            if self._size >= self._rotate_bytes:
                self._retire()

    @property
    def stats(self) -> SpoolStats:
        """Figures for ``/metrics``."""
        return SpoolStats(self._seq, self._dropped, self._spool_bytes, self._sync_errors)

    def close(self) -> None:
        """Make everything durable and let go of the writer's name; calling it again does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._retire()
        self._sync()
        if self._state_fd >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._state_fd)
            os.close(self._state_fd)

    def _put(self, data: bytes) -> int:
        """Bytes that reached the file; anything less than all is cut off again or kept by the caller."""
        try:
            byte_count = os.write(self._fd, data)
        except OSError as exc:
            self._complaint.make(exc, self._dropped)
            return 0
        self._size += byte_count
        self._spool_bytes += byte_count
        self._unsynced = True
        return byte_count

    def _truncate_to_whole_records(self, data: bytes, byte_count: int, count: int) -> None:
        """After a short write (disk full): records that are whole stay, the rest is refused.

        The scribe may have read the whole ones already, so they cannot be taken back.
        """
        whole_count, end = count_whole(data[:byte_count])
        self._size -= byte_count - end
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._retire()  # the half record stays at the end of a closed file, where it is skipped
        self._seq += whole_count
        self._disk_refuses = True
        self._refuse(count - whole_count, "the disk is full")

    def _refuse(self, count: int, reason: str) -> None:
        if self._mode == "strict":
            raise SpoolFull(f"{reason}; the event was not logged, so it is not answered (log mode strict)")
        self._seq += count
        self._dropped += count
        self._note_drops()

    def _note_drops(self) -> None:
        """Write their count: on the disk before the answer leaves, like the records; it needs no new block."""
        if self._state_fd < 0:
            return
        self._slot = 1 - self._slot
        try:
            write_state(self._state_fd, WriterFile(self._seq, self._dropped), self._slot)
        except OSError as exc:
            self._complaint.make(exc, self._dropped)

    def _claim(self) -> bool:
        """Take the writer's name; a full disk keeps ``available`` from logging, not from answering.

        Raises:
            OSError: the disk refuses for another reason, or the mode is ``strict``.
        """
        try:
            self._state_fd = claim(self.folder, self.writer)
        except OSError as exc:
            if self._mode == "strict" or exc.errno not in _FULL:
                raise
            self._disk_refuses = True
            self._complaint.make(exc, self._dropped)
            return False
        self._note_drops()
        return True

    def _open_segment(self) -> bool:
        self._segment += 1
        path = segment_path(self.folder, self.writer, self._segment)
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o640)
        except OSError as exc:
            self._complaint.make(exc, self._dropped)
            return False
        self._size, self._opened = 0, time.monotonic()
        plans = b"".join(self._plan_bytes.values())
        if plans and self._put(plans) != len(plans):
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                path.unlink()  # nothing that counts is in it, and one for each refused record would pile up
            return False
        return True

    def _retire(self) -> None:
        """Close the segment for writing; its fsync happens in the background."""
        if self._fd >= 0:
            self._retired.append(self._fd)
            self._fd = -1

    def _run_maintenance(self) -> None:
        while not self._stop.wait(self._sync_seconds):
            with self._lock:
                if self._fd >= 0 and time.monotonic() - self._opened >= self._rotate_seconds:
                    self._retire()
            self._sync()
            if self._disk_refuses and self._disk_takes() and (self._state_fd >= 0 or self._claim()):
                self._disk_refuses = False
                self._complaint.settle(self._dropped)
            size = spool_bytes(self.folder)
            with self._lock:
                self._spool_bytes = size

    def _disk_takes(self) -> bool:
        """Whether the disk takes a record again, tried with a file that nobody reads."""
        probe = self.folder / f".{self.writer}.probe"
        try:
            probe.write_bytes(b"\0" * ROOM_BYTES)
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
        return True

    def _sync(self) -> None:
        """Fsync what was written since the last time. The open file is duplicated: append may retire it."""
        with self._lock:
            retired_fds, self._retired = self._retired, []
            current_fd = os.dup(self._fd) if self._fd >= 0 and self._unsynced else -1
            self._unsynced = False
        for fd in [*retired_fds, *([current_fd] if current_fd >= 0 else [])]:
            try:
                _FLUSH(fd)
            except OSError:
                self._sync_errors += 1
            finally:
                os.close(fd)
        if retired_fds or current_fd >= 0:
            self._sync_folder()

    def _sync_folder(self) -> None:
        """A new file's name is durable only when its folder is."""
        with contextlib.suppress(OSError):
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
