"""What was really done with an event, over HTTP: checked as strictly as labels, through the same spool.

The service says what is to be done; an analyst may decide otherwise, a rule may block what the model let
through, a client may have had to decide alone. Without that an estimate takes a release for a block.
"""

from __future__ import annotations

from bentos.api.labels import Receiver, one_or_many, refuse_future
from bentos.scoring.future_bound import Receipt
from bentos.usecase.definition import Column, UseCase
from monitoring.metrics import serving as metrics
from monitoring.store.database.records import ACTIONS, ACTORS, ActionRecord


def action_columns(usecase: UseCase) -> tuple[Column, ...]:
    """The fields of an action, in the words of a use case's columns."""
    key = usecase.column(usecase.event_id)
    return (
        Column(
            name="event_id",
            type="identifier",
            max_length=key.max_length,
            pan_guard=key.pan_guard,
            description="The event that the action is about.",
            example=key.example,
        ),
        Column(
            name="action",
            type="category",
            categories=ACTIONS,
            description="What was really done.",
            example="let_through",
        ),
        Column(
            name="by",
            type="category",
            categories=ACTORS,
            description="Who decided: the model's answer was followed, a rule, an analyst, the client's fallback.",
            example="analyst",
        ),
        Column(
            name="taken_at",
            type="datetime",
            description="When it was done, ISO 8601 with an offset.",
            example="2026-03-04T09:30:00Z",
        ),
    )


class ActionReceiver(Receiver):
    """Takes actions over HTTP."""

    columns = staticmethod(action_columns)

    def take(self, body: bytes) -> bytes:
        """Accept one action or a list; the answer is ``{"accepted": n, "conflicts": []}``.

        The latest action of an event counts; repeating one changes nothing. Actions of the future are refused one by
        one: the answer to a list names them under ``refused``.

        Raises:
            EventError: a malformed action (400), nothing was kept.
            HttpProblem: 422 for a single action of the future.
            SpoolFull: nothing was kept.
        """
        rows, many = one_or_many(self._decoder, body, self._limit)
        now = self._clock()
        refusals = refuse_future(self._guard, "action", self._decoder.names, rows)
        accepted_rows = [row for at, row in enumerate(rows) if at not in refusals]
        self._spool.append([ActionRecord(self._usecase, row[0], row[1], row[2], row[3], now) for row in accepted_rows])
        for row in accepted_rows:
            metrics.RECEIVED_ACTIONS.labels(row[1], row[2]).inc()
        return Receipt(len(accepted_rows), [], refusals, many).body()
