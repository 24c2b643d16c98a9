"""The errands that need the database."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from bentos.api.labels import Contradictions
from bentos.registry.ports import ModelRef
from bentos.serving.background import Attendant, ReplicaName
from bentos.serving.role_watcher import View
from monitoring.errors import StoreUnavailable
from monitoring.store import LabelRecord, Store, StoredLabel, memory_store
from tests.support.builders import fraud

MAY = datetime(2026, 5, 1, tzinfo=UTC)


class Place:
    """An attendant with a slot and a keeper that only remember."""

    def __init__(self) -> None:
        self.store = memory_store()
        self.away = False
        holder = SimpleNamespace(ref=ModelRef("dev-fraud", "3"), alias="champion", digest="c" * 64)
        active_models = SimpleNamespace(holder=holder, fork=None)
        self.slot: Any = SimpleNamespace(heed=lambda: None, active_models=active_models, view=self.view("3"))
        self.labels: list[StoredLabel] = []
        self.keeper: Any = SimpleNamespace(
            state=object(), label_cursor=0, label=self.labels.extend, forget_answers=lambda before: None
        )
        self.said = Contradictions()
        self.attendant = Attendant(
            ReplicaName("fraud", "dev-fraud", "r1"), self.database, self.slot, self.keeper, self.said, _now, lambda: 0
        )

    @staticmethod
    def view(champion: str, reachable: bool = True) -> View:
        return View({"champion": ModelRef("dev-fraud", champion)}, MAY, reachable, {})

    def database(self) -> Store:
        if self.away:
            raise StoreUnavailable("down")
        return self.store

    def add(self, *labels: tuple[str, int]) -> None:
        records = [LabelRecord("fraud", name, y, 1_000, "analyst", 2_000) for name, y in labels]
        self.store.labels.add(records, fraud().label)


def _now(step: Callable[[], None]) -> None:
    step()


@pytest.fixture
def place() -> Iterator[Place]:
    found = Place()
    yield found
    found.store.close()


def test_a_heartbeat_says_what_is_served_and_what_was_seen(place: Place) -> None:
    place.slot.view = place.view("4")
    place.attendant._beat()
    replica = place.store.serving.live("fraud")[0]
    assert (replica.replica, replica.version, replica.champion) == ("r1", "3", "4")


def test_a_heartbeat_acknowledges_content_role_routing_and_the_age_of_what_was_seen(place: Place) -> None:
    place.attendant._beat()
    said = json.loads(place.store.serving.live("fraud")[0].detail)
    assert said["contract"] == "c" * 64
    assert (said["alias"], said["reachable"], said["polled_at"]) == ("champion", True, MAY.isoformat())
    assert said["routing"] == {"mode": "shadow", "digest": None, "share": 0.0, "applied": False}


def test_what_cannot_be_seen_is_not_claimed(place: Place) -> None:
    place.slot.view = place.view("3", reachable=False)
    place.slot.active_models = None
    place.attendant._beat()
    replica = place.store.serving.live("fraud")[0]
    assert (replica.version, replica.champion) == (None, None)


def test_a_change_is_told_at_once(place: Place) -> None:
    place.attendant._beat()
    place.slot.active_models.holder.ref = ModelRef("dev-fraud", "4")
    place.attendant._beat()
    assert place.store.serving.live("fraud")[0].version == "3"
    place.attendant.announce()
    place.attendant._beat()
    assert place.store.serving.live("fraud")[0].version == "4"


def test_each_stored_label_reaches_the_windows_once(place: Place) -> None:
    place.add(("t-1", 1), ("t-2", 0))
    place.attendant._follow_labels()
    place.add(("t-3", 1))
    place.attendant._follow_labels()
    place.attendant._follow_labels()
    assert [label.event_id for label in place.labels] == ["t-1", "t-2", "t-3"]
    assert place.said.add("t-1", "analyst", 0)


def test_labels_wait_until_there_are_windows(place: Place) -> None:
    place.keeper.state = None
    place.add(("t-1", 1))
    place.attendant._follow_labels()
    assert place.labels == []


def test_a_database_that_is_away_only_delays(place: Place) -> None:
    place.add(("t-1", 1))
    place.away = True
    with pytest.raises(StoreUnavailable):
        place.attendant._follow_labels()
    place.away = False
    place.attendant._follow_labels()
    assert len(place.labels) == 1


def test_the_thread_outlives_a_database_that_is_away_and_signs_off(place: Place) -> None:
    place.away = True
    place.attendant.start()
    place.away = False
    place.attendant.announce()
    for _ in range(500):
        if place.store.serving.live("fraud"):
            break
        place.attendant._stop.wait(0.01)
    assert place.store.serving.live("fraud")
    place.attendant.stop()
    assert not place.store.serving.live("fraud")


def test_an_orphan_ends_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    place.attendant._end_if_orphaned()
    assert sent == []
    monkeypatch.setattr(os, "getppid", lambda: 1)
    place.attendant._end_if_orphaned()
    place.attendant._end_if_orphaned()
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_what_was_said_before_a_restart_is_still_contradicted(place: Place) -> None:
    place.said.limit = 3
    place.add(("t-0", 1), ("t-1", 1), ("t-2", 0), ("t-3", 1))
    place.keeper.label_cursor = 4  # the windows were filled with them
    place.attendant._follow_labels()
    assert place.labels == []
    assert [place.said.add(f"t-{n}", "analyst", 0) for n in (1, 2, 3)] == [True, False, True]
    assert not place.said.add("t-0", "analyst", 0)  # older than what is remembered
