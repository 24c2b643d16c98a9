"""Fill a window state from what was logged: the database, the spool that is not shipped yet, labels."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

import pandas as pd

from bentos.features.plan import FeaturePlan
from bentos.schema.event_schema import EventSchema
from bentos.scoring.answers import NO_ANSWER, answer, ending
from bentos.scoring.intake import machine_time_us
from bentos.scoring.recent_times import SAMPLE
from bentos.spool.segments import Record
from bentos.usecase.limits import LATEST_US
from bentos.windows.state import WindowInput, WindowState
from monitoring.metrics import serving as metrics
from monitoring.store import Store
from monitoring.store.database.frames import to_us
from monitoring.store.database.records import LabelRecord, ScoreRecord, StoredEvent, StoredLabel

log = logging.getLogger("incumbent.windows")

_CHUNK: Final = 20_000
_DAY_US: Final = 86_400_000_000


class LogHistory:
    """Reads the log of one use case.

    Args:
        usecase: name in the log.
        schema: reads the stored bodies.
        sources: label sources, strongest first.
        store: gives the database; may raise :class:`~monitoring.errors.StoreUnavailable`.
        spooled: records that are still in the spool.
        answered_since_us: machine time from which on answers are remembered.
        latest_us: event time beyond which events are of the future; they are counted, and the log is repaired by
            ``incumbent log repair``.

    Attributes:
        recent_us: times of the last events that were read, in the order of the log, in microseconds.
    """

    def __init__(
        self,
        usecase: str,
        schema: EventSchema,
        sources: Sequence[str],
        store: Callable[[], Store],
        read_spool: Callable[[], Iterable[Record]],
        answered_since_us: Callable[[], int],
        latest_us: Callable[[], int] = lambda: LATEST_US,
    ) -> None:
        self._latest = latest_us
        self.recent_us: Sequence[int] = ()
        self._usecase = usecase
        self._schema = schema
        self._sources = tuple(sources)
        self._store = store
        self._spooled = read_spool
        self._answered_since = answered_since_us

    def fill(self, plan: FeaturePlan, state: WindowState) -> int:
        """Add every event that a window can still reach, every label, every answer within the horizon.

        Args:
            plan: reads what the windows need of an event.
            state: a new state with the plan's windows.

        Returns:
            The id of the last label read.

        Raises:
            StoreUnavailable: the state is half filled; throw it away.
        """
        store, since_us = self._store(), self._answered_since()
        # The spool first: what is shipped between the two reads is then seen twice, which adds nothing.
        waiting_records = [record for record in self._spooled() if record.usecase == self._usecase]
        recent: deque[int] = deque(maxlen=SAMPLE)
        latest_us, future = self._latest(), 0
        unshipped_events = [_as_stored(r) for r in waiting_records if isinstance(r, ScoreRecord)]
        for events in chain(
            store.log.stream(self._usecase, self._earliest_event_time(store, state), _CHUNK), [unshipped_events]
        ):
            self._add(plan, state, events, since_us)
            recent.extend(event.event_time for event in events)
            future += sum(event.event_time > latest_us for event in events)
        self.recent_us = tuple(recent)
        self._report_future(future)
        statements, cursor = self._labels(store)
        statements += [_as_label(r) for r in waiting_records if isinstance(r, LabelRecord)]
        plan.load(state, self._schema.frame([]), self._label_frame(statements))
        return cursor

    def unshipped(self, plan: FeaturePlan, state: WindowState) -> list[WindowInput]:
        """Events in this replica's spool, which the database and other replicas may not know yet."""
        bodies = [r.body for r in self._spooled() if r.usecase == self._usecase and isinstance(r, ScoreRecord)]
        return plan.inputs([self._schema.decode(body) for body in bodies], state)

    def _earliest_event_time(self, store: Store, state: WindowState) -> int:
        """Event time before which no window of a present or late event reaches."""
        span = store.log.span(self._usecase)
        if span is None:
            return 0
        reach = max((spec.over + spec.delay for spec in state.specs), default=0)
        # One event with a date far in the future must not push everything else out.
        return max(0, min(to_us(span[2]), machine_time_us()) - reach - _DAY_US)

    def _report_future(self, future: int) -> None:
        metrics.LOGGED_FUTURE_EVENTS.set(future)
        if future:
            log.warning("the log holds %d events of the future, which move the clock of the windows: see "
                        "'incumbent log repair'", future)  # fmt: skip

    def _add(self, plan: FeaturePlan, state: WindowState, events: Sequence[StoredEvent], since_us: int) -> None:
        if not events:
            return
        frame = self._schema.frame_of_bodies([event.body for event in events])
        plan.load(state, frame, self._label_frame([]))
        for event in events:
            if event.received_at < since_us or (answer_body := _answer_of(event)) is None:
                continue
            # An id that was sent, and then scored, may be met in both states: the answer stands.
            if answer_body or state.answered(event.event_id) is None:
                state.remember(event.event_id, self._schema.body_hash(event.body), answer_body, event.received_at)

    def _labels(self, store: Store) -> tuple[list[StoredLabel], int]:
        labels: list[StoredLabel] = []
        cursor = 0
        while True:
            part, cursor = store.labels.tail(self._usecase, cursor, _CHUNK)
            labels += part
            if len(part) < _CHUNK:
                return labels, cursor

    def _label_frame(self, statements: Sequence[StoredLabel]) -> pd.DataFrame:
        """Statements of ranked sources as a labels frame."""
        ranked_labels = [s for s in statements if s.source in self._sources]
        observed_times = pd.to_datetime(
            pd.Series([s.observed_at for s in ranked_labels], dtype="int64"), unit="us", utc=True
        )
        return pd.DataFrame(
            {
                "event_id": pd.Series([s.event_id for s in ranked_labels], dtype=object),
                "y": pd.Series([s.y for s in ranked_labels], dtype="int8"),
                "observed_at": observed_times.dt.as_unit("us"),
                "source": pd.Series([s.source for s in ranked_labels], dtype=object),
            }
        )


def _answer_of(event: StoredEvent) -> bytes | None:
    """The very bytes that were answered; empty for an event that was sent not to be scored; none for history."""
    if event.origin in ("event", "late"):
        return NO_ANSWER
    if event.origin != "live" or event.score is None or event.threshold is None or event.decision is None:
        return None
    end = ending(event.threshold, event.model or "", event.version or "", event.alias or "")
    return answer(event.event_id, event.score, event.decision, end, event.action)


def _as_stored(record: ScoreRecord) -> StoredEvent:
    return StoredEvent(
        record.event_id, record.event_time, record.received_at, record.origin, record.body,
        record.score, record.threshold, record.decision, record.model, record.version, record.alias,
        record.action,
    )  # fmt: skip


def _as_label(record: LabelRecord) -> StoredLabel:
    return StoredLabel(0, record.event_id, record.y, record.observed_at, record.source, record.received_at)


def batches(statements: Sequence[StoredLabel], size: int) -> Iterator[Sequence[StoredLabel]]:
    """Cut a list into parts that the scoring thread can take without a pause."""
    for start in range(0, len(statements), size):
        yield statements[start : start + size]
