"""A rollback whose process died before it wrote whom to call: the next look writes the list, once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.promotion.promote import ReleaseContext, ReleaseOutcome
from bentos.release.affected_events import AFFECTED_LISTED, affected_by_rollback
from bentos.release.missing_lists import ACTOR, GRACE, LOOK_BACK, unlisted_rollbacks, write_missing_lists
from bentos.settings import Settings, read_settings
from bentos.usecase.definition import UseCase
from bentos.usecase.options import ExternalIncumbent
from monitoring.store import PlanRecord, Store, memory_store
from monitoring.store.database.frames import to_us
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.log.logged import scored, shadowed
from tests.support.release_requests import appoint, rollback
from tests.support.releases import MODEL, NOW, harmless, promote, promoted_once, ref, registry_of, time_passes
from tests.support.releases import compared as verdict


class Place:
    """Version 2 was promoted over 1, answered two events, and was rolled back; nobody wrote the list."""

    def __init__(self, folder: Path, usecase: UseCase | None = None) -> None:
        self.store: Store = memory_store()
        self.store.log.declare_plan(PlanRecord("plan-1", ("amount",)))
        self.settings: Settings = read_settings(home=folder / "home")
        self.usecase = usecase or fraud()
        self.registry: FakeRegistry = promoted_once(folder, self.store) if usecase is None else self._vendor(folder)
        self._answer()
        self.done: ReleaseOutcome = rollback(
            self.registry, self.store, MODEL, self.usecase, "watch", "it harms", NOW, check=harmless
        )
        self.later = datetime.now(UTC) + GRACE + timedelta(seconds=1)

    def _vendor(self, folder: Path) -> FakeRegistry:
        made = registry_of(folder)
        named: dict[str, Any] = {"usecase": self.usecase, "actor": "ann", "now": NOW, "check": harmless}
        appoint(made, self.store, ref("2"), "challenger", reason="a", **named)
        promote(made, self.store, replace(verdict(None, "2"), champion="amount/0"), **named)
        return made

    def _answer(self) -> None:
        at = to_us(datetime.now(UTC)) + 1_000
        for number, flagged in ((1, True), (2, False)):
            self.store.log.append([scored(number, version="2", received_at=at, decision=flagged)])
            self.store.shadow.append([shadowed(number, version="1", decision=False)])

    def look(self, now: datetime | None = None) -> list[Any]:
        return write_missing_lists(self.context, self.settings, now or self.later)

    @property
    def context(self) -> ReleaseContext:
        return ReleaseContext(self.registry, self.store, self.usecase, MODEL)

    def lines(self) -> list[Any]:
        return self.store.decisions.list("fraud", (AFFECTED_LISTED,))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.store.close()


def test_the_next_look_writes_the_list_that_a_dead_process_left_and_no_look_writes_it_twice(place: Place) -> None:
    (found,) = place.look()
    assert (found.from_version, found.to_version, found.answered, found.call) == ("2", "1", 2, 1)
    assert found.file is not None
    assert Path(found.file).exists()
    (line,) = place.lines()
    assert (line.payload["op_id"], line.payload["digest"], line.actor) == (place.done.op_id, found.digest, ACTOR)
    assert place.look() == []
    assert len(place.lines()) == 1
    assert place.store.decisions.verify() == []


def test_a_rollback_that_was_just_carried_out_and_one_of_long_ago_are_left_alone(place: Place) -> None:
    assert place.look(datetime.now(UTC)) == []
    assert place.look(place.later + LOOK_BACK) == []
    assert place.lines() == []


def test_a_list_that_its_own_process_wrote_or_is_writing_is_not_missing(place: Place) -> None:
    lease = place.store.journal.acquire(f"affected:{place.done.op_id}", "the first process", 60.0)
    assert place.look() == []
    assert place.lines() == []
    place.store.journal.release(lease)
    assert affected_by_rollback(place.context, place.settings, place.done, "watch", place.later) is not None
    assert place.look() == []
    assert [line.actor for line in place.lines()] == ["watch"]


def test_a_list_that_cannot_be_written_is_tried_again_when_its_claim_has_run_out(place: Place) -> None:
    place.settings.root.mkdir(parents=True)
    (place.settings.root / "rollbacks").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="rollbacks"):
        place.look()
    (place.settings.root / "rollbacks").unlink()
    assert place.look() == [], "the claim holds for some minutes, so a full disk is not asked every few seconds"
    time_passes(place.store)
    assert len(place.look()) == 1


def test_a_pinned_rollback_and_a_return_to_an_external_score_have_their_lists_too(tmp_path: Path) -> None:
    vendor = fraud().model_copy(update={"incumbent": ExternalIncumbent(column="amount", threshold=0.4)})
    external = Place(tmp_path / "external", vendor)
    assert [(one.from_version, one.to_version) for one in external.look()] == [("2", "external")]
    assert unlisted_rollbacks(external.store, "fraud", MODEL, external.later) == []
    external.store.close()

    store = memory_store()
    registry = promoted_once(tmp_path / "pinned", store)
    registry.down = True
    rollback(registry, store, MODEL, fraud(), "watch", "it harms", NOW, check=harmless, patience=0.0)
    later = datetime.now(UTC) + 2 * GRACE
    (left,) = unlisted_rollbacks(store, "fraud", MODEL, later)
    assert (left.from_version, left.to_version) == ("2", "1")
    settings = read_settings(home=tmp_path / "home")
    assert len(write_missing_lists(ReleaseContext(registry, store, fraud(), MODEL), settings, later)) == 1
    assert unlisted_rollbacks(store, "fraud", MODEL, later) == []
    store.close()


def test_another_models_rollback_is_another_scribes(place: Place) -> None:
    assert unlisted_rollbacks(place.store, "fraud", "dev-other", place.later) == []
