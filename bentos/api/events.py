"""``POST /events``: events that are not to be scored. They feed the windows and become history.

Idempotent by event id, like ``/score``: a repeated body changes nothing, another body is a conflict.
An id that was sent here may be scored later, with the same body: it is then answered, and the log's
row gets the answer. The other way round nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bentos.errors import AnswerPending, ModelNotReady
from bentos.schema.event import Event
from bentos.scoring.active_models import Office
from bentos.scoring.answers import NO_ANSWER
from bentos.scoring.future_bound import FutureGuard, Refusals
from bentos.scoring.ports import Spool
from bentos.scoring.recent_times import RecentTimes
from bentos.scoring.scorer import Tap, machine_time_us
from monitoring.metrics import serving as metrics
from monitoring.store.database.records import Origin, ScoreRecord


class Taken(NamedTuple):
    """What became of a part of a list: places that hold a known id with another body, and rows that were refused."""

    conflicts: list[int]
    refused: Refusals


class EventDesk:
    """Keeps events of one use case; on the thread that scores.

    Args:
        usecase: name written to the log.
        office: who answers now, with the windows, or none.
        spool: the durable log's first stop.
        tap: hears of events while a new window state is being built.
        clock: machine time in microseconds.
        recent: is told the event times.
        guard: refuses events of the future; none lets every time pass.
    """

    def __init__(
        self,
        usecase: str,
        office: Callable[[], Office | None],
        spool: Spool,
        tap: Tap | None = None,
        clock: Callable[[], int] = machine_time_us,
        recent: RecentTimes | None = None,
        guard: FutureGuard | None = None,
    ) -> None:
        self._guard = guard
        self._recent = RecentTimes() if recent is None else recent
        self._usecase = usecase
        self._office = office
        self._spool = spool
        self._tap = tap
        self._clock = clock

    def take(self, events: Sequence[Event], decisions: Sequence[bool] | None = None) -> Taken:
        """Log the events and add them to the windows; events of the future are refused and leave no trace there.

        Args:
            events: checked events.
            decisions: what a client decided about each by itself; then the log says ``origin=late``.

        Raises:
            ModelNotReady: there are no windows yet.
            AnswerPending, WindowsUnavailable: other replicas share the windows; send the same events again.
            SpoolFull: nothing was kept; the same events may be sent again.
        """
        office = self._office()
        if office is None:
            raise ModelNotReady("no verified model is in office yet, so there are no windows to add to")
        decided = {} if decisions is None else {e.event_id: d for e, d in zip(events, decisions, strict=True)}
        refused = self._refuse_future(office, events)
        places = [at for at in range(len(events)) if at not in refused]
        if not places:
            return Taken([], refused)
        conflicts = self._take(office, [events[at] for at in places], decided)
        return Taken([places[at] for at in conflicts], refused)

    def _refuse_future(self, office: Office, events: Sequence[Event]) -> Refusals:
        """Refuse events beyond the bound, but for those that were taken before (the clock may have been set back)."""
        if self._guard is None:
            return Refusals()
        latest, refused = self._guard.latest_us(), Refusals()
        for at, event in enumerate(events):
            if event.time_us > latest and office.windows.answered(event.event_id) is None:
                column, row = event.schema.event_time, (event.time_us, event.as_json())
                (refused[at],) = self._guard.refuse("event", column, [row])
        return refused

    def _take(self, office: Office, events: Sequence[Event], decided: Mapping[str, bool]) -> list[int]:
        """Take events that are not of the future; the places of those that conflict."""
        if office.windows.shared:
            # To claim an id in a shared state is to count its event there.
            self._spool.require_room(len(events))
        fresh: dict[str, Event] = {}
        conflicts: list[int] = []
        for at, (event, known) in enumerate(zip(events, office.plan.known(events, office.windows), strict=True)):
            if isinstance(known, AnswerPending):
                raise known
            said = known[0] if known is not None else fresh.setdefault(event.event_id, event).body_hash
            if said != event.body_hash:
                conflicts.append(at)
        self._keep(office, list(fresh.values()), decided)
        return conflicts

    def _keep(self, office: Office, events: list[Event], decided: Mapping[str, bool]) -> None:
        if not events:
            return
        now = self._clock()
        self._spool.append([self._record(event, now, decided.get(event.event_id)) for event in events])
        office.plan.add(events, office.windows)
        for event in events:
            office.windows.remember(event.event_id, event.body_hash, NO_ANSWER, now)
        office.windows.settle()
        self._recent.add(event.time_us for event in events)
        if self._tap is not None:
            self._tap.heard(events, [NO_ANSWER] * len(events), now)
        metrics.EVENTS.inc(len(events))

    def _record(self, event: Event, now: int, decision: bool | None) -> ScoreRecord:
        origin: Origin = "event" if decision is None else "late"
        return ScoreRecord(
            self._usecase, event.event_id, event.time_us, now, origin, event.as_json(), decision=decision
        )
