"""Sorted event times, running sums and known positives of one entity, as compact integer arrays."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

from bentos.windows.label_spans import FOREVER

ABSENT = -(2**63)
"""Stands for a missing value; no amount is so small."""
_WRAP = 2**64
_TOP = 2**63


class Series:
    """Events of one entity.

    ``times`` are sorted; ``sums[a][i]`` is the running sum of amount ``a`` over the first i events (of
    those ever held, so only differences mean something), modulo 2**64 like numpy's int64.
    ``missing[a]`` are the times of events that lack the amount. ``positives`` are the times of events
    that are known positives once every label said so far is known; ``spans`` says when each was one.
    ``values[a]`` are the amounts themselves, in the order of ``times``, where a window needs them.
    """

    __slots__ = ("changed", "key", "missing", "positives", "spans", "sums", "times", "values")

    def __init__(self, amounts: int, key: str = "", kept: Sequence[int] = ()) -> None:
        self.key = key
        self.times = array("q")
        self.sums = [array("q", (0,)) for _ in range(amounts)]
        self.missing: dict[int, array[int]] = {}
        self.values: dict[int, array[int]] = {a: array("q") for a in kept}
        self.positives: array[int] | None = None
        self.spans: dict[str, tuple[int, tuple[tuple[int, int], ...]]] | None = None
        self.changed = 0

    def add(self, time_us: int, amounts: Sequence[int | None]) -> None:
        """Insert one event; ``amounts`` in the order of ``sums``."""
        times = self.times
        last = not times or time_us >= times[-1]
        place = len(times) if last else bisect_right(times, time_us)
        times.insert(place, time_us)
        for a, values in self.values.items():
            value = amounts[a]
            values.insert(place, ABSENT if value is None else value)
        for a, amount in enumerate(amounts):
            sums = self.sums[a]
            if amount is None:
                insort(self.missing.setdefault(a, array("q")), time_us)
                amount = 0
            if last:
                sums.append(wrapped(sums[-1] + amount))
            else:
                sums[place:] = array("q", [sums[place], *(wrapped(s + amount) for s in sums[place:])])

    def label(self, event_id: str, time_us: int, spans: tuple[tuple[int, int], ...]) -> None:
        """Replace what is known about one event."""
        if self.spans is None or self.positives is None:
            if not spans:
                return
            self.spans, self.positives = {}, array("q")
        _, before = self.spans.pop(event_id, (0, ()))
        if before and before[-1][1] == FOREVER:
            del self.positives[bisect_left(self.positives, time_us)]
        if spans:
            self.spans[event_id] = (time_us, spans)
            if spans[-1][1] == FOREVER:
                insort(self.positives, time_us)
        self.changed = max(self.changed, *(edge for span in spans for edge in span if edge != FOREVER), 0)

    def known_positives(self, time_us: int, low: int, high: int, strict: bool) -> int:
        """Events in ``(low, high]`` (``(low, high)`` if strict) that were known positives at ``time_us``."""
        if self.spans is None or self.positives is None:
            return 0
        if time_us >= self.changed:
            upper = bisect_left if strict else bisect_right
            return upper(self.positives, high) - bisect_right(self.positives, low)
        last = high - 1 if strict else high
        return sum(
            1
            for at, spans in self.spans.values()
            if low < at <= last and any(start <= time_us < end for start, end in spans)
        )

    def missing_between(self, a: int, low: int, high: int, strict: bool) -> int:
        """Events in ``(low, high]`` (``(low, high)`` if strict) that lack amount ``a``."""
        stamps = self.missing.get(a)
        if stamps is None:
            return 0
        upper = bisect_left if strict else bisect_right
        return upper(stamps, high) - bisect_right(stamps, low)

    def prune(self, cutoff: int) -> bool:
        """Drop events up to ``cutoff``, now or when it is worth it; says whether nothing is left."""
        times = self.times
        old = bisect_right(times, cutoff)
        if old == len(times):
            return True
        if old < 16 and old * 4 < len(times):
            return False
        del times[:old]
        for sums in self.sums:
            del sums[:old]
        for values in self.values.values():
            del values[:old]
        for stamps in self.missing.values():
            del stamps[: bisect_right(stamps, cutoff)]
        if self.spans is not None and self.positives is not None:
            del self.positives[: bisect_right(self.positives, cutoff)]
            self.spans = {i: kept for i, kept in self.spans.items() if kept[0] > cutoff}
        return False

    def size(self) -> int:
        """Bytes held, estimated."""
        arrays = [self.times, *self.sums, *self.missing.values(), *self.values.values(), self.positives]
        labels = 0 if self.spans is None else sys.getsizeof(self.spans) + 200 * len(self.spans)
        return 120 + labels + sum(map(sys.getsizeof, arrays))


def wrapped(total: int) -> int:
    """A sum in 64 bits, as numpy's int64 has it."""
    if -_TOP <= total < _TOP:
        return total
    return (total + _TOP) % _WRAP - _TOP
