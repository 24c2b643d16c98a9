from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text

from monitoring.errors import JournalConflict, StoreError
from monitoring.store import Decision, Operation, RoleChange, Store, open_store
from tests.support.log.logged import at

MODEL = "dev-fraud"


def note(store: Store, day: float, *changes: RoleChange, kind: str = "appointment") -> Decision:
    return store.decisions.append("fraud", kind, {"model": MODEL, "why": "test"}, "ann", at(day), changes)


def seat(version: str | None, role: str = "champion") -> RoleChange:
    return RoleChange(MODEL, role, version, None if version is None else version * 64)


def test_each_decision_holds_the_hash_of_the_one_before(store: Store) -> None:
    first, second = note(store, 1), note(store, 0)
    assert (first.seq, second.seq) == (1, 2)
    assert (first.prev_hash, second.prev_hash) == ("0" * 64, first.hash)
    assert store.decisions.list() == [first, second]
    assert store.decisions.last() == second
    assert [store.decisions.numbered(seq) for seq in (first.seq, second.seq, second.seq + 1)] == [first, second, None]
    assert store.decisions.verify() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE decisions SET actor = 'bob' WHERE seq = 1",
        "DELETE FROM decisions WHERE seq = 2",
        "UPDATE roles SET version = '9'",
        "DELETE FROM roles",
    ],
)
def test_the_database_refuses_to_change_what_was_decided(store: Store, statement: str) -> None:
    note(store, 1, seat("1"))
    note(store, 2)
    with pytest.raises(StoreError, match=r"append-only|23000"), store.database.write() as connection:
        connection.execute(text(statement))
    assert store.decisions.verify() == []
    assert len(store.decisions.list()) == 2


def test_sqlite_refuses_to_replace_a_decision(store: Store) -> None:
    if not store.database.is_sqlite:
        pytest.skip("REPLACE is SQLite's")
    note(store, 1)
    copy = "INSERT OR REPLACE INTO decisions SELECT * FROM decisions WHERE seq = 1"
    with pytest.raises(StoreError), store.database.write() as connection:
        connection.execute(text(copy))


def test_postgresql_refuses_to_empty_the_table(store: Store) -> None:
    if store.database.is_sqlite:
        pytest.skip("TRUNCATE is PostgreSQL's")
    note(store, 1)
    with pytest.raises(StoreError), store.database.write() as connection:
        connection.execute(text("TRUNCATE decisions"))


@pytest.mark.parametrize(("seq", "prev"), [(3, "LAST"), (2, "f" * 64), (1, "0" * 64)])
def test_the_database_refuses_a_row_that_does_not_follow_the_last(store: Store, seq: int, prev: str) -> None:
    first = note(store, 1)
    values = f"({seq}, 'fraud', 'x', '{{}}', 'bob', 0, 0, '{first.hash if prev == 'LAST' else prev}', 'h')"
    columns = "(seq, usecase, kind, payload, actor, at, recorded_at, prev_hash, hash)"
    with pytest.raises(StoreError), store.database.write() as connection:
        connection.execute(text(f"INSERT INTO decisions {columns} VALUES {values}"))


def unguarded(store: Store, statement: str) -> None:
    """What somebody with the password could do: switch the guards off and write."""
    with store.database.write() as connection:
        if not store.database.is_sqlite:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        for name in ("no_update", "no_delete") if store.database.is_sqlite else ():
            connection.execute(text(f"DROP TRIGGER decisions_{name}"))
            connection.execute(text(f"DROP TRIGGER roles_{name}"))
        connection.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE decisions SET actor = 'bob' WHERE seq = 2", "2 was changed"),
        ("UPDATE decisions SET at = at - 1 WHERE seq = 1", "1 was changed"),
        ("DELETE FROM decisions WHERE seq = 2", "2 is missing"),
        ("UPDATE decisions SET hash = 'x' WHERE seq = 1", "2 does not follow"),
        ("UPDATE roles SET version = '9' WHERE role_id = 1", "roles differs"),
        ("UPDATE roles SET at = at - 86400000000 WHERE role_id = 1", "roles differs"),
        ("UPDATE roles SET recorded_at = recorded_at + 1 WHERE role_id = 2", "roles differs"),
        ("UPDATE roles SET usecase = 'churn' WHERE role_id = 2", "roles differs"),
    ],
)
def test_an_edit_behind_the_guards_shows(store: Store, statement: str, problem: str) -> None:
    note(store, 1, seat("1"))
    note(store, 2)
    note(store, 3, seat("2"))
    unguarded(store, statement)
    assert any(problem in found for found in store.decisions.verify())


def acted(store: Store) -> tuple[Operation, Decision]:
    """A finished promotion, an aborted one, and a pin that stands."""
    lease = store.journal.acquire("release", "ann", 60)
    seats = [RoleChange(MODEL, "champion", "2", "c" * 64)]
    asked = Operation("op-1", "fraud", MODEL, "promotion", "1", "2", None, "e" * 64, "c" * 64, "ann", "it saves", at(3))
    planned = store.journal.plan(asked, lease, {"verdict": "v"})
    done = store.journal.move(store.journal.move(planned, "CHAMPION_SET", lease, "", seats), "DONE", lease, "served")
    other = store.journal.plan(replace(asked, op_id="op-2", to_version="3", at=at(4)), lease, {})
    store.journal.move(other, "ABORTED", lease, "the champion changed")
    pinned = store.orders.pin(
        "fraud",
        RoleChange(MODEL, "champion", "1", "d" * 64),
        "2",
        {"registry": "away", "reason": "it harms"},
        "bob",
        at(5),
    )
    return done, pinned


def test_operations_and_pins_agree_with_the_chain_at_every_step(store: Store) -> None:
    _, pinned = acted(store)
    assert store.decisions.verify() == []
    standing = store.orders.standing(MODEL).pin
    assert standing is not None
    assert standing.decision == pinned.seq
    store.orders.unpin(standing, "fraud", "scribe", at(6), {"steps": []})
    assert store.decisions.verify() == []
    again = store.orders.pin(
        "fraud", RoleChange(MODEL, "champion", "4", "d" * 64), "1", {"reason": "it harms too"}, "bob", at(7)
    )
    assert store.decisions.verify() == []
    assert store.orders.standing(MODEL).pin.decision == again.seq  # type: ignore[union-attr]  # it stands


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE operations SET state = 'PLANNED' WHERE op_id = 'op-1'", "says state PLANNED, decision 3 says DONE"),
        ("UPDATE operations SET to_version = '9' WHERE op_id = 'op-1'", "to version 9, decision 3 says 2"),
        ("UPDATE operations SET from_version = NULL WHERE op_id = 'op-1'", "from version nothing, decision 3 says 1"),
        ("UPDATE operations SET previous_version = '7' WHERE op_id = 'op-1'", "previous version 7"),
        ("UPDATE operations SET evidence = 'none' WHERE op_id = 'op-1'", "evidence none, decision 3 says eeee"),
        ("UPDATE operations SET contract = 'x' WHERE op_id = 'op-2'", "contract x, decision 5 says cccc"),
        ("UPDATE operations SET actor = 'bob' WHERE op_id = 'op-1'", "actor bob, decision 3 says ann"),
        ("UPDATE operations SET reason = '' WHERE op_id = 'op-1'", "reason nothing, decision 3 says it saves"),
        ("UPDATE operations SET note = 'well' WHERE op_id = 'op-2'", "note well, decision 5 says the champion changed"),
        ("UPDATE operations SET kind = 'rollback' WHERE op_id = 'op-1'", "kind rollback, decision 3 says promotion"),
        ("UPDATE operations SET model = 'm' WHERE op_id = 'op-1'", f"model m, decision 3 says {MODEL}"),
        ("UPDATE operations SET usecase = 'churn' WHERE op_id = 'op-1'", "usecase churn, decision 3 says fraud"),
        ("UPDATE operations SET at = at + 1000000 WHERE op_id = 'op-1'", f"decision 3 says {at(3).isoformat()}"),
        ("UPDATE operations SET op_id = 'op-3' WHERE op_id = 'op-1'", "operation op-3 (promotion to version 2) stands"),
        ("DELETE FROM operations WHERE op_id = 'op-2'", "operation op-2 of decision 5 is gone"),
        ("UPDATE pins SET version = '2'", "on version 2: the table says version 2, decision 6 says 1"),
        ("UPDATE pins SET contract = 'x'", "contract x, decision 6 says dddd"),
        ("UPDATE pins SET from_version = NULL", "from version nothing, decision 6 says 2"),
        ("UPDATE pins SET actor = 'ann'", "actor ann, decision 6 says bob"),
        ("UPDATE pins SET reason = 'none'", "reason none, decision 6 says it harms"),
        ("UPDATE pins SET usecase = 'churn'", "usecase churn, decision 6 says fraud"),
        ("UPDATE pins SET model = 'other'", f"model other, decision 6 says {MODEL}"),
        ("UPDATE pins SET decision = 2", "names decision 2, which pinned nothing"),
        ("DELETE FROM pins", "decision 6 pinned version 1"),
    ],
)
def test_an_operation_or_a_pin_that_is_not_the_chains_shows(store: Store, statement: str, problem: str) -> None:
    acted(store)
    unguarded(store, statement)
    found = store.decisions.verify()
    assert any(problem in one for one in found), found


def test_a_pin_that_is_put_back_after_it_was_ended_shows(store: Store) -> None:
    _, pinned = acted(store)
    standing = store.orders.standing(MODEL).pin
    assert standing is not None
    ended = store.orders.unpin(standing, "fraud", "scribe", at(6), {"steps": []})
    assert ended is not None
    columns = "(model, usecase, version, from_version, contract, decision, actor, reason, pinned_at)"
    unguarded(
        store, f"INSERT INTO pins {columns} VALUES ('{MODEL}', 'fraud', '1', '2', 'd', {pinned.seq}, 'b', 'r', 0)"
    )  # fmt: skip
    (found,) = store.decisions.verify()
    assert found == f"the pin of {MODEL} on version 1 still stands, but decision {ended.seq} ended it"


def test_a_payload_that_is_not_json_is_refused(store: Store) -> None:
    for payload in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises(JournalConflict):
            store.decisions.append("fraud", "x", payload, "ann", at(0))
    assert store.decisions.list() == []


def test_who_held_a_role_on_a_past_day_comes_from_the_journal(store: Store) -> None:
    note(store, 1, seat("1"))
    note(store, 5, seat("2"), seat("1", "previous"))
    note(store, 5, seat("1"))
    note(store, 9, seat(None))
    held = [store.decisions.role_at(MODEL, "champion", at(day)) for day in (0.9, 1, 4.9, 5, 8.9, 9)]
    assert held == [None, "1", "1", "1", "1", None]
    assert store.decisions.role_at(MODEL, "previous", at(6)) == "1"
    assert store.decisions.role_at("dev-churn", "champion", at(6)) is None
    assert [term[0] for term in store.decisions.terms(MODEL, "champion")] == ["1", "2", "1", None]


def test_the_contracts_of_all_that_ever_held_a_role_are_known(store: Store) -> None:
    note(store, 1, seat("1"))
    note(store, 2, seat("2", "challenger"), seat(None))
    assert store.decisions.contracts(MODEL) == {"1" * 64, "2" * 64}
    assert store.decisions.contracts("dev-churn") == frozenset()


def test_decisions_can_be_filtered_and_the_newest_are_listed(store: Store) -> None:
    for day in range(5):
        note(store, day, kind="even" if day % 2 == 0 else "odd")
    assert [d.seq for d in store.decisions.list(kinds=("even",))] == [1, 3, 5]
    assert [d.seq for d in store.decisions.list(limit=2)] == [4, 5]
    assert [d.seq for d in store.decisions.list(after=3)] == [4, 5]
    assert store.decisions.list(usecase="churn") == []
    assert store.decisions.last(kinds=("odd",)).seq == 4  # type: ignore[union-attr]  # there is one


def test_many_writers_make_one_chain(store_url: str) -> None:
    stores = [open_store(store_url, busy_seconds=20) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: note(stores[n % 3], n), range(30)))
    chain = stores[0].decisions.list()
    assert [d.seq for d in chain] == list(range(1, 31))
    assert stores[1].decisions.verify() == []
    for store in stores:
        store.close()
