"""Windows over a whole frame, vectorised: the offline execution of :mod:`bentos.windows.memory`.

Rows are sorted by (entity, time) and each gets one whole number as its key, so that the edge of every
window is one binary search. Sums are differences of a running sum of scaled integers: exact, and the
same integers that the online state adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bentos.errors import FeatureError
from bentos.features.definitions import ColumnDefinition, category_codes
from bentos.schema.column_types import hash_of
from bentos.usecase.limits import LARGEST_SCALED
from bentos.windows.aggregates import aggregate_of
from bentos.windows.label_spans import FOREVER, positive_spans
from bentos.windows.series import ABSENT
from bentos.windows.state import TEXT, WindowSpec

Ints = Any
"""int64 array."""
_KEY_SPACE = 2**62


@dataclass(frozen=True)
class Spans:
    """Spans ``[start, end)`` in which the event at position ``row`` is a known positive (microseconds)."""

    row: Ints
    start: Ints
    end: Ints


class EntityRows:
    """Events sorted by (entity, time), cut into parts whose keys fit 64 bits.

    Args:
        keys: entity of each event, ``None`` where it has none (such an event is alone).
        times: event times in microseconds.
        reach: longest delay + over of any window that will be asked for.
    """

    def __init__(self, keys: pd.Series[Any], times: Ints, reach: int) -> None:
        codes, uniques = pd.factorize(keys.to_numpy(dtype=object))
        null_rows = np.flatnonzero(codes < 0)
        codes[null_rows] = np.arange(len(uniques), len(uniques) + len(null_rows))
        self._start = int(times.min()) if len(times) else 0
        self._step = (int(times.max()) if len(times) else 0) - self._start + reach + 2
        self.codes, self.times = codes, times
        self.order = _sorted_order(codes, times)
        self._part_codes = max(1, _KEY_SPACE // self._step)
        sorted_codes = codes[self.order]
        entities = len(uniques) + len(null_rows)
        first_codes = np.arange(0, max(entities, 1), self._part_codes)
        self._bounds = [*np.searchsorted(sorted_codes, first_codes).tolist(), len(codes)]
        self._keys = self._key(sorted_codes, times[self.order])
        self._edges: dict[int, Ints] = {}
        self._ties: Ints | None = None

    def lower(self, spec: WindowSpec) -> Ints:
        """Sorted position of the first event inside each event's window."""
        return self._edge(spec.over + spec.delay)

    def upper(self, spec: WindowSpec) -> Ints:
        """Sorted position behind the last event inside each event's window, without the event itself."""
        return self._edge(spec.delay) if spec.delay else self._first_of_tie()

    def running(self, values: Ints) -> Ints:
        """Running sum of a value per event in sorted order, starting with 0."""
        total = np.zeros(len(values) + 1, dtype=np.int64)
        np.cumsum(values[self.order], out=total[1:])
        return total

    def known_positives(self, spec: WindowSpec, spans: Spans) -> Ints:
        """How many events of each event's window are known positives, in sorted order.

        Each span adds one from max(event time + delay, its start) and takes it back when the span
        ends or the event leaves the window; with no delay the event enters just after its own time.
        """
        event_times = self.times[spans.row]
        starts = np.maximum(event_times + max(spec.delay, 1), spans.start)
        ends = np.minimum(event_times + spec.delay + spec.over, spans.end)
        nonempty = starts < ends
        codes = self.codes[spans.row[nonempty]]
        moments = np.concatenate([starts[nonempty], ends[nonempty]])
        codes = np.concatenate([codes, codes])
        steps = np.repeat(np.array([1, -1], dtype=np.int64), int(nonempty.sum()))
        counts = np.zeros(len(self.codes), dtype=np.int64)
        for first_code, rows in self._parts():
            in_part = (codes >= first_code) & (codes < first_code + self._part_codes)
            keys = self._key(codes[in_part], moments[in_part])
            order = np.argsort(keys, kind="stable")
            running_sums = np.concatenate([[0], np.cumsum(steps[in_part][order])])
            counts[rows] = running_sums[np.searchsorted(keys[order], self._keys[rows], side="right")]
        return counts

    def _edge(self, span: int) -> Ints:
        """For each event the number of sorted events up to ``span`` before it (that moment included)."""
        if span not in self._edges:
            edge = np.empty(len(self.codes), dtype=np.int64)
            for _, rows in self._parts():
                keys = self._keys[rows]
                edge[rows] = np.searchsorted(keys, keys - span, side="right") + rows.start
            self._edges[span] = edge
        return self._edges[span]

    def _first_of_tie(self) -> Ints:
        if self._ties is None:
            positions = np.arange(len(self.codes), dtype=np.int64)
            is_first = np.empty(len(self.codes), dtype=np.bool_)
            is_first[:1] = True
            np.not_equal(self._keys[1:], self._keys[:-1], out=is_first[1:])
            # Two parts may use equal keys, but a new part is a new entity.
            is_first[[bound for bound in self._bounds if bound < len(is_first)]] = True
            self._ties = np.maximum.accumulate(np.where(is_first, positions, 0))
        return self._ties

    def _parts(self) -> Iterator[tuple[int, slice]]:
        for part, (start, end) in enumerate(zip(self._bounds[:-1], self._bounds[1:], strict=True)):
            yield part * self._part_codes, slice(start, end)

    def _key(self, codes: Ints, times: Ints) -> Ints:
        key: Ints = (codes % self._part_codes) * self._step + (times - self._start)
        return key


def scale_numbers(values: Any, decimals: int) -> tuple[Ints, Any]:
    """Numbers as whole multiples of 10**-decimals, 0 where missing, and which are not missing.

    Raises:
        FeatureError: for a number too large for a 64-bit sum.
    """
    numbers = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(numbers)
    products = np.where(present, numbers, 0.0) * float(10**decimals)
    if len(products) and np.abs(products).max() > LARGEST_SCALED:
        raise FeatureError(f"a summed number exceeds 2**62 / 10**{decimals}; declare fewer decimals or a max")
    return np.rint(products).astype(np.int64), present


def amounts_of(series: pd.Series[Any], decimals: int) -> tuple[Ints, Any]:
    """A column as the whole numbers that windows keep, 0 where missing, and which are not missing.

    Raises:
        FeatureError: as :func:`scale_numbers`.
    """
    if decimals != TEXT:
        return scale_numbers(series, decimals)
    codes, texts = pd.factorize(series.to_numpy(dtype=object))
    # A missing text has the place -1, which leads to the last one here.
    hashes = np.array([*map(hash_of, texts), 0], dtype=np.int64)
    return hashes[codes], codes >= 0


def label_spans(ids: pd.Series[Any], labels: pd.DataFrame, sources: Sequence[str], as_of_us: int) -> Spans:
    """When each event is a known positive, from the labels observed up to ``as_of_us``.

    Raises:
        FeatureError: for a label source that is not ranked.
    """
    ranks = label_ranks(labels, sources)
    observed = microseconds_of(labels["observed_at"])
    y = labels["y"].to_numpy(dtype=np.int64)
    label_event_ids = labels["event_id"].to_numpy(dtype=object)
    event_ids = ids.to_numpy(dtype=object)
    if len(label_event_ids) == len(event_ids) and (label_event_ids == event_ids).all():
        # One label an event, in the order of the events: nothing has to be looked up.
        rows = np.flatnonzero((y == 1) & (observed <= as_of_us))
        return Spans(rows, observed[rows], np.full(len(rows), FOREVER, dtype=np.int64))
    label_rows = np.flatnonzero(observed <= as_of_us)
    # Few events are ever positive; only their labels matter.
    positive_ids = label_event_ids[label_rows][y[label_rows] == 1]
    label_rows = label_rows[pd.Series(label_event_ids[label_rows], dtype=object).isin(positive_ids).to_numpy()]
    candidates = np.flatnonzero(ids.isin(positive_ids).to_numpy())
    positions = pd.Index(event_ids[candidates], dtype=object).get_indexer(
        pd.Index(label_event_ids[label_rows], dtype=object)
    )
    label_rows, rows = label_rows[positions >= 0], candidates[positions[positions >= 0]]
    return _spans(rows, observed[label_rows], ranks[label_rows], y[label_rows])


def label_ranks(labels: pd.DataFrame, sources: Sequence[str]) -> Ints:
    """The rank of each label's source, 0 for the strongest.

    Raises:
        FeatureError: for a source that is not ranked.
    """
    codes, names = pd.factorize(labels["source"])
    unranked_sources = [name for name in names if name not in sources]
    if unranked_sources or (codes < 0).any():
        source_text = repr(str(unranked_sources[0])) if unranked_sources else "nothing"
        raise FeatureError(f"label source {source_text} is not ranked; allowed: {', '.join(sources)}")
    return np.array([sources.index(name) for name in names], dtype=np.int64)[codes]


def microseconds_of(times: pd.Series[Any]) -> Ints:
    """UTC times as microseconds since 1970."""
    stamps: Ints = times.dt.as_unit("us").to_numpy("M8[us]").view(np.int64)
    return stamps


def _spans(rows: Ints, observed: Ints, ranks: Ints, y: Ints) -> Spans:
    order = np.argsort(rows, kind="stable")
    rows, observed, ranks, y = rows[order], observed[order], ranks[order], y[order]
    _, first_positions, counts = np.unique(rows, return_index=True, return_counts=True)
    single_positions = first_positions[counts == 1]
    spans = [(int(rows[i]), int(observed[i]), FOREVER) for i in single_positions.tolist()]
    for i, n in zip(first_positions[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
        part = slice(i, i + n)
        statements = zip(observed[part].tolist(), ranks[part].tolist(), y[part].tolist(), strict=True)
        spans += [(int(rows[i]), start, end) for start, end in positive_spans(statements)]
    table = np.array(spans, dtype=np.int64).reshape(-1, 3)
    return Spans(table[:, 0], table[:, 1], table[:, 2])


def _sorted_order(codes: Ints, times: Ints) -> Ints:
    """Positions sorted by (code, time)."""
    # numpy sorts 16-bit integers by radix, which is many times faster.
    narrow_codes = codes.astype(np.uint16) if len(codes) and int(codes.max()) < 2**16 else codes
    if (np.diff(times) >= 0).all():
        return np.argsort(narrow_codes, kind="stable")
    by_time = np.argsort(times, kind="stable")
    return by_time[np.argsort(narrow_codes[by_time], kind="stable")]


def column_values(series: pd.Series[Any], definition: ColumnDefinition) -> Any:
    """A feature that is a column of the event, float64."""
    if definition.type != "category":
        return fill_missing(series.to_numpy(dtype=np.float64), definition.fill)
    codes = series.map(category_codes(definition)).to_numpy(dtype=np.float64, copy=True)
    if definition.unseen:
        codes[np.isnan(codes) & series.notna().to_numpy()] = len(definition.categories)
    return codes


def fill_missing(values: Any, fill: float | None) -> Any:
    """Numbers with ``fill`` in the place of missing ones."""
    return values if fill is None else np.where(np.isnan(values), fill, values)


def operand_values(series: pd.Series[Any], kind: str, fill: float | None) -> Any:
    """A column as formulas take it: float64, times as microseconds; texts as objects."""
    if kind in ("identifier", "string", "category"):
        return series.to_numpy(dtype=object)
    if kind == "datetime":
        return np.where(series.notna().to_numpy(), microseconds_of(series).astype(np.float64), np.nan)
    return fill_missing(series.to_numpy(dtype=np.float64), fill)


def window_values(
    spec: WindowSpec, rows: EntityRows, events: pd.DataFrame, spans: Spans | None, amounts: dict[Any, Any]
) -> Any:
    """One window's values in the sorted order of ``rows``, float64."""
    return aggregate_of(spec).offline(_Windows(spec, rows, events, spans, amounts))


class _Windows:
    """See :class:`bentos.windows.aggregates.FrameWindows`; ``amounts`` keeps each column's sums for other windows."""

    def __init__(
        self, spec: WindowSpec, rows: EntityRows, events: pd.DataFrame, spans: Spans | None, amounts: dict[Any, Any]
    ) -> None:
        self._spec, self._rows, self._events, self._spans, self._amounts = spec, rows, events, spans, amounts
        self.low, self.high = rows.lower(spec), rows.upper(spec)

    @property
    def times(self) -> Ints:
        return self._rows.times[self._rows.order]

    def positives(self) -> Ints:
        assert self._spans is not None
        return self._rows.known_positives(self._spec, self._spans)

    def values(self) -> Ints:
        values, known, *_ = self._column()
        return np.where(known, values, ABSENT)[self._rows.order]

    def totals(self) -> tuple[Ints, Ints]:
        values, known, totals, counts = self._column()
        total, count = totals[self.high] - totals[self.low], counts[self.high] - counts[self.low]
        if self._spec.own:
            total, count = total + values[self._rows.order], count + known[self._rows.order]
        return total, count

    def _column(self) -> tuple[Ints, Any, Ints, Ints]:
        key = (str(self._spec.column), self._spec.decimals)
        if key not in self._amounts:
            values, known = amounts_of(self._events[self._spec.column], self._spec.decimals)
            self._amounts[key] = (values, known, self._rows.running(values), self._rows.running(known))
        column: tuple[Ints, Any, Ints, Ints] = self._amounts[key]
        return column
