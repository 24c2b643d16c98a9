"""The local stack: Prefect server and worker, the Bento service, the scribe, the exporter, the reports folder.

``incumbent up`` and ``incumbent demo`` start it, wait until each part is healthy, start again what ends by
itself, and stop all of it. :mod:`flows.stack.parts` says what the parts are. MLflow needs no process here: its store
is a SQLite file and a folder inside the home.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Self

from bentos.errors import UseCaseError
from bentos.home_lock import LockHolder, born
from bentos.settings import Settings
from flows.errors import StackError, StackNotReady
from flows.stack.follower import Follower, remove_targets, write_targets
from flows.stack.log_files import rotate
from flows.stack.occupants import find_orphaned_stack, lock_of, ports_of, take_lock
from flows.stack.part_keeper import Keeper
from flows.stack.parts import POOL, SERVICE, Part, Ports, parts_of, program, usecase_parts
from flows.stack.retry import take_retry
from flows.stack.state_file import PartState, StackState, SupervisorState, write_state
from flows.workspace.installation import Home, usecase_reference
from flows.workspace.logins import CLIENT_AUTH, SERVER_AUTH, make_logins, read_prefect_login, require_closed_server
from flows.workspace.processes import (
    Adopted,
    Child,
    Command,
    end_by_exception,
    end_group,
    end_process,
    last_lines,
    responds,
    stop_all,
)
from flows.workspace.roster import read_roster

__all__ = ["POOL", "SERVICE", "Ports", "Stack", "demo_home", "program", "running", "start_all", "stop_left_running"]

ProgressCallback = Callable[[str], None]
"""Called with the name of each part that became ready, or with a sentence."""

_LOG_SECONDS = 5.0
PATIENCE = 600.0
"""Seconds that all parts of one use case may take together to become ready."""


def to_stderr(sentence: str) -> None:
    """Write a sentence for whoever watches."""
    with contextlib.suppress(OSError):  # a terminal that was closed ends no stack
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {sentence}", file=sys.stderr, flush=True)  # noqa: T201


@dataclass
class Stack:
    """The running parts. Use :func:`running`, which always stops what it started.

    Attributes:
        home: where their state and their logs are.
        ports: where they listen.
        outlive: whether they may be left running on purpose (:meth:`leave`).
        lock: descriptor that holds the stack's lock of this home.
        say: is told what ends and what is started again.
        keepers: the parts that are kept alive, in the order of their start.
    """

    home: Home
    ports: Ports
    outlive: bool = False
    lock: int = -1
    say: ProgressCallback = to_stderr
    keepers: dict[str, Keeper] = field(default_factory=dict)
    _published: dict[str, str] = field(default_factory=dict)
    _written: StackState | None = None
    _supervisor: SupervisorState = field(default_factory=lambda: _this_process())
    _logs_due: float = 0.0
    _follower: Follower = field(default_factory=Follower)

    @cached_property
    def usecase(self) -> str:
        """Name of the use case whose parts have the plain names."""
        from bentos.usecase.loading import load_usecase

        return load_usecase(self.home.settings.usecase).name

    @cached_property
    def _first_usecase(self) -> str:
        try:
            return self.usecase
        except UseCaseError:
            return ""  # its own parts say what is wrong with the file

    @property
    def urls(self) -> dict[str, str]:
        """Address of each part, by name."""
        return self.ports.urls

    @property
    def environment(self) -> dict[str, str]:
        """Environment of whoever works with Prefect: its server and worker, our commands, the demo."""
        return self.home.environment(
            prefect_url=self.urls["prefect"],
            prefect_login=read_prefect_login(self.home.root),
            reports_url=self.ports.link_base,
        )

    @property
    def children(self) -> list[Child]:
        """The processes that live, in the order of their parts."""
        return [keeper.child for keeper in self.keepers.values() if keeper.child is not None]

    def keep(self, *names: str) -> None:
        """Start the named parts of the table, or all of them, and keep them alive from now on.

        Raises:
            StackError: a variable of a person's own would open the Prefect server, or cannot be followed.
        """
        for part in parts_of(self.home, self.ports):
            if (not names or part.name in names) and part.name not in self.keepers:
                self.add(part)
        self.tend()

    def add(self, part: Part) -> Keeper:
        """Keep a part alive that need not be in the table."""
        if part.name == "prefect-server":
            require_closed_server(self.home.root)
        self.keepers[part.name] = Keeper(part, self.ports.host, self._start, self.say)
        return self.keepers[part.name]

    def tend(self) -> None:
        """Look at every part once: start what is due, notice what ended, keep the logs short, write the file."""
        if self._follower.follow(self):
            write_targets(self)
            if self._published:
                self.publish()
        retry = take_retry(self.home)
        for keeper in self.keepers.values():
            if retry:
                keeper.retry()
            keeper.look(self._may_start(keeper.part))
        if time.monotonic() >= self._logs_due:
            self._logs_due = time.monotonic() + _LOG_SECONDS
            rotate(self.home.logs)
        self._write()

    def check(self) -> None:
        """The same as :meth:`tend` for who needs every part.

        Raises:
            StackError: one was given up; the message names its log file.
        """
        self.tend()
        for keeper in self.keepers.values():
            if keeper.state == "given_up":
                raise StackError(f"{keeper.part.name} {keeper.ended}; look at {self._log(keeper.part)}")

    def wait_ready(
        self, *names: str, report_progress: ProgressCallback = lambda name: None, required: Sequence[str] | None = None
    ) -> None:
        """Tend the parts until those named (or all) are ready, or a part that is not needed has failed once.

        Args:
            names: parts to wait for; none waits for all.
            report_progress: is called with each that became ready.
            required: parts whose first failure is an error; none needs all that are waited for.

        Raises:
            StackError: a needed part ended.
            StackNotReady: it is not ready in time; both messages name its log file.
        """
        pending = [keeper for name, keeper in self.keepers.items() if not names or name in names]
        patience = PATIENCE * (1 + len(self.ports.services))
        deadline = time.monotonic() + patience
        while pending:
            self.tend()
            for keeper in [part_keeper for part_keeper in pending if part_keeper.ready]:
                report_progress(keeper.part.name)
                pending.remove(keeper)
            for keeper, failure in [
                (part_keeper, failure) for part_keeper in pending if (failure := self._failure(part_keeper)) is not None
            ]:
                if required is None or keeper.part.name in required:
                    raise StackError(f"{keeper.part.name} {failure}{self._advice(keeper.part)}")
                pending.remove(keeper)
            if pending and time.monotonic() > deadline:
                self._give_up_waiting(pending, required, patience)
                break
            time.sleep(0.1 if pending else 0.0)

    def _give_up_waiting(self, pending: Sequence[Keeper], required: Sequence[str] | None, patience: float) -> None:
        """Raise for a part that is needed; the others go on becoming ready while the rest works."""
        for part in [keeper.part for keeper in pending]:
            if required is None or part.name in required:
                raise StackNotReady(f"{part.name} is not ready after {patience:.0f} s{self._advice(part)}")
            self.say(f"{part.name} is not ready after {patience:.0f} s; it goes on starting{self._advice(part)}")

    def wait_for_champion(self, patience: float = 120.0) -> None:
        """Wait until the running service has a champion and warm windows.

        Raises:
            StackNotReady: it has none in time; the message names its log file.
        """
        deadline = time.monotonic() + patience
        while not responds(f"{self.urls['service']}/readyz"):
            self.check()
            if time.monotonic() > deadline:
                part = self.keepers["service"].part
                raise StackNotReady(f"service is not ready after {patience:.0f} s{self._advice(part)}")
            time.sleep(0.1)

    def adopt(self, state: StackState) -> None:
        """Go on with the living parts of a stack whose supervisor is gone."""
        further = usecase_parts(self.ports, read_roster(self.home).active)
        table = {part.name: part for part in [*parts_of(self.home, self.ports), *further]}
        for name, part_state in state.parts.items():
            if name in table:
                self.add(table[name]).adopt(self._adopt_process(table[name], part_state), part_state)
        self._published = state.urls

    def publish(self) -> None:
        """Write the addresses, so that other commands find the stack."""
        self._published = self.urls
        self._write()
        write_targets(self)
        lock_of(self.home).sign(self.lock, LockHolder.this_process("a stack", self.urls["service"]))

    def stop(self) -> None:
        """Stop every part and remove the file; parts that were left running stay."""
        children, keepers = self.children, self.keepers
        self.keepers = {}
        stop_all(children)
        if keepers:
            self.home.addresses.unlink(missing_ok=True)
            remove_targets(self.home)
        self._release()

    def leave(self) -> Child:
        """Hand every part to a supervisor in a session of its own; ``incumbent down`` stops them later.

        It inherits the stack's lock, so nobody else can get in between.

        Returns:
            The supervisor.
        """
        self.publish()
        argv = [sys.executable, "-m", "flows.stack.supervisor", str(self.lock)]
        log = self.home.logs / "supervisor.log"
        heir = Child(Command("supervisor", argv, self.environment, log, outlive=True, inherit=[self.lock]))
        self._supervisor = SupervisorState(heir.pid, heir.birth, _now())
        self._write()
        lock_of(self.home).sign(self.lock, LockHolder.of(heir.pid, "a stack", self.urls["service"]))
        self.keepers = {}
        self._release()
        return heir

    def _release(self) -> None:
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _may_start(self, part: Part) -> bool:
        """Whether what a part builds on is there; a job that failed once holds up nobody."""
        predecessor = self.keepers.get(part.after or "")
        return predecessor is None or predecessor.ready or (predecessor.part.once and predecessor.ended is not None)

    def _failure(self, keeper: Keeper) -> str | None:
        """Why a part is not ready and need not be waited for: it failed, or builds on one that did."""
        if keeper.failed:
            return keeper.ended
        predecessor = self.keepers.get(keeper.part.after or "")
        if (
            predecessor is None
            or keeper.child is not None
            or self._may_start(keeper.part)
            or not self._failure(predecessor)
        ):
            return None
        return f"waits for {predecessor.part.name}"

    def _start(self, part: Part) -> Child:
        return Child(self._command(part))

    def _adopt_process(self, part: Part, part_state: PartState) -> Child | None:
        if part_state.pid is None or part_state.born is None or not part_state.alive:
            return None
        return Adopted(self._command(part), part_state.pid, part_state.born)

    def _command(self, part: Part) -> Command:
        hidden = () if part.prefect_login else (CLIENT_AUTH, SERVER_AUTH)
        inherited = {name: value for name, value in self.environment.items() if name not in hidden}
        environment = {**inherited, **part.environment}
        return Command(part.name, part.argv, environment, self._log(part), part.health, outlive=self.outlive)

    def _log(self, part: Part) -> Path:
        return self.home.logs / f"{part.name}.log"

    def _advice(self, part: Part) -> str:
        return f"; look at {self._log(part)}. Its last words: {last_lines(self._log(part), 3)}"

    def _write(self) -> None:
        """Bring the file up to date where something changed; a full disk leaves it as it was."""
        parts = {name: keeper.snapshot(str(self._log(keeper.part))) for name, keeper in self.keepers.items()}
        state = StackState(
            parts, self._supervisor, self.ports.host, self.ports.numbers, self._published,
            usecase=self._first_usecase, reference=usecase_reference(self.home.settings.usecase),
        )  # fmt: skip
        if state != self._written:
            with contextlib.suppress(OSError):
                write_state(self.home.addresses, state)
                self._written = state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextlib.contextmanager
def running(
    home: Home, ports: Ports, *, outlive: bool = False, prepare: Callable[[], object] | None = None
) -> Iterator[Stack]:
    """A stack whose parts the caller starts; all are stopped however the block is left.

    Living parts of a stack whose supervisor was killed are adopted, with their ports.

    Args:
        home: where their state and their logs are.
        ports: where parts listen that are not there yet.
        outlive: whether they may be left running on purpose.
        prepare: is called once the home is ours, before anything is read or written in it.

    Raises:
        PortTaken: another stack is up in this home.
    """
    lock = take_lock(home)
    if prepare is not None:
        prepare()
    home.make()
    make_logins(home.root)
    with end_by_exception(), Stack(home, ports, outlive, lock) as stack:
        if (state := find_orphaned_stack(home)) is not None:
            stack.ports = ports_of(state)
            stack.adopt(state)
        yield stack


def start_all(stack: Stack, report_progress: ProgressCallback) -> None:
    """Start every part and wait until all are healthy, or failed once and are started again.

    The service counts as healthy while no model is active: then it answers its probes, and scores as
    soon as a first model is.

    Raises:
        StackError: the service ended or is not ready in time.
    """
    stack.keep()
    services = [name for name in stack.keepers if name.partition("-")[0] == "service"]
    stack.wait_ready(report_progress=report_progress, required=services)
    stack.publish()


def stop_left_running(home: Home) -> list[str]:
    """Stop the stack of this home, its supervisor first; the names of the parts that were there."""
    parts = home.left_running()
    alive = [name for name, (pid, birth) in reversed(parts.items()) if born(pid) == birth]
    holder = lock_of(home).holder()
    if holder is not None and holder.alive and holder.born is not None:
        end_process(holder.pid, holder.born)
    for name in alive:
        end_group(*parts[name])
    home.addresses.unlink(missing_ok=True)
    remove_targets(home)
    return alive


def demo_home(home: Home) -> Home:
    """The home of the demo, inside the given one: a demo never touches real state."""
    overrides = {"home": home.root / "demo", "database_url": "", "mlflow_uri": "", "prefect_database_url": ""}
    # The demo lives in a simulated time, whose nights are its longest pauses.
    settings: Settings = home.settings.model_copy(
        update=overrides | {"clock": "stream", "max_future": timedelta(days=2)}
    )
    return Home(settings)


def _this_process() -> SupervisorState:
    return SupervisorState(os.getpid(), born(os.getpid()), _now())


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
