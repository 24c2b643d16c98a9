"""What two people may do together without evidence, and what the record says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import KeyInvalid, KeyMissing, ReleaseError, ScopeMissing
from bentos.keys import KeyRing, add_key
from bentos.keys.prompt import tokens
from bentos.registry.ports import ModelRef
from bentos.release.emergency import emergencies, two_people
from bentos.scoring.active_models import ModelHolder
from bentos.serving.overrides import StandingOrders
from monitoring.store import Store
from tests.support.builders import fraud, tiny_model
from tests.support.fakes import FakeRegistry
from tests.support.release_requests import (
    appoint,
    lift_threshold,
    order_threshold,
    promote_emergency,
    review_emergency,
    rollback,
)
from tests.support.releases import MODEL, NOW, challenged, harmless, ref

HOUR = timedelta(hours=1)


@dataclass
class Safe:
    """Version 1 active, version 2 its challenger, and a few people with keys."""

    registry: FakeRegistry
    store: Store
    ring: KeyRing
    keys: dict[str, str]

    def two(self, *people: str) -> Any:
        return two_people(self.ring, [self.keys[name] for name in people], NOW)

    def order(self, value: float = 0.7, until: datetime = NOW + HOUR, **more: Any) -> Any:
        names: dict[str, Any] = {"actor": "ann", "reason": "an attack", "now": NOW} | more
        return order_threshold(self.store, fraud(), MODEL, value, until, self.two("ann", "bob"), **names)

    def rush(self, version: str = "2", **more: Any) -> Any:
        names: dict[str, Any] = {"usecase": fraud(), "actor": "ann", "reason": "an attack", "now": NOW} | more
        return promote_emergency(
            self.registry, self.store, ref(version), self.two("ann", "bob"), check=harmless, **names
        )


@pytest.fixture
def safe(tmp_path: Path) -> Iterator[Safe]:
    registry, store = challenged(tmp_path)
    file = tmp_path / "keys.json"
    keys = {name: add_key(file, name, ["approve"], NOW)[1] for name in ("ann", "bob", "carl")}
    keys["Ann again"] = add_key(file, "Ann ", ["approve"], NOW)[1]
    keys["clerk"] = add_key(file, "clerk", ["score", "label", "admin"], NOW)[1]
    yield Safe(registry, store, KeyRing.load(file), keys)
    store.close()


def test_two_keys_of_two_people_are_needed(safe: Safe) -> None:
    assert safe.two("ann", "bob").owners == ("ann", "bob")
    with pytest.raises(ReleaseError, match="second person"):
        safe.two("ann", "ann")
    with pytest.raises(ReleaseError, match="second person"):
        safe.two("ann", "Ann again")
    with pytest.raises(ReleaseError, match="two people"):
        safe.two("ann")
    with pytest.raises(ScopeMissing):
        safe.two("ann", "clerk")
    with pytest.raises(KeyInvalid):
        two_people(safe.ring, [safe.keys["ann"], "inc_none_none"], NOW)


def test_a_threshold_order_holds_for_its_version_until_its_time_and_needs_no_command_to_end(safe: Safe) -> None:
    made = safe.order()
    assert (made.kind, made.payload["evidence_based"], made.payload["owners"]) == (
        "threshold.override", False, ["ann", "bob"]
    )  # fmt: skip
    orders = StandingOrders(MODEL, lambda: safe.store)
    one = ModelHolder(ModelRef(MODEL, "1"), tiny_model(threshold=0.2), None)
    two = ModelHolder(ModelRef(MODEL, "2"), tiny_model(threshold=0.3), None)
    at = int(NOW.timestamp() * 1e6)
    assert orders.threshold_of(one, at) == one.threshold == 0.2
    assert orders.refresh()
    assert not orders.refresh()
    assert orders.threshold_of(one, at) == 0.7
    assert orders.threshold_of(two, at) == 0.3
    assert orders.threshold_of(one, at + 3_600_000_000 - 1) == 0.7
    assert orders.threshold_of(one, at + 3_600_000_000) == 0.2
    assert orders.card(at)["threshold"]["value"] == 0.7
    assert orders.card(at + 3_600_000_000)["threshold"] is None


def test_one_person_may_lift_an_order(safe: Safe) -> None:
    key = safe.ring.check(safe.keys["carl"], "approve", NOW)
    named: dict[str, Any] = {"actor": "carl", "reason": "it is over", "now": NOW}
    with pytest.raises(ReleaseError, match="no threshold order"):
        lift_threshold(safe.store, fraud(), MODEL, key, **named)
    safe.order()
    lift_threshold(safe.store, fraud(), MODEL, key, **named)
    assert safe.store.orders.standing(MODEL).threshold is None
    safe.order(0.9)
    assert safe.store.orders.standing(MODEL).threshold.value == 0.9  # type: ignore[union-attr]  # there is one
    assert safe.store.decisions.verify() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": 1.2}, {"value": float("nan")}, {"until": NOW}, {"until": NOW + timedelta(days=8)}, {"reason": " "},
    ],
)  # fmt: skip
def test_an_order_that_cannot_be_is_refused(safe: Safe, wrong: dict[str, Any]) -> None:
    with pytest.raises(ReleaseError):
        safe.order(**wrong)
    assert safe.store.orders.standing(MODEL).threshold is None


def test_an_emergency_promotion_has_no_verdict_and_says_so(safe: Safe) -> None:
    with pytest.raises(ReleaseError, match="gates are not known"):
        safe.rush("3")
    with pytest.raises(ReleaseError, match="reason"):
        safe.rush(reason="")
    assert safe.rush(preview=True).preview
    done = safe.rush()
    assert (done.to_version, done.state) == ("2", "DONE")
    (planned,) = safe.store.decisions.list(kinds=("promotion.planned",))
    assert planned.payload["emergency"]["evidence_based"] is False
    assert planned.payload["emergency"]["owners"] == ["ann", "bob"]
    assert "verdict" not in planned.payload


def test_an_emergency_runs_into_a_review_by_a_third_person(safe: Safe) -> None:
    done = safe.rush()
    (one,) = emergencies(safe.store, "fraud", MODEL, NOW)
    assert (one.state, one.owners, one.review_by) == ("open", ("ann", "bob"), NOW + timedelta(days=3))
    late = NOW + timedelta(days=3)
    assert emergencies(safe.store, "fraud", MODEL, late)[0].state == "overdue"
    said: dict[str, Any] = {"actor": "x", "note": "it was right", "now": late}
    ann = safe.ring.check(safe.keys["ann"], "approve", NOW)
    with pytest.raises(ReleaseError, match="somebody else"):
        review_emergency(safe.store, "fraud", MODEL, done.op_id[:10], ann, **said)
    carl = safe.ring.check(safe.keys["carl"], "approve", NOW)
    made = review_emergency(safe.store, "fraud", MODEL, done.op_id[:10], carl, **said)
    assert (made.payload["owner"], made.payload["late"]) == ("carl", True)
    assert emergencies(safe.store, "fraud", MODEL, late)[0].state == "reviewed"
    with pytest.raises(ReleaseError, match="waits"):
        review_emergency(safe.store, "fraud", MODEL, done.op_id[:10], carl, **said)


def test_a_rollback_ends_an_emergency_and_bars_it(safe: Safe) -> None:
    safe.rush()
    rollback(safe.registry, safe.store, MODEL, fraud(), "bob", "it was wrong", NOW, check=harmless, patience=0.0)
    assert emergencies(safe.store, "fraud", MODEL, NOW + timedelta(days=9))[0].state == "over"
    appoint(safe.registry, safe.store, ref("2"), "challenger", usecase=fraud(), actor="a", now=NOW, reason="again",
            check=harmless)  # fmt: skip
    with pytest.raises(ReleaseError, match="barred"):
        safe.rush(now=NOW + HOUR)


def test_keys_come_from_files_or_the_environment_and_never_from_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("inc_a_1\n")
    b.write_text("inc_b_2 inc_c_3")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    monkeypatch.delenv("INCUMBENT_KEY", raising=False)
    monkeypatch.setenv("INCUMBENT_KEY_2", "inc_e_5")
    assert tokens([str(a)], 2) == ["inc_a_1", "inc_e_5"]
    assert tokens([str(a)], 1) == ["inc_a_1"]
    monkeypatch.delenv("INCUMBENT_KEY_2")
    for files in ([str(a)], [str(a), str(b)], [str(a), str(tmp_path / "none")]):
        with pytest.raises(KeyMissing):
            tokens(files, 2)
