"""What day it is in business time, told by the events themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from heapq import nlargest
from typing import Final

SAMPLE: Final = 1024
"""Latest events that are asked."""
_STRAY: Final = 8


class RecentTimes:
    """The newest business time that several of the latest events agree on. Give it one owner thread.

    It is the second largest time of 2 to 15 events, the third of 16, and so on to the eighth of 56 and more, of the
    latest 1,024: a few dates far in the future, which the schema allows, move nothing.
    """

    def __init__(self) -> None:
        self._times: deque[int] = deque(maxlen=SAMPLE)

    def add(self, times_us: Iterable[int]) -> None:
        """Note event times, in microseconds."""
        self._times.extend(times_us)

    def seed(self, times_us: Iterable[int]) -> None:
        """Give it what was logged before this process began, oldest first; without effect on a second call."""
        if not self._times:
            self._times.extend(times_us)

    @property
    def newest_us(self) -> int:
        """In microseconds; 0 before the first event."""
        if not self._times:
            return 0
        count = len(self._times)
        return nlargest(min(max(1 + count // 8, min(count, 2)), _STRAY), self._times)[-1]
