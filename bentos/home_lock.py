"""A lock on a file of the home: who holds it may use what the file is named for, and the kernel lets go for the dead.

``flock`` belongs to the open file, so a process that inherits the descriptor holds the lock with its parent,
and the last of them that ends releases it, also by SIGKILL. On a local disk that holds between all processes
and containers of the machine. NFS (Linux) passes it on to the server, so it holds between machines as well,
unless the share is mounted with ``local_lock=flock``; a file system that knows no locks is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bentos.errors import HomeTaken

if TYPE_CHECKING:
    from bentos.settings import Settings


class LockHolder(msgspec.Struct, frozen=True):
    """Who holds a lock, as written into its file.

    Attributes:
        what: for people: "the service of fraud (dev)".
        pid: process id.
        born: when that process started, see :func:`born`; with the id it names one process for good.
        host: name of the machine or container.
        since: when it took the lock.
        address: where it listens, if it does.
    """

    what: str
    pid: int
    born: str | None
    host: str
    since: datetime
    address: str = ""

    @classmethod
    def of(cls, pid: int, what: str, address: str = "") -> LockHolder:
        """A living process of this machine, from now on."""
        return cls(what, pid, born(pid), socket.gethostname(), datetime.now(UTC).replace(microsecond=0), address)

    @classmethod
    def this_process(cls, what: str, address: str = "") -> LockHolder:
        """The calling process, from now on."""
        return cls.of(os.getpid(), what, address)

    @property
    def alive(self) -> bool:
        """Whether that very process lives on this machine."""
        return self.host == socket.gethostname() and self.born is not None and born(self.pid) == self.born

    def __str__(self) -> str:
        host_text = "" if self.host == socket.gethostname() else f" on {self.host}"
        address = f", at {self.address}" if self.address else ""
        return f"{self.what} (process {self.pid}{host_text}, since {self.since:%Y-%m-%d %H:%M:%S} UTC{address})"


@dataclass(frozen=True)
class HomeLock:
    """One lock of a home.

    Attributes:
        path: the file; it is made when missing and never removed: a new file would be another lock.
        patience: seconds that a dead holder's children may take to end, before :meth:`take` refuses.
    """

    path: Path
    patience: float = field(default=15.0, kw_only=True)

    def take(self, holder: LockHolder, *, shared: bool = False, inherit: bool = False) -> int:
        """Descriptor that holds the lock until every copy of it is closed.

        Args:
            holder: whom others are told of.
            shared: allow others that share it too; those who want it alone are kept out.
            inherit: let child processes hold it with us.

        Raises:
            HomeTaken: somebody else holds it, or the file system knows no locks.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o640)
        try:
            self._wait(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
        os.set_inheritable(descriptor, inherit)
        self.sign(descriptor, holder)
        return descriptor

    def sign(self, descriptor: int, holder: LockHolder) -> None:
        """Write who holds the lock; a full disk leaves it unsaid."""
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, text := msgspec.json.encode(holder), 0)
            os.ftruncate(descriptor, len(text))

    def holder(self) -> LockHolder | None:
        """Who holds it now; none while nobody does. A holder that has not signed yet is waited for."""
        deadline = time.monotonic() + 1.0
        while True:
            if not self._held():
                return None
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                return msgspec.json.decode(self.path.read_bytes(), type=LockHolder)
            if time.monotonic() > deadline:
                return LockHolder("another process", 0, None, socket.gethostname(), datetime.now(UTC))
            time.sleep(0.02)

    def _held(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _wait(self, descriptor: int, kind: int) -> None:
        """Take the lock at once, or as soon as what a dead holder left behind has ended."""
        deadline = time.monotonic() + self.patience
        while not _locked(descriptor, kind, self.path):
            holder = self.holder()
            if holder is not None and (holder.alive or time.monotonic() > deadline):
                raise HomeTaken(f"{holder} is in {self.path.parent.parent}")
            time.sleep(0.05)


def hold_service(settings: Settings, usecase: str, address: str) -> None:
    """Be the only service of a use case on this home, or one of those that share their windows, to the end.

    The supervisor of the workers takes the lock and its workers inherit it: one that is started anew holds it
    already, and one that outlives its supervisor keeps everybody else out until it has ended.

    Raises:
        HomeTaken: another service is there; the message names it.
    """
    description, is_shared = f"a service of {usecase} ({settings.env})", bool(settings.redis_url)
    try:
        HomeLock(settings.service_lock(usecase)).take(
            LockHolder.this_process(description, address), shared=is_shared, inherit=True
        )
    except HomeTaken as exc:
        advice = "stop it first, or let both share their windows (INCUMBENT_REDIS_URL, for each of them)"
        raise HomeTaken(f"{exc}, and two would each keep windows of their own; {advice}") from exc


def _locked(descriptor: int, kind: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise HomeTaken(
                f"the file system of {path} knows no locks ({exc.strerror}); put the home on another"
            ) from exc
        raise
    return True


def born(pid: int) -> str | None:
    """When a living process started, as text; none when there is no such process.

    Together with the id it names one process for good: ids are used again.
    """
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    if Path("/proc/self/stat").exists():
        return None
    process = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return process.stdout.strip() or None
