"""Sorted event times, running sums and known positives of each entity, as compact integer arrays."""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bentos.windows.label_spans import FOREVER
from bentos.windows.statistics import ABSENT, value_of

if TYPE_CHECKING:
    from bentos.windows.state import WindowSpec

_COUNT, _SUM, _MEAN, _RATE, _LAST, _VALUES = range(6)
_KINDS = {"count": _COUNT, "sum": _SUM, "mean": _MEAN, "label_rate": _RATE, "time_since_last": _LAST}
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
                sums.append(_wrapped(sums[-1] + amount))
            else:
                sums[place:] = array("q", [sums[place], *(_wrapped(s + amount) for s in sums[place:])])

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


class EntityWindows:
    """Every series of one entity column, and how to read the windows that are declared on it."""

    def __init__(self, specs: Sequence[tuple[int, WindowSpec]], places: Mapping[tuple[str, int], int]) -> None:
        """``specs`` with their slot in the result; ``places`` of (column, decimals) in an event's amounts."""
        self.series: dict[str, Series] = {}
        self.labelled = any(s.agg == "label_rate" for _, s in specs)
        needed = dict.fromkeys((str(s.column), s.decimals) for _, s in specs if s.column is not None)
        local = {amount: i for i, amount in enumerate(needed)}
        self._take = tuple(places[amount] for amount in needed)
        self._uppers = tuple(dict.fromkeys(s.delay for _, s in specs))
        self._lowers = tuple(dict.fromkeys(s.delay + s.over for _, s in specs))
        self._reads = tuple(
            (
                _KINDS.get(s.agg, _VALUES),
                slot,
                self._uppers.index(s.delay),
                self._lowers.index(s.delay + s.over),
                local.get((str(s.column), s.decimals), -1),
                10 ** max(s.decimals, 0),
                s.own,
                s.agg,
            )
            for slot, s in specs
        )
        of_values = ((str(s.column), s.decimals) for _, s in specs if _KINDS.get(s.agg, _VALUES) == _VALUES)
        self._kept = tuple(dict.fromkeys(local[amount] for amount in of_values))
        self._nothing = Series(len(needed), kept=self._kept)

    def add(self, key: str, time_us: int, amounts: Sequence[int | None]) -> str:
        """Add one event of entity ``key``; returns the one text of that key that every event may share."""
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series(len(self._take), key, self._kept)
        series.add(time_us, [amounts[i] for i in self._take] if self._take else ())
        return series.key

    def label(self, key: str, event_id: str, time_us: int, spans: tuple[tuple[int, int], ...]) -> None:
        """Replace what is known about one event of entity ``key``."""
        series = self.series.get(key)
        if series is not None:
            series.label(event_id, time_us, spans)

    def prune(self, key: str, cutoff: int) -> None:
        """Drop what entity ``key`` has up to ``cutoff``, and the entity with its last event."""
        series = self.series.get(key)
        if series is not None and series.prune(cutoff):
            del self.series[key]

    def read(self, key: str | None, time_us: int, amounts: Sequence[int | None], out: list[float]) -> None:
        """Write each window's value for an event of entity ``key`` at ``time_us`` into its slot of ``out``."""
        series = self.series.get(key, self._nothing) if key is not None else self._nothing
        times, sums, missing, spans = series.times, series.sums, series.missing, series.spans
        highs = [bisect_right(times, time_us - d) if d else bisect_left(times, time_us) for d in self._uppers]
        lows = [bisect_right(times, time_us - o) for o in self._lowers]
        for kind, slot, upper, lower, a, scale, own, agg in self._reads:
            high, low = highs[upper], lows[lower]
            count = high - low
            if kind == _COUNT:
                out[slot] = count + own
            elif kind == _RATE:
                if count and spans:
                    delay, reach = self._uppers[upper], self._lowers[lower]
                    known = series.known_positives(time_us, time_us - reach, time_us - delay, strict=not delay)
                    out[slot] = known / count
            elif kind == _LAST:
                out[slot] = (time_us - times[high - 1]) / 1e6 if count else math.nan
            elif kind == _VALUES:
                mine = amounts[self._take[a]] if own else None
                out[slot] = value_of(agg, series.values[a][low:high], mine, scale)
            else:
                total = sums[a][high] - sums[a][low]
                if missing:
                    count -= self._missing(series, a, time_us, upper, lower)
                if own and (amount := amounts[self._take[a]]) is not None:
                    total += amount
                    count += 1
                if count:
                    out[slot] = float(_wrapped(total)) / (scale * count if kind == _MEAN else scale)

    def _missing(self, series: Series, a: int, time_us: int, upper: int, lower: int) -> int:
        stamps = series.missing.get(a)
        if stamps is None:
            return 0
        delay = self._uppers[upper]
        high = bisect_right(stamps, time_us - delay) if delay else bisect_left(stamps, time_us)
        return high - bisect_right(stamps, time_us - self._lowers[lower])

    def size(self) -> int:
        """Bytes held, estimated; walks over every entity."""
        entity = sys.getsizeof(self.series) + 70 * len(self.series)
        return entity + sum(series.size() for series in self.series.values())


def _wrapped(total: int) -> int:
    """A sum in 64 bits, as numpy's int64 has it."""
    if -_TOP <= total < _TOP:
        return total
    return (total + _TOP) % _WRAP - _TOP
