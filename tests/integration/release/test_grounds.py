"""A promotion rests on a line of the chain, whatever its caller brings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from bentos.errors import PromotionUnproven, ReleaseError
from bentos.keys import Key
from bentos.promotion.carry_out import carry_out
from bentos.promotion.comparison_plans import freeze_plan
from bentos.promotion.context import ReleaseContext
from bentos.promotion.evidence import write_verdict
from bentos.promotion.request import PlannedChange, Request
from bentos.release.emergency import TwoKeys
from bentos.usecase.definition import UseCase
from monitoring.core.verdict import Verdict
from monitoring.store import Store
from monitoring.store.database.tables import operations
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.release_requests import appoint, promote, promote_emergency, rollback
from tests.support.releases import MODEL, NOW, challenged, compared, enter, harmless, passed, ref

VERDICT = compared("1", "2")
DAY = timedelta(days=1)


@dataclass
class Room:
    """Version 1 active, version 2 under comparison; nobody has judged yet."""

    registry: FakeRegistry
    store: Store
    usecase: UseCase = field(default_factory=fraud)

    def promote(self, verdict: Verdict = VERDICT, **more: Any) -> Any:
        named: dict[str, Any] = {"usecase": self.usecase, "actor": "eve", "now": NOW, "check": harmless} | more
        return promote(self.registry, self.store, verdict, **named)

    def refused(self, match: str, verdict: Verdict = VERDICT) -> None:
        """Refused in a preview and for real, with that reason, and nothing begun."""
        for preview in (True, False):
            with pytest.raises(PromotionUnproven, match=match):
                self.promote(verdict, preview=preview)
        assert self.store.journal.recent(MODEL)[0].kind == "installation"
        assert {role: held.version for role, held in self.registry.roles(MODEL).items()} == {
            "champion": "1", "challenger": "2"
        }  # fmt: skip

    def policy(self, **changes: Any) -> None:
        rules = self.usecase.promotion.model_copy(update=changes)
        self.usecase = self.usecase.model_copy(update={"promotion": rules})


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    registry, store = challenged(tmp_path)
    yield Room(registry, store)
    store.close()


def test_a_verdict_that_nobody_recorded_promotes_nobody(room: Room) -> None:
    room.refused("made up, changed, or belongs to another use case")


def test_a_recorded_verdict_promotes_and_the_operation_names_its_line(room: Room) -> None:
    line = write_verdict(room.store, "fraud", VERDICT, "comparer", NOW)
    assert room.promote().to_version == "2"
    (planned,) = room.store.decisions.list("fraud", ("promotion.planned",))
    assert planned.payload["rests_on"] == {"decision": line.seq, "id": line.id, "kind": "comparison.verdict"}
    assert room.store.decisions.verify() == []


def test_one_changed_word_makes_another_verdict(room: Room) -> None:
    enter(room.store, VERDICT)
    room.refused("made up, changed", replace(VERDICT, reasons=("somebody would like it",)))


def test_a_verdict_of_another_use_case_or_environment_does_not_count(room: Room) -> None:
    enter(room.store, VERDICT, "churn")
    room.refused("another use case or environment")
    staging = replace(VERDICT, challenger="staging-fraud/2", champion="staging-fraud/1")
    enter(room.store, staging)
    room.refused("another use case or environment")


def test_a_line_that_does_not_say_what_its_digest_names_is_refused(room: Room) -> None:
    kept = replace(VERDICT, outcome="keep")
    said = {"model": MODEL, "verdict": kept.to_json(), "digest": VERDICT.digest}
    room.store.decisions.append("fraud", "comparison.verdict", said, "eve", NOW)
    room.refused("not the one that its digest names")


@pytest.mark.parametrize("outcome", ["keep", "keep_watching"])
def test_a_later_word_takes_the_verdict_away(room: Room, outcome: str) -> None:
    enter(room.store, VERDICT)
    enter(room.store, compared("1", "2", outcome, as_of=NOW + DAY))
    room.refused(f"came later and says '{outcome}'")


def test_the_same_answer_given_again_later_leaves_the_first_one_good(room: Room) -> None:
    enter(room.store, VERDICT)
    enter(room.store, compared("1", "2", as_of=NOW + DAY))
    assert room.promote().state == "DONE"


def test_a_look_at_an_earlier_day_is_no_later_word(room: Room) -> None:
    enter(room.store, VERDICT)
    enter(room.store, compared("1", "2", "keep_watching", as_of=NOW - DAY))
    assert room.promote().state == "DONE"


def test_a_new_plan_ends_what_the_old_one_found(room: Room) -> None:
    (stored,) = room.store.comparisons.list("fraud")
    write_verdict(room.store, "fraud", VERDICT, "comparer", NOW, comparison=stored.id)
    freeze_plan(room.store, room.usecase, f"{MODEL}/1", f"{MODEL}/2", Request("ann", "new rules", NOW + DAY))
    room.refused("its comparison ended as 'replaced'")


def test_an_old_verdict_must_be_found_again(room: Room) -> None:
    enter(room.store, VERDICT)
    room.policy(verdict_valid_for=timedelta(0))
    room.refused("good for 0 days; compare again")
    room.policy(verdict_valid_for=DAY)
    assert room.promote().state == "DONE"


def test_a_verdict_is_used_once(room: Room) -> None:
    enter(room.store, VERDICT)
    room.promote()
    assert room.promote().repeated
    rollback(room.registry, room.store, MODEL, room.usecase, "ann", "it is bad", NOW, check=harmless)
    appoint(room.registry, room.store, ref("2"), "challenger", usecase=room.usecase, actor="ann", now=NOW + DAY,
            reason="again", check=harmless)  # fmt: skip
    with pytest.raises(ReleaseError, match="undone since"):
        room.promote()
    desk = ReleaseContext(room.registry, room.store, room.usecase, MODEL, harmless)
    wanted = PlannedChange("promotion", "1", "2", VERDICT.digest)
    with pytest.raises(ReleaseError):
        carry_out(desk, Request("eve", "around the front door", NOW), wanted, (), {})
    assert room.registry.resolve(MODEL, "champion").version == "1"


def test_a_line_of_the_chain_carries_one_promotion_even_where_the_journal_forgot_it(room: Room) -> None:
    room.policy(takes_office="after_gates")
    gates = replace(passed("2"), champion=ref("1").label)
    enter(room.store, gates)
    room.promote(gates)
    rollback(room.registry, room.store, MODEL, room.usecase, "ann", "it is bad", NOW, check=harmless)
    appoint(room.registry, room.store, ref("2"), "challenger", usecase=room.usecase, actor="ann", now=NOW + DAY,
            reason="again", check=harmless)  # fmt: skip
    with room.store.database.write() as connection:  # the chain is what lasts; the journal may be a restored one
        connection.execute(delete(operations).where(operations.c.evidence == gates.digest))
    for preview in (True, False):
        with pytest.raises(PromotionUnproven, match="it was used already, by decision"):
            room.promote(gates, preview=preview)
    assert room.registry.resolve(MODEL, "champion").version == "1"


def test_gates_carry_a_promotion_only_where_the_use_case_says_so(room: Room) -> None:
    gates = replace(passed("2"), champion=ref("1").label)
    enter(room.store, gates)
    desk = ReleaseContext(room.registry, room.store, room.usecase, MODEL, harmless)
    wanted = PlannedChange("promotion", "1", "2", gates.digest)
    with pytest.raises(PromotionUnproven, match="gates alone promote nobody here"):
        carry_out(desk, Request("eve", "gates are enough for me", NOW), wanted, (), {})
    room.policy(takes_office="after_gates")
    with pytest.raises(PromotionUnproven, match="made up, changed"):
        room.promote(replace(gates, reasons=("changed",)))
    assert room.promote(gates).state == "DONE"


def _keys(*owners: str) -> Any:
    return TwoKeys(*(Key(f"{place}", name, ("approve",), "", NOW) for place, name in enumerate(owners)))


def test_an_emergency_rests_on_the_order_of_two_people_in_the_chain(room: Room) -> None:
    named: dict[str, Any] = {"usecase": room.usecase, "actor": "ann", "reason": "an attack", "now": NOW}
    named["check"] = harmless
    with pytest.raises(ReleaseError, match="second person"):
        promote_emergency(room.registry, room.store, ref("2"), _keys("ann", "Ann "), **named)
    for until in (NOW, NOW + timedelta(days=4)):
        with pytest.raises(ReleaseError, match="must end after now"):
            promote_emergency(room.registry, room.store, ref("2"), _keys("ann", "bob"), until=until, **named)
    desk = ReleaseContext(room.registry, room.store, room.usecase, MODEL, harmless)
    eve = Request("eve", "alone", NOW)
    alone = {"model": MODEL, "version": "2", "from_version": "1", "digest": "e" * 64, "evidence_based": False}
    alone |= {"owners": ["ann", " ANN"], "keys": ["k1", "k2"], "review_by": (NOW + DAY).isoformat()}
    for changes, why in (
        ({}, "keys of two people"),
        ({"owners": ["ann", "bob"], "keys": ["k1", "k1"]}, "keys of two people"),
        ({"owners": ["ann", "bob"], "version": "3"}, "it is about version 3"),
        ({"owners": ["ann", "bob"], "review_by": NOW.isoformat()}, "it ran out"),
    ):
        room.store.decisions.append("fraud", "emergency.ordered", {**alone, **changes}, "eve", NOW)
        with pytest.raises(PromotionUnproven, match=why):
            carry_out(desk, eve, PlannedChange("promotion", "1", "2", "e" * 64), (), {})
    facts = {"emergency": {"owners": ["ann", "bob"], "evidence_based": False}}
    with pytest.raises(PromotionUnproven, match="made up"):
        carry_out(desk, eve, PlannedChange("promotion", "1", "2", "f" * 64), (), facts)
    assert promote_emergency(room.registry, room.store, ref("2"), _keys("ann", "bob"), **named).state == "DONE"
    ordered = room.store.decisions.list("fraud", ("emergency.ordered",))[-1]
    (planned,) = room.store.decisions.list("fraud", ("promotion.planned",))
    assert planned.payload["rests_on"]["decision"] == ordered.seq
    assert (ordered.payload["owners"], ordered.payload["evidence_based"]) == (["ann", "bob"], False)
