"""Keeps one part of the stack alive: started when its turn has come, again when it ended by itself or hangs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flows.stack.liveness import LivenessCheck
from flows.stack.parts import Part
from flows.stack.state_file import PartState, State
from flows.workspace.processes import Child, port_is_free, responds

_PORT_SECONDS = 15.0
"""How long a new start waits for the port, which what the dead process left behind may still hold."""


class Keeper:
    """One part, its present process, and what became of the earlier ones.

    Args:
        part: the row of the table.
        host: address that the part listens on.
        start: starts its process.
        say: is told, in a sentence, of each end.
        patience: seconds until a part that lives and is not ready is ended.

    Attributes:
        child: the present process, none while there is none.
        state: see :mod:`flows.stack.state_file`.
        ended: how it ended last, one sentence.
    """

    def __init__(
        self,
        part: Part,
        host: str,
        start: Callable[[Part], Child],
        say: Callable[[str], None],
        patience: float = 600.0,
    ) -> None:
        self.part = part
        self.child: Child | None = None
        self.state: State = "waiting"
        self.ended: str | None = None
        self._host, self._start_child, self._say, self._patience = host, start, say, patience
        self._since: datetime | None = None
        self._restarts = 0
        self._ends: list[float] = []
        self._due = self._started = 0.0
        self._check: LivenessCheck | None = None

    @property
    def ready(self) -> bool:
        """Whether others may build on it."""
        return self.state in ("running", "done")

    @property
    def failed(self) -> bool:
        """Whether it ended by itself, or could not be started, and is not back yet."""
        return not self.ready and self.ended is not None

    @property
    def alive(self) -> bool:
        """Whether its process lives."""
        return self.child is not None and self.child.alive

    def adopt(self, child: Child | None, part_state: PartState) -> None:
        """Go on with what another supervisor left: its living process, or none where that has ended meanwhile."""
        self.child, self.state, self.ended = child, part_state.state, part_state.ended
        self._since, self._restarts, self._started = part_state.since, part_state.restarts, time.monotonic()
        self._watch()
        if child is None and part_state.state != "done":
            self.state = "waiting"
            if part_state.pid is not None:
                self._end("ended while nobody watched")

    def look(self, may_start: bool) -> None:
        """Do what is due: start it, notice that it is ready, or that it has ended.

        Args:
            may_start: whether what it builds on is there.
        """
        if self.state in ("done", "given_up"):
            return
        if self.child is None:
            if may_start and self._is_due():
                self._start()
        elif not self.child.alive:
            self._end(_ending_text(self.child.code))
        elif self.state == "starting":
            self._await_ready()
        elif self._check is not None:
            self._check_liveness(self._check)

    def retry(self) -> None:
        """Forget earlier ends: a part that was given up, or waits for its next start, is due now."""
        if self.state == "given_up" or (self.child is None and self.ended is not None):
            self.state, self._ends, self._due = "waiting", [], 0.0

    def snapshot(self, log: str) -> PartState:
        """The part as it stands, for the file."""
        lives = self.child is not None
        wait = self._due - time.monotonic()
        is_pending = self.state == "waiting" and self.ended is not None and wait > 0
        return PartState(
            self.state,
            log,
            self.child.pid if self.child is not None else None,
            self.child.birth if self.child is not None else None,
            self._since if lives else None,
            self._restarts,
            self.ended,
            _now() + timedelta(seconds=round(wait)) if is_pending else None,
        )

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now < self._due:
            return False
        return self.part.port is None or now > self._due + _PORT_SECONDS or port_is_free(self.part.port, self._host)

    def _start(self) -> None:
        if self.ended is not None:
            self._restarts += 1
        try:
            self.child = self._start_child(self.part)
        except OSError as exc:  # no process, no memory, a full disk: the same as a process that ended at once
            self._end(f"could not be started: {exc.strerror or type(exc).__name__}")
            return
        self._since, self._started = _now(), time.monotonic()
        self.state = "starting" if self.part.once or self.part.health is not None else "running"

    def _watch(self) -> None:
        """Begin to look whether the process that is ready goes on answering."""
        if self.child is not None and self.part.health is not None and self.state == "running":
            self._check = LivenessCheck(self.part.health, self.child.pid, self.part.liveness)

    def _check_liveness(self, check: LivenessCheck) -> None:
        assert self.child is not None
        if not check.look():
            return
        if check.hangs:
            self.child.kill()
            self._end(f"answered nothing for {check.silent_seconds:.0f} s and was killed")
        elif check.spared == self.part.liveness.missed:
            sentence = f"has answered nothing for {check.silent_seconds:.0f} s, and works"
            self._say(f"{self.part.name} {sentence}: it is left alone{self.child.advice()}")

    def _await_ready(self) -> None:
        if self.part.health is not None and responds(self.part.health):
            self.state = "running"
            self._watch()
        elif time.monotonic() > self._started + self._patience:
            assert self.child is not None
            self.child.ask_to_stop()
            self.child.wait_gone()
            self._end(f"was not ready after {self._patience:.0f} s")

    def _end(self, ending: str) -> None:
        child, self.child, self._check = self.child, None, None
        if self.part.once and child is not None and child.code == 0:
            self.state = "done"
            return
        now, policy = time.monotonic(), self.part.restarts
        self._ends = [*(end for end in self._ends if now - end < policy.window), now]
        advice = "" if child is None else child.advice()
        pause = policy.pause(len(self._ends))
        self.ended = f"{ending} at {_now():%Y-%m-%d %H:%M:%S} UTC"
        if pause is None:
            self.state = "given_up"
            self.ended += f", {len(self._ends)} times in {policy.window / 60:.0f} minutes"
            self._say(f"{self.part.name} {self.ended}: given up; when mended, start it with: incumbent up{advice}")
        else:
            self.state, self._due = "waiting", now + pause
            self._say(f"{self.part.name} {ending}; it is started again in {pause:.0f} s{advice}")


def _ending_text(code: int | None) -> str:
    """The end of a process in words; the code of one that somebody else started is unknown."""
    if code is None:
        return "ended"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
