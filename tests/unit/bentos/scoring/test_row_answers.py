"""Faults of the service leave a trace, in lists too."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest

from bentos.api.front_door import refuse
from bentos.errors import DuplicateEvent, ModelCorrupt
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.scoring.answers import rows
from bentos.scoring.scorer import row_answers
from monitoring.metrics import serving as metrics
from tests.support.builders import fraud


def event(name: str) -> Event:
    values = {"transaction_id": name, "customer_id": "c-secret", "terminal_id": "m-1", "amount": 57.16}
    return EventSchema.of(fraud()).event(values | {"tx_time": datetime(2026, 3, 1, 12, tzinfo=UTC)})


def counted(path: str, code: str) -> float:
    value: float = metrics.REFUSED_REQUESTS.labels(path, code)._value.get()
    return value


def breaks(_: object) -> list[bytes | Exception]:
    raise ValueError("-".join(("c", "hidden")))  # put together here, as frames show lines of code


def test_a_list_that_failed_as_a_whole_is_logged_once_counted_for_each_event_and_names_no_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = counted("/score/batch", "internal")
    with caplog.at_level(logging.ERROR):
        said = [json.loads(one) for one in rows(breaks, [event("t-1"), event("t-2")])]
    assert [one["error"]["code"] for one in said] == ["internal", "internal"]
    assert counted("/score/batch", "internal") == before + 2
    assert len(caplog.records) == 1
    assert "ValueError" in caplog.text
    assert "c-hidden" not in caplog.text


def test_the_other_road_of_lists_leaves_the_same_trace(caplog: pytest.LogCaptureFixture) -> None:
    before = counted("/score/list", "internal")
    with caplog.at_level(logging.ERROR):
        said = row_answers(breaks, [event("t-1")])
    assert said[0]["error"]["code"] == "internal"
    assert (counted("/score/list", "internal"), len(caplog.records)) == (before + 1, 1)


def test_what_the_client_did_wrong_in_a_list_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        rows(lambda events: [DuplicateEvent("answered before") for _ in events], [event("t-1")])
    assert caplog.records == []


def test_a_model_whose_scores_are_no_numbers_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        found = refuse(ModelCorrupt("dev-fraud/3 gave a score that is no number"), "/score")
    assert found.status == 500
    assert "ModelCorrupt" in caplog.text
