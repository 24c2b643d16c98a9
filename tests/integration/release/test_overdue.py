"""What ends by itself: an emergency that nobody reviewed, and a threshold order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import ReleaseError
from bentos.keys import Key
from bentos.release.emergency import TwoKeys, emergencies
from bentos.release.expiry import ACTOR
from bentos.serving.overrides import StandingOrders
from bentos.usecase.definition import ExternalIncumbent, UseCase
from flows.drills.interleaving import ActorScheduler, ObservedPart
from monitoring.store import Store, memory_store
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.release_requests import (
    appoint,
    end_overdue,
    install_first,
    order_threshold,
    promote_emergency,
    reconcile,
    reconcile_quietly,
    review_emergency,
    rollback,
)
from tests.support.releases import (
    MODEL,
    NOW,
    Killed,
    Process,
    challenged,
    compared,
    dies_after,
    harmless,
    passed,
    promote,
    ref,
    registry_of,
    time_passes,
)

HOUR = timedelta(hours=1)
END = NOW + HOUR


def key(name: str) -> Key:
    return Key(name, name, ("approve",), "", NOW)


@dataclass
class Night:
    """Version 1 active, version 2 its challenger, and two people who are in a hurry."""

    registry: FakeRegistry
    store: Store
    usecase: UseCase = field(default_factory=fraud)

    def rush(self) -> Any:
        return promote_emergency(
            self.registry, self.store, ref("2"), TwoKeys(key("ann"), key("bob")), usecase=self.usecase, actor="ann",
            reason="an attack", now=NOW, until=END, check=harmless,
        )  # fmt: skip

    def look(self, now: datetime = END, registry: Any = None, store: Any = None) -> Any:
        return end_overdue(
            registry or self.registry, store or self.store, MODEL, usecase=self.usecase, now=now, patience=0.0,
            check=harmless,
        )  # fmt: skip

    def roles(self) -> dict[str, str]:
        return {role: found.version for role, found in self.registry.roles(MODEL).items()}

    def endings(self) -> list[str]:
        lines = self.store.decisions.list("fraud", ("rollback.champion_set", "rollback.pinned", "rollback.external"))
        return [line.actor for line in lines]


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    registry, store = challenged(tmp_path)
    yield Night(registry, store)
    store.close()


def test_an_emergency_that_nobody_reviewed_is_rolled_back_at_its_time_and_not_before(night: Night) -> None:
    done = night.rush()
    assert night.look(END - timedelta(microseconds=1)) is None
    back = night.look()
    assert (back.from_version, back.to_version, back.state) == ("2", "1", "DONE")
    assert night.roles() == {"champion": "1"}
    assert night.look(END + HOUR) is None
    assert night.endings() == [ACTOR]
    assert emergencies(night.store, "fraud", MODEL, END)[0].state == "over"
    assert "no third person had reviewed it" in night.store.decisions.barred(MODEL)["2"]
    assert done.op_id == emergencies(night.store, "fraud", MODEL, END)[0].op_id
    assert night.store.decisions.verify() == []


def test_a_review_in_time_keeps_it_in_office(night: Night) -> None:
    done = night.rush()
    review_emergency(night.store, "fraud", MODEL, done.op_id, key("carl"), actor="carl", note="it was right", now=NOW)
    assert night.look(END + HOUR) is None
    assert night.roles() == {"champion": "2", "previous": "1"}


def test_without_a_registry_the_way_back_is_pinned_and_the_aliases_follow(night: Night) -> None:
    night.rush()
    night.registry.down = True
    assert night.look().state == "PINNED"
    assert night.look() is None
    pin = night.store.orders.standing(MODEL).pin
    assert pin is not None
    assert (pin.version, pin.actor) == ("1", ACTOR)
    night.registry.down = False
    reconcile(night.registry, night.store, MODEL, usecase=night.usecase, actor="ann", now=END)
    assert night.look() is None
    assert (night.roles(), night.endings()) == ({"champion": "1"}, [ACTOR])


def test_an_external_score_comes_back_the_same_way(tmp_path: Path) -> None:
    store, registry = memory_store(), registry_of(tmp_path)
    vendor = fraud().model_copy(update={"incumbent": ExternalIncumbent(column="amount", threshold=0.4)})
    appoint(registry, store, ref("2"), "challenger", usecase=vendor, actor="ann", now=NOW, reason="a", check=harmless)
    night = Night(registry, store, vendor)
    night.rush()
    assert night.look().to_version == "external"
    assert night.look() is None
    assert (night.roles(), night.endings()) == ({}, [ACTOR])
    store.close()


def test_a_look_that_dies_after_any_write_is_finished_by_the_next_one(tmp_path: Path) -> None:
    for writes in range(40):
        store, registry = memory_store(), registry_of(tmp_path / str(writes))
        names: dict[str, Any] = {"usecase": fraud(), "actor": "ann", "now": NOW, "check": harmless}
        install_first(registry, store, passed("1"), **names)
        appoint(registry, store, ref("2"), "challenger", reason="it passed", **names)
        night = Night(registry, store)
        night.rush()
        process = Process(registry, store, dies_after(writes))
        try:
            night.look(registry=process.registry, store=process.store)
        except Killed:
            time_passes(store)
            night.look()
            night.look()
        else:
            assert writes > 5
            store.close()
            return
        assert (night.roles(), night.endings()) == ({"champion": "1"}, [ACTOR]), writes
        assert store.journal.unfinished(MODEL) == []
        assert store.decisions.verify() == []
        store.close()
    pytest.fail("the look never came through")


def test_an_emergency_that_died_on_its_way_does_not_take_office_after_its_time(night: Night) -> None:
    process = Process(night.registry, night.store, dies_after(8))
    rushing = Night(process.registry, process.store)
    with pytest.raises(Killed):
        rushing.rush()
    time_passes(night.store)
    assert len(night.store.journal.unfinished(MODEL)) == 1
    with pytest.raises(ReleaseError):
        night.look()
    night.look()
    assert night.roles()["champion"] == "1"
    assert night.store.journal.unfinished(MODEL) == []


@pytest.mark.parametrize("seed", range(12))
def test_several_processes_that_look_at_once_end_it_once(night: Night, seed: int) -> None:
    night.rush()

    def looking(turn: Any) -> object:
        process = Process(night.registry, night.store, turn)
        return night.look(registry=process.registry, store=process.store)

    turns = ActorScheduler(seed, (ReleaseError,))
    turns.run([looking] * 3)
    assert turns.failures == []
    assert (night.roles(), night.endings()) == ({"champion": "1"}, [ACTOR])


def test_a_look_that_another_process_forestalled_reports_no_second_rollback(night: Night) -> None:
    night.rush()
    first: list[Any] = []

    def quicker() -> None:
        if not first:
            first.append(None)
            first[0] = night.look()

    process = Process(night.registry, night.store, quicker)
    assert night.look(registry=process.registry, store=process.store) is None
    assert (first[0].to_version, night.endings()) == ("1", [ACTOR])


def test_whoever_waited_while_others_acted_rolls_nobody_back(night: Night) -> None:
    night.rush()

    def others_act(_: str) -> None:
        """Between the look and the lease somebody rolled back, and version 3 became champion on evidence."""
        if acted:
            return
        acted.append(1)
        names: dict[str, Any] = {"usecase": night.usecase, "actor": "bob", "now": END, "check": harmless}
        rollback(night.registry, night.store, MODEL, night.usecase, "bob", "enough", END, check=harmless)
        appoint(night.registry, night.store, ref("3"), "challenger", reason="it passed", **names)
        promote(night.registry, night.store, compared("1", "3"), **names)

    acted: list[int] = []
    with pytest.raises(ReleaseError, match="over already"):
        night.look(registry=ObservedPart(night.registry, others_act))
    assert night.roles() == {"champion": "3", "previous": "1"}


def test_a_threshold_order_is_said_to_have_ended_once(night: Night) -> None:
    order = order_threshold(
        night.store, night.usecase, MODEL, 0.7, END, TwoKeys(key("ann"), key("bob")), actor="ann", reason="an attack",
        now=NOW,
    )  # fmt: skip
    night.look(END - timedelta(microseconds=1))
    night.look()
    night.look(END + HOUR)
    (line,) = night.store.decisions.list("fraud", ("threshold.expired",))
    assert (line.payload["order"], line.payload["version"], line.actor, line.at) == (order.seq, "1", ACTOR, END)
    later = order_threshold(
        night.store, night.usecase, MODEL, 0.9, END + HOUR, TwoKeys(key("ann"), key("bob")), actor="ann",
        reason="again", now=END,
    )  # fmt: skip
    standing = night.store.orders.standing(MODEL).threshold
    assert standing is not None
    assert standing.decision == later.seq
    assert night.store.decisions.verify() == []


def test_an_external_score_comes_back_without_a_registry_and_the_alias_follows(tmp_path: Path) -> None:
    store, registry = memory_store(), registry_of(tmp_path)
    vendor = fraud().model_copy(update={"incumbent": ExternalIncumbent(column="amount", threshold=0.4)})
    appoint(registry, store, ref("2"), "challenger", usecase=vendor, actor="ann", now=NOW, reason="a", check=harmless)
    promote(registry, store, replace(compared(None, "2"), champion="amount/0"), usecase=vendor, actor="ann", now=NOW,
            check=harmless)  # fmt: skip
    registry.down = True
    named: dict[str, Any] = {"check": harmless, "patience": 0.0}
    asked = (registry, store, MODEL, vendor, "bob", "it flags everybody", NOW)
    shown = rollback(*asked, preview=True, **named)
    assert (shown.to_version, shown.preview) == ("external", True)
    done = rollback(*asked, **named)
    assert (done.from_version, done.to_version, done.state) == ("2", "external", "PINNED")
    assert store.decisions.barred(MODEL) == {"2": "it flags everybody"}
    assert store.decisions.role_at(MODEL, "champion", END) is None
    orders = StandingOrders(MODEL, lambda: store)
    orders.refresh()
    assert orders.external
    assert orders.overrule({"champion": ref("2"), "candidate": ref("3")}) == {"candidate": ref("3")}
    with pytest.raises(ReleaseError, match="external score of dev-fraud is pinned already"):
        rollback(*asked, **named)
    assert not reconcile_quietly(registry, store, MODEL, vendor, NOW)
    registry.down = False
    assert reconcile_quietly(registry, store, MODEL, vendor, NOW)
    assert registry.roles(MODEL) == {}
    assert store.orders.standing(MODEL).pin is None
    assert store.decisions.verify() == []
    store.close()


def test_a_return_to_the_external_score_that_died_is_ended_by_the_process_that_looks(tmp_path: Path) -> None:
    for writes in range(20):
        store, registry = memory_store(), registry_of(tmp_path / str(writes))
        vendor = fraud().model_copy(update={"incumbent": ExternalIncumbent(column="amount", threshold=0.4)})
        named: dict[str, Any] = {"usecase": vendor, "actor": "ann", "now": NOW, "check": harmless}
        appoint(registry, store, ref("2"), "challenger", reason="a", **named)
        night = Night(registry, store, vendor)
        night.rush()
        process = Process(registry, store, dies_after(writes))
        died = False
        try:
            night.look(registry=process.registry, store=process.store)
        except Killed:
            died = True
            time_passes(store)
            reconcile_quietly(registry, store, MODEL, vendor, END)
            night.look()
        assert (night.roles(), night.endings()) == ({}, [ACTOR]), writes
        store.close()
        if not died:
            assert writes > 2
            return
    pytest.fail("the look never came through")
