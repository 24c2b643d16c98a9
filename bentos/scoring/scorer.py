"""The scoring core: events in, answers out, and the log written before anybody is answered.

One batch runs to its end on the event loop's thread: windows read and add event by event, the
champion predicts once, the spool gets one write. So the order of the log is the order of the
windows, and no lock is needed.

What is refused leaves no trace in the windows, and what was counted is logged: windows are rebuilt from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from bentos.errors import AnswerPending, DuplicateEvent, ModelNotReady, SpoolFull
from bentos.http_errors import note_faults, translate
from bentos.schema.event import Event
from bentos.scoring.active_models import ActiveModel, ActiveModels
from bentos.scoring.answers import NO_ANSWER, answer, ending
from bentos.scoring.arms import Share, shares
from bentos.scoring.exploration import Explorer
from bentos.scoring.intake import Intake
from bentos.usecase.limits import LATEST_US
from monitoring.metrics import serving as metrics
from monitoring.store.database.records import PlanRecord, ScoreRecord

Answer = bytes | Exception
_UNANSWERED: Final = ModelNotReady("no model answered this event")


class Scorer:
    """Scores batches of events for one use case.

    Args:
        intake: what every event passes.
        ordered: the threshold that people ordered for a holder at a machine time, or none for its own.
        explorer: says what is to be done; none where the use case declares no intervention.
    """

    def __init__(
        self,
        intake: Intake,
        ordered: Callable[[ActiveModel, int], float | None] = lambda holder, _: None,
        explorer: Explorer | None = None,
    ) -> None:
        self._guard = intake.guard
        self._recent = intake.recent
        self._usecase = intake.usecase
        self._active_models = intake.active_models
        self._spool = intake.spool
        self._tap = intake.tap
        self._clock = intake.clock
        self._ordered_threshold = ordered
        self._explorer = explorer
        self._logged_plan = ""
        self._unlogged_records: list[ScoreRecord] = []
        self._tally = metrics.ScoreTally()

    def run(self, events: Sequence[Event]) -> list[Answer]:
        """One answer for each event, in order; an exception is the answer to its own event only.

        An id that was answered before gets its first answer if the body is the same.

        Raises:
            ModelNotReady: no model is active.
            SpoolFull: nothing was answered; the same events may be sent again.
        """
        active_models = self._active_models()
        if active_models is None:
            raise ModelNotReady("no verified model is active yet")
        latest_us = LATEST_US if self._guard is None else self._guard.latest_us()
        if future := [at for at, event in enumerate(events) if event.time_us > latest_us]:
            return self._answer_around(active_models, events, future, self._refuse_future)
        return self._answer_now(active_models, events)

    def flush(self) -> None:
        """Move what was counted into the instruments behind ``/metrics``."""
        self._tally.flush()

    def _answer_now(self, active_models: ActiveModels, events: Sequence[Event]) -> list[Answer]:
        """Answer a batch without events of the future."""
        if positions := active_models.unscorable(events):
            return self._answer_around(
                active_models, events, positions, lambda active_models, _: active_models.holder.unscorable()
            )
        return self._answer(active_models, events)

    def _answer_around(
        self,
        active_models: ActiveModels,
        events: Sequence[Event],
        positions: Sequence[int],
        refuse: Callable[[ActiveModels, Event], Exception],
    ) -> list[Answer]:
        """Answer a batch that has events nobody may score: those get their first answer, if any, or are refused."""
        position_set = set(positions)
        other_events = [event for at, event in enumerate(events) if at not in position_set]
        answers = iter(self._answer_now(active_models, other_events) if other_events else ())
        return [
            self._answer_refused(active_models, event, refuse) if at in position_set else next(answers)
            for at, event in enumerate(events)
        ]

    def _answer_refused(
        self, active_models: ActiveModels, event: Event, refuse: Callable[[ActiveModels, Event], Exception]
    ) -> Answer:
        remembered = active_models.windows.answered(event.event_id)
        if remembered is not None and (remembered[1] or remembered[0] != event.body_hash):
            return _repeat(event, *remembered)
        return refuse(active_models, event)

    def _refuse_future(self, _: ActiveModels, event: Event) -> Exception:
        assert self._guard is not None
        return self._guard.refuse("event", event.schema.event_time, [(event.time_us, event.as_json())])[0]

    def _answer(self, active_models: ActiveModels, events: Sequence[Event]) -> list[Answer]:
        if active_models.windows.shared:
            # To claim an id in a shared state is to count its event there.
            self._spool.require_room(len(events))
        answers: list[Answer | None] = [None] * len(events)
        first_positions: dict[str, int] = {}
        repeats: list[tuple[int, int]] = []
        for at, (event, remembered) in enumerate(
            zip(events, active_models.plan.known(events, active_models.windows), strict=True)
        ):
            if isinstance(remembered, AnswerPending):
                answers[at] = remembered
                continue
            # An id that was only sent (POST /events) has no answer yet, but its body stands.
            if remembered is not None and (remembered[1] or remembered[0] != event.body_hash):
                answers[at] = _repeat(event, *remembered)
            elif (first := first_positions.setdefault(event.event_id, at)) != at:
                repeats.append((at, first))
        if first_positions:
            positions = list(first_positions.values())
            for at, new_answer in zip(
                positions, self._score(active_models, [events[at] for at in positions]), strict=True
            ):
                answers[at] = new_answer
        for at, first in repeats:
            earlier = answers[first]
            answers[at] = (
                _repeat(events[at], events[first].body_hash, earlier) if isinstance(earlier, bytes) else earlier
            )
        return [item for item in answers if item is not None]

    def _score(self, active_models: ActiveModels, events: list[Event]) -> list[Answer]:
        now = self._clock()
        # First: an event that is refused must not be counted in the windows of later ones.
        self._spool.require_room(len(events))
        features = active_models.plan.rows(events, active_models.windows)
        arms: list[str] | None = None
        routing: str | None = None
        if active_models.fork is None:
            scores = active_models.holder.scores(events, features, active_models.positions)
            parts = [Share(active_models.holder, range(len(events)), scores)]
        else:
            parts, arms = shares(active_models, active_models.fork, events, features)
            routing = active_models.fork.router.policy.digest
        answers: list[Answer] = [_UNANSWERED] * len(events)
        records: list[ScoreRecord | None] = [None] * len(events)
        tallies: list[tuple[ActiveModel, list[bool], list[float]]] = []
        action, chance, explorer = None, None, self._explorer
        blob, width = np.ascontiguousarray(features, dtype="<f4").tobytes(), 4 * features.shape[1]
        for part in parts:
            holder = part.holder
            order = self._ordered_threshold(holder, now)
            threshold = holder.threshold if order is None else order
            row_cuts = part.scores.cuts if order is None else None
            flags = part.scores.calibrated >= (threshold if row_cuts is None else row_cuts)
            cuts = None if row_cuts is None else row_cuts.tolist()
            end = ending(threshold, holder.ref.name, holder.ref.version, holder.alias)
            raw, score, decisions = part.scores.raw.tolist(), part.scores.calibrated.tolist(), flags.tolist()
            for position, i in enumerate(part.rows):
                event = events[i]
                if not 0.0 <= score[position] <= 1.0:  # NaN is not between them either
                    # The windows have counted it, so the log holds it; sent again, it may be scored.
                    records[i] = ScoreRecord(
                        self._usecase, event.event_id, event.time_us, now, "event", event.as_json()
                    )
                    answers[i] = holder.unscorable()
                    continue
                if cuts is not None:
                    threshold = cuts[position]
                    end = ending(threshold, holder.ref.name, holder.ref.version, holder.alias)
                if explorer is not None:
                    action, chance = explorer.action(event.event_id, decisions[position])
                records[i] = ScoreRecord(
                    self._usecase, event.event_id, event.time_us, now, "live", event.as_json(),
                    active_models.plan.fingerprint, blob[i * width : (i + 1) * width],
                    holder.ref.name, holder.ref.version, holder.alias, holder.digest,
                    raw[position], score[position], threshold, decisions[position],
                    chance, None if arms is None else arms[i], routing, action,
                )  # fmt: skip
                answers[i] = answer(event.event_id, score[position], decisions[position], end, action)
            tallies.append((holder, decisions, score))
        # In the order of the windows, whoever answered.
        self._log(active_models, [record for record in records if record is not None])
        self._settle(active_models, events, answers, now)
        for holder, decisions, score in tallies:
            self._tally.add(holder.ref.version, holder.alias, decisions, score)
        return answers

    def _log(self, active_models: ActiveModels, records: list[ScoreRecord]) -> None:
        if self._logged_plan != active_models.plan.fingerprint:
            # The log can read the feature blobs only when it knows the plan's columns.
            self._spool.declare(PlanRecord(active_models.plan.fingerprint, active_models.plan.names))
            self._logged_plan = active_models.plan.fingerprint
        owed_records, self._unlogged_records = self._unlogged_records, []
        try:
            self._spool.append([*owed_records, *records])
        except SpoolFull:
            # The windows hold these events already, so the log has to hold them before anything else.
            record_by_event = {record.event_id: record for record in [*owed_records, *map(_unanswered, records)]}
            self._unlogged_records = list(record_by_event.values())
            raise

    def _settle(self, active_models: ActiveModels, events: list[Event], answers: list[Answer], now: int) -> None:
        """After the log holds them: remember the answers, tell the tap."""
        for event, event_answer in zip(events, answers, strict=True):
            stored_answer = event_answer if isinstance(event_answer, bytes) else NO_ANSWER
            active_models.windows.remember(event.event_id, event.body_hash, stored_answer, now)
        active_models.windows.settle()
        self._recent.add(event.time_us for event in events)
        if self._tap is not None:
            self._tap.heard(events, answers, now)


def _unanswered(record: ScoreRecord) -> ScoreRecord:
    """The same event as one that was not scored: its client got no answer."""
    return ScoreRecord(record.usecase, record.event_id, record.event_time, record.received_at, "event", record.body)


def _repeat(event: Event, body_hash: str, earlier_answer: bytes) -> Answer:
    if event.body_hash != body_hash:
        return DuplicateEvent("this event id was answered before, with another body")
    metrics.REPLAYED_EVENTS.inc()
    return earlier_answer


def row_answers(score: Callable[[list[Event]], list[Answer]], events: Sequence[Event]) -> list[dict[str, Any]]:
    """Answers of a list as JSON objects; an event that fails says so in its own place.

    Args:
        score: scores a batch, and may fail as a whole.
        events: checked events.
    """
    try:
        answers: Sequence[Answer] = score(list(events))
    except Exception as exc:  # rows of several requests share a batch: each is told, none is lost
        answers = [exc] * len(events)
    note_faults("/score/list", answers)
    return [_row(event, event_answer) for event, event_answer in zip(events, answers, strict=True)]


def _row(event: Event, event_answer: Answer) -> dict[str, Any]:
    if isinstance(event_answer, bytes):
        decoded: dict[str, Any] = msgspec.json.decode(event_answer)
        return decoded
    fault = translate(event_answer)
    return {"event_id": event.event_id, "error": {"code": fault.code, "message": str(fault)}}
