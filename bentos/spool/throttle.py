"""How much processor time the machine has to spare, for work that can wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

BUSY_BELOW: Final = 0.15
"""Idle share of the processors below which work that can wait should wait."""
SHARE_WHEN_BUSY: Final = 0.1
"""Share of its time that such work may take while the machine is busy."""
_LONGEST_REST: Final = 3.0

Ticks = tuple[int, int]
"""(idle, all) processor time since the machine started, in any unit."""


class Idleness:
    """Says how long work that can wait should rest after it has worked for a while.

    A lower priority would not do it: a process that waits for a processor still holds its database
    transaction, and kernels group processes in ways that undo niceness.

    Args:
        ticks: reads the machine's counters; none where it has no such counters.
    """

    def __init__(self, ticks: Callable[[], Ticks | None] | None = None) -> None:
        self._ticks = ticks or read_ticks
        self._last = self._ticks()

    def rest_after(self, seconds: float) -> float:
        """Seconds to rest after ``seconds`` of work: 0 while the machine has time to spare, or cannot tell."""
        share = self._share()
        if share is None or share >= BUSY_BELOW:
            return 0.0
        return min(_LONGEST_REST, seconds * (1.0 / SHARE_WHEN_BUSY - 1.0))

    def _share(self) -> float | None:
        """Idle share of all processors since the last look."""
        previous, now = self._last, self._ticks()
        self._last = now
        if previous is None or now is None or now[1] <= previous[1]:
            return None
        return (now[0] - previous[0]) / (now[1] - previous[1])


def read_ticks(file: Path = Path("/proc/stat")) -> Ticks | None:
    """Linux's counters: idle time and the time that a disk is waited for both count as idle."""
    try:
        with file.open("rb") as stream:
            name, *words = stream.readline().split()
    except OSError:
        return None
    numbers = [int(word) for word in words]
    # The last two (guest time) are contained in the first two.
    return (numbers[3] + numbers[4], sum(numbers[:8])) if name == b"cpu" and len(numbers) >= 8 else None
