"""Window state: what one event needs to know of the events before it.

For an event at time t the window of a :class:`WindowSpec` is ``(t - delay - over, t - delay]``; with
no delay it holds strictly earlier events, and the event itself where declared. Reading never depends
on whether the event was added before: its own row is counted from its own values. So order inside a
batch, ties in time and replays change nothing.

Late events are inserted where they belong: later reads are exact. State reaches back the longest
window plus ``lateness`` from the newest business time; an event older than that is answered from what
is left and not added, because no exact read could meet it.

The newest business time is the median of the latest added events and never moves back: one event dated 2150 must not
wipe the state.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bentos.windows.aggregates import needs_labels
from bentos.windows.entity_series import EntityWindows
from bentos.windows.label_spans import LabelStatement, positive_spans
from bentos.windows.state import AnswerState, WindowInput, WindowSpec, WindowState, WindowStats
from monitoring.metrics import serving as metrics

__all__ = ["MemoryWindows", "WindowInput", "WindowSpec", "WindowState", "WindowStats"]

_DAY_US = 86_400_000_000
_SAMPLE = 1024
"""Added events after which the newest business time is estimated again."""
_SWEEP = 32
"""Added events after which expired ones are dropped."""
_CROWDED = 10_000
"""Waiting labels above which old ones are looked for."""


class MemoryWindows:
    """Window state inside one process. Not safe for several threads: give it one owner.

    Args:
        specs: windows of every plan in a role, in any order; repeats are dropped.
        lateness_us: how late an event may come and still be read and counted exactly.
    """

    shared = False
    available = True
    lost = False

    def __init__(self, specs: Iterable[WindowSpec], lateness_us: int = _DAY_US) -> None:
        self.specs = tuple(dict.fromkeys(specs))
        self.entities = tuple(dict.fromkeys(s.entity for s in self.specs))
        value_specs = (s for s in self.specs if s.column is not None)
        self.amounts = tuple(dict.fromkeys((str(s.column), s.decimals) for s in value_specs))
        amount_positions = {amount: i for i, amount in enumerate(self.amounts)}
        slots = {spec: i for i, spec in enumerate(self.specs)}
        self._groups = [
            EntityWindows([(slots[s], s) for s in self.specs if s.entity == entity], amount_positions)
            for entity in self.entities
        ]
        self._labelled = any(needs_labels(s) for s in self.specs)
        self._keep = max((s.over + s.delay for s in self.specs), default=0) + lateness_us
        self._lateness = lateness_us
        self._newest: int | None = None
        self._cutoff = -(2**62)
        self._recent: list[int] = []
        # Time and entities, in one tuple: there is one for each event.
        self._events: dict[str, tuple[Any, ...]] = {}
        self._order: deque[str] = deque()
        self._label_statements: dict[str, tuple[LabelStatement, ...]] = {}
        self._early_labels: dict[str, tuple[LabelStatement, ...]] = {}
        self._crowded = _CROWDED
        self._answers: dict[str, tuple[str, bytes, int]] = {}
        self._answer_order: deque[tuple[int, str]] = deque()
        self._too_late = 0

    def read_add(self, batch: Sequence[WindowInput]) -> list[list[float]]:
        """See :class:`WindowState`."""
        groups, width = self._groups, len(self.specs)
        values = []
        for event in batch:
            out = [0.0] * width
            for group, key in zip(groups, event.entities, strict=True):
                group.read(key, event.time_us, event.amounts, out)
            values.append(out)
            if event.event_id not in self._events:
                self._add(event)
        return values

    def add(self, batch: Iterable[WindowInput]) -> int:
        """See :class:`WindowState`."""
        added_count = 0
        for event in batch:
            if event.event_id not in self._events:
                added_count += self._add(event)
        return added_count

    def label(self, event_id: str, y: int, observed_at_us: int, rank: int) -> bool:
        """See :class:`WindowState`."""
        if not self._labelled:
            return False
        event_entry = self._events.get(event_id)
        book = self._early_labels if event_entry is None else self._label_statements
        statements = book.get(event_id, ())
        label = (observed_at_us, rank, y)
        if label in statements:
            return False
        book[event_id] = (*statements, label)
        if event_entry is not None:
            self._count_labels(event_id, *event_entry)
        return True

    def claim(self, batch: Sequence[WindowInput]) -> list[AnswerState]:
        """See :class:`WindowState`."""
        return [self.answered(event.event_id) for event in batch]

    def settle(self) -> None:
        """See :class:`WindowState`; there is nobody to tell."""

    def join(self, unshipped: Sequence[WindowInput]) -> None:
        """See :class:`WindowState`; there is nobody to join."""

    def follow(self) -> None:
        """See :class:`WindowState`; there is nobody to follow."""

    def mend(self) -> None:
        """See :class:`WindowState`; nothing can be away."""

    def close(self) -> None:
        """See :class:`WindowState`."""

    def answered(self, event_id: str) -> tuple[str, bytes] | None:
        """See :class:`WindowState`."""
        entry = self._answers.get(event_id)
        return None if entry is None else entry[:2]

    def remember(self, event_id: str, body_hash: str, answer: bytes, at_us: int) -> None:
        """See :class:`WindowState`."""
        self._answers[event_id] = (body_hash, answer, at_us)
        self._answer_order.append((at_us, event_id))

    def forget_answers(self, before_us: int) -> int:
        """See :class:`WindowState`."""
        order, dropped = self._answer_order, 0
        while order and order[0][0] < before_us:
            at_us, event_id = order.popleft()
            # The id may have been answered again since.
            if event_id in self._answers and self._answers[event_id][2] == at_us:
                del self._answers[event_id]
                dropped += 1
        return dropped

    def take_answers(self) -> Iterator[tuple[str, str, bytes, int]]:
        """Give every answer away: (event id, body hash, answer, machine time)."""
        answers, self._answers = self._answers, {}
        self._answer_order.clear()
        return ((event_id, *answer) for event_id, answer in answers.items())

    def stats(self) -> WindowStats:
        """See :class:`WindowState`; walks over every entity."""
        books = (self._events, self._label_statements, self._early_labels, self._answers)
        size = sum(map(sys.getsizeof, books)) + sum(group.size() for group in self._groups)
        # An id, its time and one tuple; entity names are shared with the groups.
        size += (
            len(self._events) * (150 + 8 * len(self.entities))
            + (len(self._label_statements) + len(self._early_labels)) * 160
        )
        size += sum(sys.getsizeof(a[1]) + 250 for a in self._answers.values())
        return WindowStats(
            events=len(self._events),
            entities=sum(len(group.series) for group in self._groups),
            parked=len(self._early_labels),
            answered=len(self._answers),
            too_late=self._too_late,
            newest_us=self._newest,
            bytes=size,
        )

    def _add(self, event: WindowInput) -> int:
        if event.time_us <= self._cutoff:
            self._early_labels.pop(event.event_id, None)
            self._too_late += 1
            metrics.TOO_LATE_EVENTS.inc()
            return 0
        keys = [
            key if key is None else group.add(key, event.time_us, event.amounts)
            for group, key in zip(self._groups, event.entities, strict=True)
        ]
        self._events[event.event_id] = (event.time_us, *keys)
        self._order.append(event.event_id)
        if event.event_id in self._early_labels:
            self._label_statements[event.event_id] = self._early_labels.pop(event.event_id)
            self._count_labels(event.event_id, event.time_us, *event.entities)
        self._recent.append(event.time_us)
        if not len(self._order) % _SWEEP:
            self._expire()
        if len(self._recent) >= _SAMPLE:
            self._advance()
        return 1

    def _count_labels(self, event_id: str, time_us: int, *entities: str | None) -> None:
        spans = positive_spans(self._label_statements[event_id])
        for group, key in zip(self._groups, entities, strict=True):
            if key is not None and group.labelled:
                group.label(key, event_id, time_us, spans)

    def _advance(self) -> None:
        """Move the newest business time to the median of the last events, never back.

        One event with a date far in the future must not age everything else out.
        """
        middle = sorted(self._recent)[len(self._recent) // 2]
        self._recent.clear()
        if self._newest is None or middle > self._newest:
            self._newest = middle
            self._cutoff = middle - self._keep
            if len(self._early_labels) > self._crowded:
                self._early_labels = {
                    i: statements for i, statements in self._early_labels.items() if max(statements)[0] > self._cutoff
                }
                self._crowded = max(_CROWDED, 2 * len(self._early_labels))

    def _expire(self) -> None:
        """Look at the oldest arrivals and drop the expired; two for each added event keep pace."""
        order = self._order
        for _ in range(min(2 * _SWEEP, len(order))):
            event_id = order[0]
            time_us, *entities = self._events[event_id]
            if time_us > self._cutoff:
                if self._newest is not None and time_us > self._newest + self._lateness:
                    order.rotate(-1)  # a date in the future must not block the queue
                return
            order.popleft()
            del self._events[event_id]
            self._label_statements.pop(event_id, None)
            for group, key in zip(self._groups, entities, strict=True):
                if key is not None:
                    group.prune(key, self._cutoff)
