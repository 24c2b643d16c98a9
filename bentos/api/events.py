"""``POST /events``: events that are not to be scored. They feed the windows and become history.

Idempotent by event id, like ``/score``: a repeated body changes nothing, another body is a conflict.
An id that was sent here may be scored later, with the same body: it is then answered, and the log's
row gets the answer. The other way round nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bentos.errors import AnswerPending, ModelNotReady
from bentos.schema.event import Event
from bentos.scoring.active_models import ActiveModels
from bentos.scoring.answers import NO_ANSWER
from bentos.scoring.future_bound import Refusals
from bentos.scoring.intake import Intake
from monitoring.metrics import serving as metrics
from monitoring.store.database.records import Origin, ScoreRecord


class Taken(NamedTuple):
    """What became of a part of a list: places that hold a known id with another body, and rows that were refused."""

    conflicts: list[int]
    refused: Refusals


class EventReceiver:
    """Keeps events of one use case; on the thread that scores.

    Args:
        intake: what every event passes, here without a score.
    """

    def __init__(self, intake: Intake) -> None:
        self._guard = intake.guard
        self._recent = intake.recent
        self._usecase = intake.usecase
        self._active_models = intake.active_models
        self._spool = intake.spool
        self._tap = intake.tap
        self._clock = intake.clock

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
        active_models = self._active_models()
        if active_models is None:
            raise ModelNotReady("no verified model is active yet, so there are no windows to add to")
        decision_by_id = {} if decisions is None else {e.event_id: d for e, d in zip(events, decisions, strict=True)}
        refusals = self._refuse_future(active_models, events)
        positions = [at for at in range(len(events)) if at not in refusals]
        if not positions:
            return Taken([], refusals)
        conflicts = self._take(active_models, [events[at] for at in positions], decision_by_id)
        return Taken([positions[at] for at in conflicts], refusals)

    def _refuse_future(self, active_models: ActiveModels, events: Sequence[Event]) -> Refusals:
        """Refuse events beyond the bound, but for those that were taken before (the clock may have been set back)."""
        if self._guard is None:
            return Refusals()
        latest_us, refusals = self._guard.latest_us(), Refusals()
        for at, event in enumerate(events):
            if event.time_us > latest_us and active_models.windows.answered(event.event_id) is None:
                column, row = event.schema.event_time, (event.time_us, event.as_json())
                (refusals[at],) = self._guard.refuse("event", column, [row])
        return refusals

    def _take(
        self, active_models: ActiveModels, events: Sequence[Event], decision_by_id: Mapping[str, bool]
    ) -> list[int]:
        """Take events that are not of the future; the places of those that conflict."""
        if active_models.windows.shared:
            # To claim an id in a shared state is to count its event there.
            self._spool.require_room(len(events))
        new_events: dict[str, Event] = {}
        conflicts: list[int] = []
        for at, (event, earlier_answer) in enumerate(
            zip(events, active_models.plan.known(events, active_models.windows), strict=True)
        ):
            if isinstance(earlier_answer, AnswerPending):
                raise earlier_answer
            earlier_hash = (
                earlier_answer[0]
                if earlier_answer is not None
                else new_events.setdefault(event.event_id, event).body_hash
            )
            if earlier_hash != event.body_hash:
                conflicts.append(at)
        self._keep(active_models, list(new_events.values()), decision_by_id)
        return conflicts

    def _keep(self, active_models: ActiveModels, events: list[Event], decision_by_id: Mapping[str, bool]) -> None:
        if not events:
            return
        now = self._clock()
        self._spool.append([self._record(event, now, decision_by_id.get(event.event_id)) for event in events])
        active_models.plan.add(events, active_models.windows)
        for event in events:
            active_models.windows.remember(event.event_id, event.body_hash, NO_ANSWER, now)
        active_models.windows.settle()
        self._recent.add(event.time_us for event in events)
        if self._tap is not None:
            self._tap.heard(events, [NO_ANSWER] * len(events), now)
        metrics.RECEIVED_EVENTS.inc(len(events))

    def _record(self, event: Event, now: int, decision: bool | None) -> ScoreRecord:
        origin: Origin = "event" if decision is None else "late"
        return ScoreRecord(
            self._usecase, event.event_id, event.time_us, now, origin, event.as_json(), decision=decision
        )
