"""The file that says what runs: ``$INCUMBENT_HOME/run/stack.json``, one JSON object, replaced as a whole.

It is written by whoever supervises the stack (``incumbent up``, its detached supervisor, or a demo) each time
something changes, and removed when the stack is stopped in order. A process named here lives only if ``pid``
*and* ``born`` fit (:func:`bentos.home_lock.born`): ids are used again.

    format      1
    host        address that the parts listen on
    ports       port of each part that listens, by kind: {"prefect": 4200, "service": 3000, ...}
    urls        address of each part by kind; empty until the whole stack was up once
    usecase     name of the use case whose parts have the plain names; empty in a file of an older version
    reference   name or file of that use case
    supervisor  {"pid", "born", "since"}: who restarts the parts
    parts       by name, such as "service", "scribe", "prefect-worker":
        state      waiting   for its turn, or for its next start after an end
                   starting  lives, and does not answer its health address yet
                   running   was ready
                   done      a job that ended well
                   given_up  ended too often; it is started again by the next `incumbent up`
        pid, born  the process, null while there is none
        since      when the present process was started (ISO 8601, UTC), null while there is none
        restarts   new starts since the stack came up, without the first
        ended      how and when it ended last, one sentence, or null
        next_try   when it will be started again, or null
        log        its log file
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from bentos.home_lock import born

FORMAT = 1
State = Literal["waiting", "starting", "running", "done", "given_up"]


class PartState(msgspec.Struct, frozen=True):
    """One part, see the module's docstring."""

    state: State
    log: str
    pid: int | None = None
    born: str | None = None
    since: datetime | None = None
    restarts: int = 0
    ended: str | None = None
    next_try: datetime | None = None

    @property
    def alive(self) -> bool:
        """Whether its process lives."""
        return self.pid is not None and self.born is not None and born(self.pid) == self.born


class SupervisorState(msgspec.Struct, frozen=True):
    """Who restarts the parts."""

    pid: int
    born: str | None
    since: datetime

    @property
    def alive(self) -> bool:
        """Whether it lives; where it does not, nothing restarts a part."""
        return self.born is not None and born(self.pid) == self.born


class StackState(msgspec.Struct, frozen=True):
    """The whole file."""

    parts: dict[str, PartState]
    supervisor: SupervisorState
    host: str
    ports: dict[str, int]
    urls: dict[str, str] = {}
    format: int = FORMAT
    usecase: str = ""
    reference: str = ""

    def part_of(self, kind: str, usecase: str) -> str:
        """Return the name of a use case's part: ``service``, or ``service-churn`` for a further use case."""
        further = f"{kind}-{usecase}"
        is_first = usecase == self.usecase or not self.usecase
        return kind if is_first and further not in self.parts else further


def read_state(file: Path) -> StackState | None:
    """What the file holds; none where there is no stack, or a file that is none."""
    try:
        state = msgspec.json.decode(file.read_bytes(), type=StackState)
    except (OSError, msgspec.MsgspecError):
        return None
    return state if state.format == FORMAT else None


def write_state(file: Path, state: StackState) -> None:
    """Replace the file as a whole.

    Raises:
        OSError: the disk refuses; what was there stays.
    """
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        scratch.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)
