"""Whether a part that lives also answers: a process that hangs is as gone as one that has ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Thread
from typing import Final

from flows.workspace.process_tree import ProcessTree, read_process_tree
from flows.workspace.processes import responds

_IDLE_SHARE: Final = 0.05
"""Share of one core below which a process that answers nothing counts as doing nothing."""


@dataclass(frozen=True)
class LivenessLimit:
    """How long a part may answer nothing before it is ended and started again.

    Attributes:
        missed: looks in a row without an answer.
        period: seconds between two looks.
        timeout: seconds that one look waits.
        spare_busy: whether a look does not count at which the part worked: it used more than a twentieth of a core
            since the look before, or one of its threads ran or waited for the processor or the disk. Where that
            cannot be seen (not on Linux), no look counts.
    """

    missed: int = 12
    period: float = 10.0
    timeout: float = 5.0
    spare_busy: bool = False


class LivenessCheck:
    """Asks the health address of one process again and again, beside whoever tends the stack.

    Args:
        url: its health address.
        pid: the process.
        limit: when it counts as hanging.

    Attributes:
        missed: looks in a row without an answer that count.
        spared: looks in a row without an answer that do not count, because it was busy.
    """

    def __init__(self, url: str, pid: int, limit: LivenessLimit) -> None:
        self._url, self._pid, self._limit = url, pid, limit
        self.missed = self.spared = 0
        self._due = time.monotonic() + limit.period
        self._look: Thread | None = None
        self._answered = False
        self._tree: ProcessTree | None = None
        self._tree_at = 0.0
        self._answered_at = time.monotonic()

    @property
    def hangs(self) -> bool:
        """Whether the limit is reached."""
        return self.missed >= self._limit.missed

    @property
    def silent_seconds(self) -> float:
        """Seconds since it answered last."""
        return time.monotonic() - self._answered_at

    def look(self) -> bool:
        """Begin a look that is due, or take the result of one that is over; never wait for it.

        Returns:
            Whether a look was over.
        """
        if self._look is None:
            if time.monotonic() >= self._due:
                self._look = Thread(target=self._ask, daemon=True)
                self._look.start()
            return False
        if self._look.is_alive():
            return False
        self._look, self._due = None, time.monotonic() + self._limit.period
        self._count()
        return True

    def _ask(self) -> None:
        self._answered = responds(self._url, self._limit.timeout)

    def _count(self) -> None:
        busy = self._limit.spare_busy and self._is_busy()
        if self._answered:
            self.missed = self.spared = 0
            self._answered_at = time.monotonic()
        elif busy:
            self.missed, self.spared = 0, self.spared + 1
        else:
            self.missed += 1

    def _is_busy(self) -> bool:
        tree, since = self._tree, time.monotonic() - self._tree_at
        self._tree, self._tree_at = read_process_tree(self._pid), time.monotonic()
        if self._tree is None or tree is None:
            return True
        return self._tree.at_work or self._tree.cpu_seconds - tree.cpu_seconds > _IDLE_SHARE * since
