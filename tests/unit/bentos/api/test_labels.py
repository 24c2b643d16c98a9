"""Labels over HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bentos.api.labels import Contradictions, LabelReceiver
from bentos.errors import EventError
from bentos.http_errors import HttpProblem
from bentos.scoring.future_bound import FutureBound, FutureGuard
from bentos.scoring.recent_times import RecentTimes
from bentos.settings import Settings
from bentos.spool.segments import Record
from monitoring.store.database.records import LabelRecord, PlanRecord, RefusedRecord
from tests.support.builders import fraud

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class Paper:
    def __init__(self) -> None:
        self.labels: list[LabelRecord] = []
        self.refused: list[RefusedRecord] = []

    def declare(self, plan: PlanRecord) -> None:
        raise AssertionError

    def require_room(self, events: int) -> None:
        raise AssertionError

    def append(self, records: Sequence[Record]) -> None:
        self.labels += [r for r in records if isinstance(r, LabelRecord)]
        self.refused += [r for r in records if isinstance(r, RefusedRecord)]


class Desk:
    def __init__(self, newest: datetime | None = None) -> None:
        """The machine's clock counts unless ``newest`` is the newest event of a stream."""
        self.paper, recent = Paper(), RecentTimes()
        now_us = int(NOW.timestamp()) * 1_000_000
        if newest is not None:
            recent.add([int(newest.timestamp()) * 1_000_000])
        settings = Settings(clock="machine" if newest is None else "stream", max_future="1d" if newest else "1h")
        bound = FutureBound(settings, lambda: now_us, recent)
        guard = FutureGuard("fraud", bound, self.paper, lambda: now_us)
        self.desk = LabelReceiver(fraud(), self.paper, 3, guard, Contradictions(), lambda: now_us)

    def take(self, *labels: dict[str, Any], single: bool = False) -> dict[str, Any]:
        body = labels[0] if single else list(labels)
        found: dict[str, Any] = json.loads(self.desk.take(json.dumps(body).encode()))
        return found


def label(**changes: Any) -> dict[str, Any]:
    return {"event_id": "t-1", "label": 1, "observed_at": "2026-05-03T00:00:00Z", "source": "analyst"} | changes


def test_one_label_and_a_list_of_labels_are_accepted() -> None:
    desk = Desk()
    assert desk.take(label(), single=True) == {"accepted": 1, "conflicts": []}
    assert desk.take(label(event_id="t-2"), label(event_id="t-3", label=0))["accepted"] == 2
    assert [(r.event_id, r.y, r.source) for r in desk.paper.labels] == [
        ("t-1", 1, "analyst"),
        ("t-2", 1, "analyst"),
        ("t-3", 0, "analyst"),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        {"source": "gossip"},
        {"label": 2},
        {"label": True},
        {"label": "1"},
        {"observed_at": "2026-05-03"},
        {"observed_at": "2026-05-03T00:00:00"},
        {"event_id": ""},
        {"event_id": "t\x00"},
        {"note": "x"},
    ],
)
def test_a_malformed_label_is_refused_and_nothing_is_kept(bad: dict[str, Any]) -> None:
    desk = Desk()
    with pytest.raises(EventError):
        desk.take(label(event_id="t-0"), label(**bad))
    assert desk.paper.labels == []


def test_a_list_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(EventError):
        Desk().take(*[label(event_id=f"t-{i}") for i in range(4)])


def test_a_label_from_the_future_is_refused() -> None:
    desk = Desk()
    with pytest.raises(HttpProblem) as found:
        desk.take(label(observed_at=(NOW + timedelta(hours=1, microseconds=1)).isoformat()), single=True)
    assert found.value.status == 422
    assert str(found.value) == (
        "observed_at 2026-06-01T01:00:00.000001Z lies in the future: the machine's clock says 2026-06-01T00:00:00Z, "
        "and at most 1h ahead is allowed"
    )
    assert desk.paper.labels == []
    assert desk.take(label(observed_at=(NOW + timedelta(hours=1)).isoformat()), single=True)["accepted"] == 1


def test_labels_of_the_future_in_a_list_are_refused_one_by_one_and_lie_in_quarantine() -> None:
    desk = Desk()
    found = desk.take(label(), label(event_id="t-2", observed_at="2099-01-01T00:00:00+05:00"), label(label=0))
    assert (found["accepted"], found["conflicts"]) == (2, [2])
    assert [(row["at"], row["code"]) for row in found["refused"]] == [(1, "unprocessable")]
    assert "2098-12-31T19:00:00Z" in found["refused"][0]["message"]
    assert [(r.event_id, r.y) for r in desk.paper.labels] == [("t-1", 1), ("t-1", 0)]
    (kept,) = desk.paper.refused
    assert (kept.kind, kept.reason) == ("label", "in_future")
    sent = {"event_id": "t-2", "label": 1, "observed_at": "2098-12-31T19:00:00Z", "source": "analyst"}
    assert json.loads(kept.body) == sent


def test_a_contradiction_that_was_refused_as_future_is_not_remembered() -> None:
    desk = Desk()
    desk.take(label(observed_at="2099-01-01T00:00:00Z"), label(label=0))
    assert desk.take(label(label=0), single=True) == {"accepted": 1, "conflicts": []}


def test_when_a_later_period_is_replayed_the_newest_event_says_what_day_it_is() -> None:
    desk = Desk(newest=NOW + timedelta(days=30))
    assert desk.take(label(observed_at=(NOW + timedelta(days=30, hours=2)).isoformat()))["accepted"] == 1
    with pytest.raises(HttpProblem):
        desk.take(label(observed_at=(NOW + timedelta(days=32)).isoformat()), single=True)


def test_a_contradiction_of_one_source_is_409_and_both_are_kept() -> None:
    desk = Desk()
    desk.take(label(), single=True)
    with pytest.raises(HttpProblem) as found:
        desk.take(label(label=0), single=True)
    assert found.value.status == 409
    assert [r.y for r in desk.paper.labels] == [1, 0]


def test_in_a_list_contradictions_are_named_by_position() -> None:
    desk = Desk()
    assert desk.take(label(), label(event_id="t-2"), label(label=0))["conflicts"] == [2]


def test_a_stronger_source_may_say_otherwise() -> None:
    desk = Desk()
    desk.take(label(), single=True)
    assert desk.take(label(label=0, source="chargeback"), single=True)["conflicts"] == []


def test_a_repeated_label_is_no_contradiction() -> None:
    desk = Desk()
    for _ in range(2):
        assert desk.take(label(), single=True) == {"accepted": 1, "conflicts": []}


def test_the_memory_of_statements_is_bounded() -> None:
    said = Contradictions(limit=2)
    for name in ("a", "b", "c"):
        said.add(name, "analyst", 1)
    assert not said.add("a", "analyst", 0)
    assert said.add("c", "analyst", 0)
