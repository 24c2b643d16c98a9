"""Every series of one entity column, and how to read the windows that are declared on it."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from bentos.windows.aggregates import aggregate_of, needs_labels
from bentos.windows.series import Series
from bentos.windows.state import WindowSpec


class EntityWindows:
    """Every series of one entity column, and how to read the windows that are declared on it."""

    def __init__(
        self, specs: Sequence[tuple[int, WindowSpec]], amount_positions: Mapping[tuple[str, int], int]
    ) -> None:
        """``specs`` with their slot in the result; ``amount_positions`` of (column, decimals) in an event's amounts."""
        self.series: dict[str, Series] = {}
        self.labelled = any(needs_labels(s) for _, s in specs)
        amount_keys = dict.fromkeys((str(s.column), s.decimals) for _, s in specs if s.column is not None)
        local = {amount: i for i, amount in enumerate(amount_keys)}
        self._take = tuple(amount_positions[amount] for amount in amount_keys)
        self._uppers = tuple(dict.fromkeys(s.delay for _, s in specs))
        self._lowers = tuple(dict.fromkeys(s.delay + s.over for _, s in specs))
        aggregates = [aggregate_of(spec, local, self._take) for _, spec in specs]
        self._reads = tuple(
            (slot, self._uppers.index(s.delay), self._lowers.index(s.delay + s.over), aggregate.online)
            for (slot, s), aggregate in zip(specs, aggregates, strict=True)
        )
        self._kept = tuple(dict.fromkeys(aggregate.place for aggregate in aggregates if aggregate.keeps_values))
        self._nothing = Series(len(amount_keys), kept=self._kept)

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
        times = series.times
        highs = [bisect_right(times, time_us - d) if d else bisect_left(times, time_us) for d in self._uppers]
        lows = [bisect_right(times, time_us - o) for o in self._lowers]
        for slot, upper, lower, value in self._reads:
            out[slot] = value(series, time_us, lows[lower], highs[upper], amounts)

    def size(self) -> int:
        """Bytes held, estimated; walks over every entity."""
        entity = sys.getsizeof(self.series) + 70 * len(self.series)
        return entity + sum(series.size() for series in self.series.values())
