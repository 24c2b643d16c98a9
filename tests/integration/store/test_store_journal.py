from __future__ import annotations

import pytest

from monitoring.errors import JournalConflict, LeaseHeld
from monitoring.store import Lease, Operation, RoleChange, Store
from monitoring.store.decisions.journal import operation_id
from tests.support.log.logged import at

MODEL = "dev-fraud"


def wanted(op_id: str = "op-1", **changes: object) -> Operation:
    values: dict[str, object] = {
        "op_id": op_id,
        "usecase": "fraud",
        "model": MODEL,
        "kind": "promotion",
        "from_version": "1",
        "to_version": "2",
        "previous_version": None,
        "evidence": "e" * 64,
        "contract": "c" * 64,
        "actor": "ann",
        "reason": "it saves money",
        "at": at(3),
    }
    return Operation(**values | changes)  # type: ignore[arg-type]  # the types are those above


def lease(store: Store, seconds: float = 60.0) -> Lease:
    return store.journal.acquire("release", "ann", seconds)


def test_a_lease_has_one_holder_at_a_time(store: Store) -> None:
    held = lease(store)
    with pytest.raises(LeaseHeld, match="ann"):
        store.journal.acquire("release", "bob", 60)
    store.journal.acquire("another", "bob", 60)
    store.journal.release(held)
    assert store.journal.acquire("release", "bob", 60).epoch == held.epoch + 1


def test_a_lease_that_ran_out_can_be_taken_over_and_its_old_holder_is_fenced_off(store: Store) -> None:
    old = lease(store, seconds=0.0)
    new = store.journal.acquire("release", "bob", 60)
    for act in (lambda: store.journal.check(old), lambda: store.journal.renew(old, 60)):
        with pytest.raises(LeaseHeld):
            act()
    with pytest.raises(LeaseHeld):
        store.journal.plan(wanted(), old, {})
    assert store.journal.get("op-1") is None
    assert store.decisions.list() == []
    store.journal.release(old)
    store.journal.check(new)


def test_a_renewed_lease_lasts_longer(store: Store) -> None:
    held = lease(store, seconds=1.0)
    assert store.journal.renew(held, 60).expires_at > held.expires_at


def test_each_move_is_one_line_in_the_chain(store: Store) -> None:
    held = lease(store)
    planned = store.journal.plan(wanted(), held, {"verdict": "v"})
    change = RoleChange(MODEL, "champion", "2", "c" * 64)
    store.journal.move(planned, "CHAMPION_SET", held, "because", [change])
    first, second = store.decisions.list()
    assert (first.kind, first.payload["verdict"], first.at) == ("promotion.planned", "v", at(3))
    assert (second.kind, second.payload["note"], second.actor) == ("promotion.champion_set", "because", "ann")
    assert store.decisions.role_at(MODEL, "champion", at(3)) == "2"
    assert store.decisions.verify() == []


def test_an_operation_moves_only_from_the_state_it_is_in(store: Store) -> None:
    held = lease(store)
    planned = store.journal.plan(wanted(), held, {})
    verified = store.journal.move(planned, "VERIFIED", held)
    with pytest.raises(JournalConflict):
        store.journal.move(planned, "VERIFIED", held)
    assert store.journal.get("op-1") == verified
    assert len(store.decisions.list()) == 2


def test_the_same_operation_cannot_be_planned_twice(store: Store) -> None:
    held = lease(store)
    store.journal.plan(wanted(), held, {})
    with pytest.raises(JournalConflict):
        store.journal.plan(wanted(), held, {})


def test_unfinished_operations_are_found_until_they_end(store: Store) -> None:
    held = lease(store)
    first = store.journal.plan(wanted("op-1"), held, {})
    store.journal.plan(wanted("op-2", model="dev-churn"), held, {})
    assert [o.op_id for o in store.journal.unfinished(MODEL)] == ["op-1"]
    assert store.decisions.contracts(MODEL) == {"c" * 64}
    store.journal.move(first, "ABORTED", held, "changed our mind")
    assert store.journal.unfinished(MODEL) == []
    assert store.decisions.contracts(MODEL) == frozenset()
    assert [o.state for o in store.journal.recent(MODEL)] == ["ABORTED"]


def test_an_operation_is_named_by_what_it_is_about() -> None:
    same = operation_id(MODEL, "promotion", "1", "2", "e")
    assert same == operation_id(MODEL, "promotion", "1", "2", "e")
    others = {
        operation_id("dev-churn", "promotion", "1", "2", "e"),
        operation_id(MODEL, "rollback", "1", "2", "e"),
        operation_id(MODEL, "promotion", None, "2", "e"),
        operation_id(MODEL, "promotion", "1", "3", "e"),
        operation_id(MODEL, "promotion", "1", "2", "f"),
        operation_id(MODEL, "promotion", "1", "2", "e", 1),
    }
    assert len(others | {same}) == 7
