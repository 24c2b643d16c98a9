"""Child processes that are watched while they live and are gone when we are.

Each child leads a session of its own, so that Ctrl-C in a terminal reaches only us and we stop the
children in the right order. A child's own children are stopped with it, by process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx

from bentos.home_lock import born
from flows.errors import StackError, StackNotReady
from flows.workspace.process_tree import read_process_tree
from monitoring.core.hosts import is_encrypted

_LOCAL = "127.0.0.1"


@dataclass(frozen=True)
class Command:
    """What to start, where its output goes, and how to tell that it is ready.

    Attributes:
        name: short name, shown to people and used for the log file.
        argv: program and arguments.
        environment: the child's complete environment.
        log: file that receives both output streams, appended.
        health_url: answers 2xx once the child is ready; none means ready when started.
        patience: seconds until a child that is not ready counts as failed.
        grace: seconds between asking it to stop and killing it.
        outlive: whether it may go on when this process ends.
        inherit: open descriptors that it is given.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    health_url: str | None = None
    patience: float = 180.0
    grace: float = 12.0
    outlive: bool = False
    inherit: Sequence[int] = ()


class Child:
    """One started command."""

    def __init__(self, command: Command) -> None:
        self.command = command
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(command.argv),
                env=dict(command.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=command.inherit,
                preexec_fn=None if command.outlive else _end_with_parent(),
            )
        self.pid: int = self._process.pid
        self.birth = born(self.pid)

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code, minus the signal where one ended it; none while it lives or where nobody knows."""
        return self._process.returncode

    def ready(self) -> bool:
        """Whether the health address answers now.

        Raises:
            StackError: when the child has ended; the message names its log file.
        """
        self.require_alive()
        return self.command.health_url is None or responds(self.command.health_url)

    def wait_ready(self) -> None:
        """Wait until it is ready.

        Raises:
            StackError: when it ends.
            StackNotReady: when it is not ready in time; both messages name its log file.
        """
        self.wait_until(self.ready, self.command.patience)

    def wait_until(self, condition: Callable[[], bool], patience: float) -> None:
        """Wait until something is so while this child lives; raises like :meth:`wait_ready`."""
        deadline = time.monotonic() + patience
        while not condition():
            self.require_alive()
            if time.monotonic() > deadline:
                raise StackNotReady(f"{self.command.name} is not ready after {patience:.0f} s{self.advice()}")
            time.sleep(0.1)

    def require_alive(self) -> None:
        """Raise :class:`StackError` when it has ended; the message names its log file."""
        if not self.alive:
            raise StackError(f"{self.command.name} ended with code {self.code}{self.advice()}")

    def ask_to_stop(self) -> None:
        """Send SIGTERM to its whole group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once with all that it started, also what leads a session of its own."""
        tree = read_process_tree(self.pid)
        if self.alive and tree is not None:
            tree.kill()
        self._signal(signal.SIGKILL)
        self._wait(None)

    def wait_gone(self) -> None:
        """Wait for the end; kill the whole group where asking was not enough."""
        self._wait(self.command.grace)
        # Also reaches grandchildren that outlived their leader; an empty group is no error.
        self._signal(signal.SIGKILL)
        self._wait(None)

    def advice(self) -> str:
        """Where its log is, and its last words, to be put behind a sentence about it."""
        tail = last_lines(self.command.log, 3)
        note = f" Its last words: {tail}" if tail else ""
        return f"; look at {self.command.log}.{note}"

    def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Adopted(Child):
    """A living process that an earlier supervisor of the same stack started; its exit code stays unknown.

    Args:
        command: what it was started with.
        pid, birth: which process it is.
    """

    def __init__(self, command: Command, pid: int, birth: str) -> None:
        self.command, self.pid, self.birth = command, pid, birth

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return born(self.pid) == self.birth

    @property
    def code(self) -> int | None:
        """Unknown."""
        return None

    def _wait(self, seconds: float | None) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.alive and (deadline is None or time.monotonic() < deadline):
            time.sleep(0.05)

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:  # a group whose leader is gone may be somebody else's by now
            super()._signal(number)


def end_group(pid: int, birth: str, grace: float = 12.0) -> bool:
    """Stop a process that another run of ours started, with its group; whether it was there."""
    if born(pid) != birth:
        return False
    deadline = time.monotonic() + grace
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)
        while born(pid) == birth and time.monotonic() < deadline:
            time.sleep(0.05)
        deadline = time.monotonic() + grace
    return True


def end_process(pid: int, birth: str, grace: float = 60.0) -> None:
    """Ask one process to end in order, and kill it where asking was not enough."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace
        if born(pid) == birth:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        while born(pid) == birth and time.monotonic() < deadline:
            time.sleep(0.05)


def responds(url: str, timeout: float = 2.0) -> bool:
    """Whether a GET gives a 2xx answer within some seconds."""
    try:
        return httpx.get(url, timeout=timeout, trust_env=False, verify=is_encrypted(url)).is_success
    except httpx.HTTPError:
        return False


def free_port(preferred: int | None = None, host: str = _LOCAL) -> int:
    """``preferred`` where nobody listens there, else any free port."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                return int(probe.getsockname()[1])
    raise StackError(f"no free port on {host}")


def port_is_free(port: int, host: str = _LOCAL) -> bool:
    """Whether nobody listens on a port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def stop_all(children: Sequence[Child]) -> None:
    """Ask all to stop, last started first, then make sure that they are gone.

    A second Ctrl-C meanwhile is ignored: leaving now would leave processes behind.
    """
    with _ignore_interrupts():
        for child in reversed(children):
            child.ask_to_stop()
        for child in reversed(children):
            child.wait_gone()


def last_lines(file: Path, count: int) -> str:
    """The last lines of a log that hold text, joined; empty where there is none."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return " | ".join([line.strip() for line in lines if line.strip()][-count:])


@contextlib.contextmanager
def end_by_exception() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into ``SystemExit``, so that every ``finally`` runs."""
    names = (signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.signal(number, _exit) for number in names]
    try:
        yield
    finally:
        for number, handler in zip(names, handlers, strict=True):
            signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _ignore_interrupts() -> Iterator[None]:
    try:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread, where signals never arrive anyway
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _end_with_parent() -> Callable[[], None] | None:
    """On Linux a child asks the kernel to be ended with us, even where we are killed.

    The kernel watches the thread that starts the child: start children on one that lives as long as the process.
    """
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()
    set_parent_death_signal = 1

    def end_with_parent() -> None:
        libc.prctl(set_parent_death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # we died before the kernel was asked: nobody will tell it
            os._exit(1)

    return end_with_parent
