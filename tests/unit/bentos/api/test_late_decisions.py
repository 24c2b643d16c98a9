"""Fallback decisions that clients report: read strictly, kept as late events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from bentos.api.events import Taken
from bentos.api.late_decisions import REASONS, LateDecisionReceiver
from bentos.errors import EventError
from bentos.http_errors import UNPROCESSABLE, problem
from bentos.schema.event import Event
from bentos.scoring.future_bound import Receipt, Refusals
from monitoring.metrics import serving as metrics
from tests.support.processes.servers import SCHEMA, event


class Kept:
    """Takes events and says that those named ``t-known`` conflict."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bool]] = []

    def __call__(self, events: Sequence[Event], decisions: Sequence[bool]) -> Taken:
        self.events += [(e.event_id, d) for e, d in zip(events, decisions, strict=True)]
        refused = Refusals({at: problem(UNPROCESSABLE) for at, e in enumerate(events) if e.event_id == "t-future"})
        return Taken([at for at, e in enumerate(events) if e.event_id == "t-known"], refused)


def report(name: str = "t-1", decision: bool = True, reason: str = "deadline", **changes: Any) -> dict[str, Any]:
    return {"event": event(name, **changes), "decision": decision, "reason": reason}


def sent(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("reason", REASONS)
def test_a_report_is_kept_with_the_decision_that_was_taken(reason: str) -> None:
    kept = Kept()
    assert LateDecisionReceiver(SCHEMA, kept, 10).take(sent(report(reason=reason, decision=False))) == Receipt(
        1, [], Refusals(), False
    )
    assert kept.events == [("t-1", False)]


def test_a_list_says_which_reports_conflict() -> None:
    kept = Kept()
    body = b" " + sent([report("t-1"), report("t-known"), report("t-2")])
    assert LateDecisionReceiver(SCHEMA, kept, 10).take(body) == Receipt(2, [1], Refusals(), True)


def test_a_report_of_an_event_of_the_future_is_refused_in_its_place_and_not_counted() -> None:
    counted = metrics.LATE_REPORTS.labels("deadline")._value
    before = counted.get()
    found = LateDecisionReceiver(SCHEMA, Kept(), 10).take(sent([report("t-1"), report("t-future"), report("t-2")]))
    assert (found.accepted, found.conflicts, list(found.refused)) == (2, [], [1])
    assert counted.get() == before + 2


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (sent(report(reason="lazy")), "'deadline', 'unreachable', 'refused'"),
        (sent(report() | {"more": 1}), "a report is"),
        (sent({"event": event("t-1"), "reason": "deadline"}), "a report is"),
        (sent(report() | {"decision": 1}), "a report is"),
        (sent(report(amount=-4711)), "'amount'"),
        (sent([report("t-1"), report("t-2", amount=-4711)]), "report 1 of the list"),
        (sent(report() | {"event": "x"}), "must be a JSON object"),
        (sent([]), "1 to 3 reports, this one has 0"),
        (sent([report(f"t-{n}") for n in range(4)]), "1 to 3 reports, this one has 4"),
        (sent(report()).replace(b'"decision"', b'"decision": true, "decision"'), "twice"),
        (b"[" * 100_000, "a report is"),
        (b'{"event":' * 100_000, "a report is"),
        (b"\xff", "a report is"),
        (b"", "a report is"),
    ],
)
def test_a_malformed_report_is_refused_and_nothing_is_kept(bad: bytes, named: str) -> None:
    kept = Kept()
    with pytest.raises(EventError) as refused:
        LateDecisionReceiver(SCHEMA, kept, 3).take(bad)
    assert named in str(refused.value)
    assert "4711" not in str(refused.value)
    assert kept.events == []
