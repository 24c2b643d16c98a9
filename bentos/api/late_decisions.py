"""``POST /late``: what clients decided by themselves because no answer came in time.

Such an event happened, so it feeds the windows and stands in the log, with ``origin=late`` and the
decision that was taken. An event that was answered after all (the answer came too late for the
client) keeps its answered row: what a model said is never replaced, and the report is only counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from bentos.api.events import Taken
from bentos.client.common import REASONS, Reason
from bentos.errors import EventError
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.scoring.future_bound import Receipt
from monitoring.metrics import serving as metrics


class _Report(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    event: msgspec.Raw
    decision: bool
    reason: Reason


Take = Callable[[Sequence[Event], Sequence[bool]], Taken]
_ONE: Final = msgspec.json.Decoder(_Report)
_MANY: Final = msgspec.json.Decoder(list[_Report])
_FORM: Final = (
    "a report is {'event': the event as it was sent to /score, 'decision': true or false, "
    f"'reason': one of {', '.join(map(repr, REASONS))}}}, or a list of them"
)


class LateDecisionReceiver:
    """Takes reports of fallback decisions.

    Args:
        schema: reads the events.
        take: keeps events with the decisions taken; says which places conflict, and which were refused.
        limit: reports of one list.
    """

    def __init__(self, schema: EventSchema, take: Take, limit: int) -> None:
        self._schema = schema
        self._take = take
        self._limit = limit

    def take(self, body: bytes) -> Receipt:
        """Keep what clients decided by themselves.

        Raises:
            EventError: a malformed report (400); nothing was kept.
            ModelNotReady, SpoolFull: nothing was kept; the same reports may be sent again.
        """
        many = body.lstrip(b" \t\r\n")[:1] == b"["
        reports = self._read(body, many)
        events = [self._event(bytes(report.event), at if many else None) for at, report in enumerate(reports)]
        conflicts, refusals = self._take(events, [report.decision for report in reports])
        accepted_reports = [report for at, report in enumerate(reports) if at not in refusals and at not in conflicts]
        for report in accepted_reports:
            metrics.LATE_REPORTS.labels(report.reason).inc()
        return Receipt(len(accepted_reports), conflicts, refusals, many)

    def _read(self, body: bytes, many: bool) -> list[_Report]:
        try:
            reports = _MANY.decode(body) if many else [_ONE.decode(body)]
            json.loads(body, object_pairs_hook=_no_key_twice)
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            # The decoder's own text could hold what was sent.
            raise exc if isinstance(exc, EventError) else EventError(_FORM) from None
        if not 1 <= len(reports) <= self._limit:
            raise EventError(f"a list holds 1 to {self._limit} reports, this one has {len(reports)}")
        return reports

    def _event(self, body: bytes, at: int | None) -> Event:
        try:
            return self._schema.decode(body)
        except EventError as exc:
            prefix = "" if at is None else f"report {at} of the list: "
            raise EventError(f"{prefix}{exc}") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise EventError(f"a key is given twice; {_FORM}")
