"""Labels over HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bentos.errors import EventError
from bentos.http import HttpProblem
from bentos.labels import Contradictions, LabelDesk
from monitoring.store.records import LabelRecord, PlanRecord, ScoreRecord
from tests.builders import fraud

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class Paper:
    def __init__(self) -> None:
        self.labels: list[LabelRecord] = []

    def declare(self, plan: PlanRecord) -> None:
        raise AssertionError

    def require_room(self, events: int) -> None:
        raise AssertionError

    def append(self, records: Sequence[ScoreRecord | LabelRecord]) -> None:
        self.labels += [r for r in records if isinstance(r, LabelRecord)]


class Desk:
    def __init__(self, newest: datetime = datetime(2026, 5, 1, tzinfo=UTC)) -> None:
        self.paper = Paper()
        newest_us, now_us = (int(t.timestamp()) * 1_000_000 for t in (newest, NOW))
        self.desk = LabelDesk(fraud(), self.paper, 3, lambda: newest_us, Contradictions(), lambda: now_us)

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
        desk.take(label(observed_at=(NOW + timedelta(hours=1)).isoformat()))
    assert found.value.status == 422
    assert desk.paper.labels == []


def test_when_a_later_period_is_replayed_the_newest_event_says_what_day_it_is() -> None:
    desk = Desk(newest=NOW + timedelta(days=30))
    assert desk.take(label(observed_at=(NOW + timedelta(days=30, hours=2)).isoformat()))["accepted"] == 1
    with pytest.raises(HttpProblem):
        desk.take(label(observed_at=(NOW + timedelta(days=32)).isoformat()))


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
