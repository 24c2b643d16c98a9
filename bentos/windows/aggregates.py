"""The table of window aggregates: a new one is one class here, and its row in :data:`AGGREGATES`.

Each has two executions of one definition: :meth:`Aggregate.online` looks at the window of one event,
:meth:`Aggregate.offline` at the windows of a whole frame, whose edges never go back. Values are whole numbers (scaled
by 10**decimals) and sums of squares are exact, so both give the same bits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, Protocol

from bentos.windows.series import ABSENT, Series, wrapped
from bentos.windows.state import WindowSpec

_TOP: Final = 2**63 - 1
Accepts = Literal["events", "numbers", "numbers and texts"]
Amounts = Sequence[int | None]


class FrameWindows(Protocol):
    """One window of every event of a frame, in the sorted order of entity and time; all arrays are (events,)."""

    low: Any
    """First position of each window, int64, never falling within an entity."""
    high: Any
    """Position behind its last event, without the event itself."""

    @property
    def times(self) -> Any:
        """Event times, microseconds."""
        ...

    def positives(self) -> Any:
        """Return how many events of each window are known positives, int64."""
        ...

    def values(self) -> Any:
        """Return the column's scaled values, int64, :data:`ABSENT` where missing."""
        ...

    def totals(self) -> tuple[Any, Any]:
        """Return the sum of each window's known values and their number, with the event's own where it counts."""
        ...


class Aggregate:
    """One window aggregate as a spec declares it.

    Args:
        spec: the window.
        place: of the column in a :class:`Series`; -1 without a column.
        at: place of the column in an event's amounts; -1 without a column.
    """

    name: ClassVar[str]
    """The word of ``agg`` in a use case."""
    accepts: ClassVar[Accepts]
    """``events`` takes no column; the others say which columns."""
    includes_current: ClassVar[bool] = True
    """Whether the event itself may be counted."""
    of_labels: ClassVar[bool] = False
    """Whether it reads labels."""
    keeps_values: ClassVar[bool] = False
    """Whether no running sum gives it, so that the values themselves have to be kept."""
    empty: ClassVar[str]
    """What an empty window gives, for the documentation."""

    def __init__(self, spec: WindowSpec, place: int, at: int) -> None:
        self.spec, self.place, self.at, self.own = spec, place, at, spec.own
        self.scale = 10 ** max(spec.decimals, 0)
        self.delay, self.reach = spec.delay, spec.delay + spec.over

    def online(self, series: Series, time_us: int, low: int, high: int, amounts: Amounts) -> float:
        """Return the value of one event's window.

        Args:
            series: earlier events of its entity.
            time_us: its time.
            low, high: positions in ``series`` of the first event of the window and behind its last.
            amounts: the event's own amounts.
        """
        raise NotImplementedError

    def offline(self, windows: FrameWindows) -> Any:
        """Return the value of each event's window, (events,) float64 or int64."""
        raise NotImplementedError


class Count(Aggregate):
    """Events."""

    name, accepts, empty = "count", "events", "0"

    def online(self, series: Series, time_us: int, low: int, high: int, amounts: Amounts) -> float:
        """See :class:`Aggregate`."""
        return high - low + self.own

    def offline(self, windows: FrameWindows) -> Any:
        """See :class:`Aggregate`."""
        return windows.high - windows.low + self.own


class Sum(Aggregate):
    """The sum of the known values."""

    name, accepts, empty = "sum", "numbers", "0"

    def online(self, series: Series, time_us: int, low: int, high: int, amounts: Amounts) -> float:
        """See :class:`Aggregate`."""
        total, count = self.total(series, time_us, low, high, amounts)
        return total / self.scale if count else 0.0

    def offline(self, windows: FrameWindows) -> Any:
        """See :class:`Aggregate`."""
        total, _ = windows.totals()
        return total.astype("float64") / float(self.scale)

    def total(self, series: Series, time_us: int, low: int, high: int, amounts: Amounts) -> tuple[float, int]:
        """Return the sum of the known values, scaled, and their number."""
        count, sums = high - low, series.sums[self.place]
        total = sums[high] - sums[low]
        if series.missing:
            count -= series.missing_between(self.place, time_us - self.reach, time_us - self.delay, not self.delay)
        if self.own and (amount := amounts[self.at]) is not None:
            total += amount
            count += 1
        return float(wrapped(total)), count


class Mean(Sum):
    """The mean of the known values."""

    name = "mean"

    def online(self, series: Series, time_us: int, low: int, high: int, amounts: Amounts) -> float:
        """See :class:`Aggregate`."""
        total, count = self.total(series, time_us, low, high, amounts)
        return total / (self.scale * count) if count else 0.0

    def offline(self, windows: FrameWindows) -> Any:
        """See :class:`Aggregate`."""
        total, count = windows.totals()
        return total.astype("float64") / (self.scale * count.clip(1)).astype("float64")


class LabelRate(Aggregate):
    """The share of known positives."""

    name, accepts, empty = "label_rate", "events", "0"
    includes_current, of_labels = False, True

    def online(self, series: Series, time_us: int, low: int, high: int, amounts: Amounts) -> float:
        """See :class:`Aggregate`."""
        if high == low or not series.spans:
            return 0.0
        start, end = time_us - self.reach, time_us - self.delay
        return series.known_positives(time_us, start, end, strict=not self.delay) / (high - low)

    def offline(self, windows: FrameWindows) -> Any:
        """See :class:`Aggregate`."""
        return windows.positives() / (windows.high - windows.low).clip(1)


class TimeSinceLast(Aggregate):
    """Seconds since the newest event."""

    name, accepts, empty = "time_since_last", "events", "missing"
    includes_current = False

    def online(self, series: Series, time_us: int, low: int, high: int, amounts: Amounts) -> float:
        """See :class:`Aggregate`."""
        return (time_us - series.times[high - 1]) / 1e6 if high > low else math.nan

    def offline(self, windows: FrameWindows) -> Any:
        """See :class:`Aggregate`."""
        import numpy as np

        last = windows.times[np.maximum(windows.high - 1, 0)]
        return np.where(windows.high > windows.low, (windows.times - last) / 1e6, np.nan)


class ValueAggregate(Aggregate):
    """An aggregate of the values themselves: an heir says ``of_values`` and ``offline``."""

    keeps_values = True

    def online(self, series: Series, time_us: int, low: int, high: int, amounts: Amounts) -> float:
        """See :class:`Aggregate`."""
        known = [value for value in series.values[self.place][low:high] if value != ABSENT]
        if self.own and (amount := amounts[self.at]) is not None:
            known.append(amount)
        return self.of_values(known)

    def of_values(self, known: list[int]) -> float:
        """Return the value of a window that holds these known scaled values."""
        raise NotImplementedError


class Min(ValueAggregate):
    """The least known value."""

    name, accepts, empty = "min", "numbers", "missing"
    nothing: ClassVar[int] = _TOP
    pick: ClassVar[Callable[..., int]] = min
    pick_each: ClassVar[str] = "minimum"

    def of_values(self, known: list[int]) -> float:
        """See :class:`ValueAggregate`."""
        return float(type(self).pick(known)) / self.scale if known else math.nan

    def offline(self, windows: FrameWindows) -> Any:
        """See :class:`Aggregate`. By doubling: any window is two overlapping ones whose length is a power of two."""
        import numpy as np

        values, low, high, pick = windows.values(), windows.low, windows.high, getattr(np, self.pick_each)
        level = np.where(values == ABSENT, self.nothing, values)
        best = level.copy() if self.own else np.full(len(values), self.nothing, dtype=np.int64)
        length = high - low
        step = 1
        while len(level):
            rows = np.flatnonzero((length >= step) & (length < 2 * step))
            best[rows] = pick(best[rows], pick(level[low[rows]], level[high[rows] - step]))
            if not (length >= 2 * step).any():
                break
            level = pick(level[:-step], level[step:])
            step *= 2
        return np.where(best == self.nothing, np.nan, best.astype(np.float64) / self.scale)


class Max(Min):
    """The greatest known value."""

    name = "max"
    nothing: ClassVar[int] = ABSENT
    pick: ClassVar[Callable[..., int]] = max
    pick_each: ClassVar[str] = "maximum"


class Deviation(ValueAggregate):
    """The sample standard deviation of the known values, 0 below two."""

    name, accepts, empty = "std", "numbers", "0"

    def of_values(self, known: list[int]) -> float:
        """See :class:`ValueAggregate`."""
        return _deviation(len(known), sum(known), sum(value * value for value in known), self.scale)

    def offline(self, windows: FrameWindows) -> Any:
        """See :class:`Aggregate`. From running sums of whole numbers without limit."""
        return _deviations(windows.values(), windows.low, windows.high, self.own, self.scale)


class Distinct(ValueAggregate):
    """How many different known values."""

    name, accepts, empty = "distinct", "numbers and texts", "0"

    def of_values(self, known: list[int]) -> float:
        """See :class:`ValueAggregate`."""
        return float(len(set(known)))

    def offline(self, windows: FrameWindows) -> Any:
        """See :class:`Aggregate`. By a count of each value that follows the edges of the window."""
        return _distinct(windows.values().tolist(), windows.low.tolist(), windows.high.tolist(), self.own)


AGGREGATES: Final[dict[str, type[Aggregate]]] = {
    row.name: row for row in (Count, Sum, Mean, Min, Max, Deviation, Distinct, LabelRate, TimeSinceLast)
}
"""Name in a use case to class."""


def aggregate_of(
    spec: WindowSpec, places: Mapping[tuple[str, int], int] | None = None, taken: Sequence[int] = ()
) -> Aggregate:
    """Return the aggregate that a spec declares.

    Args:
        spec: the window.
        places: (column, decimals) to the place in a :class:`Series`; none where only frames are read.
        taken: for each such place, the place in an event's amounts.
    """
    place = (places or {}).get((str(spec.column), spec.decimals), -1)
    return AGGREGATES[spec.agg](spec, place, taken[place] if place >= 0 else -1)


def needs_labels(spec: WindowSpec) -> bool:
    """Return whether the window reads labels."""
    return AGGREGATES[spec.agg].of_labels


def _deviations(values: Any, low: Any, high: Any, own: bool, scale: int) -> Any:
    """Standard deviations from running sums of whole numbers without limit."""
    import numpy as np

    known = values != ABSENT
    numbers = np.where(known, values, 0).astype(object)
    counts = np.concatenate([[0], np.cumsum(known)])
    n = counts[high] - counts[low]
    total, squares = (_window_sums(v, low, high) for v in (numbers, numbers * numbers))
    if own:
        n, total, squares = n + known, total + numbers, squares + numbers * numbers
    found = map(_deviation, n.tolist(), total.tolist(), squares.tolist(), [scale] * len(values))
    return np.fromiter(found, dtype=np.float64, count=len(values))


def _window_sums(numbers: Any, low: Any, high: Any) -> Any:
    """Sums of each window."""
    import numpy as np

    running = np.concatenate([np.zeros(1, dtype=object), np.cumsum(numbers)])
    return running[high] - running[low]


def _deviation(n: int, total: int, squares: int, scale: int) -> float:
    """Sample standard deviation; 0 below two values."""
    return math.sqrt((n * squares - total * total) / (n * (n - 1))) / scale if n > 1 else 0.0


def _distinct(values: list[int], low: list[int], high: list[int], own: bool) -> Any:
    """Different values, by a count of each that follows the edges of the window."""
    import numpy as np

    held: Counter[int] = Counter()
    found = np.empty(len(values), dtype=np.float64)
    first = last = 0
    for row, (start, end) in enumerate(zip(low, high, strict=True)):
        for value in values[last:end]:
            held[value] += 1
        last = max(last, end)
        for value in values[first:start]:
            held[value] -= 1
            if not held[value]:
                del held[value]
        first = max(first, start)
        mine = values[row]
        found[row] = len(held) - (ABSENT in held) + (own and mine != ABSENT and mine not in held)
    return found
