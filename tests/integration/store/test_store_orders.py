"""Standing orders on every kind of database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitoring.errors import JournalConflict
from monitoring.store import RoleChange, Store
from monitoring.store.decisions.journal import Operation

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
M = "dev-fraud"


def seat(store: Store, version: str | None, kind: str = "promotion.champion_set") -> None:
    change = RoleChange(M, "champion", version, None if version is None else f"c{version}")
    store.decisions.append("fraud", kind, {}, "ann", AT, [change])


def pin(store: Store, version: str = "1") -> Any:
    return store.orders.pin(
        "fraud",
        RoleChange(M, "champion", version, "c1"),
        "2",
        {"registry": "unavailable", "reason": "it is bad"},
        "bob",
        AT,
    )


def test_the_last_decision_and_operations_under_way_explain_a_champion(store: Store) -> None:
    assert store.orders.standing(M).explained == frozenset()
    seat(store, "1")
    seat(store, "2")
    assert store.orders.standing(M).explained == {"2"}
    assert store.orders.standing("other").explained == frozenset()
    lease = store.journal.acquire("release", "ann", 60)
    planned = Operation("op", "fraud", M, "promotion", "2", "3", None, "e", "c3", "ann", "why", AT)
    planned = store.journal.plan(planned, lease, {})
    assert store.orders.standing(M).explained == {"2"}
    verified = store.journal.move(planned, "VERIFIED", lease)
    assert store.orders.standing(M).explained == {"2", "3"}
    store.journal.move(verified, "ABORTED", lease)
    assert store.orders.standing(M).explained == {"2"}
    seat(store, None)
    assert store.orders.standing(M).explained == frozenset()


def test_a_pin_changes_the_roles_at_once_and_is_ended_once(store: Store) -> None:
    seat(store, "2")
    made = pin(store)
    standing = store.orders.standing(M)
    assert standing.pin is not None
    assert (standing.pin.version, standing.pin.from_version, standing.pin.decision) == ("1", "2", made.seq)
    assert standing.explained == {"1"}
    assert store.decisions.contract_of(M, "1") == "c1"
    assert store.decisions.barred(M) == {"2": "it is bad"}
    chain = store.decisions.list()
    with pytest.raises(JournalConflict, match="pinned already"):
        pin(store)
    assert store.decisions.list() == chain
    assert store.orders.unpin(standing.pin, "fraud", "scribe", AT, {"steps": []}) is not None
    assert store.orders.unpin(standing.pin, "fraud", "scribe", AT, {"steps": []}) is None
    assert store.orders.standing(M).pin is None
    assert store.decisions.verify() == []


def test_the_newest_threshold_order_of_a_model_stands_until_it_is_lifted(store: Store) -> None:
    def order(model: str, value: float) -> None:
        said = {"model": model, "version": "1", "value": value, "until": (AT + timedelta(hours=1)).isoformat()}
        store.decisions.append("fraud", "threshold.override", said | {"owners": ["a", "b"], "reason": "r"}, "a", AT)

    assert store.orders.standing(M).threshold is None
    order(M, 0.7)
    order(M, 0.8)
    order("other", 0.1)
    found = store.orders.standing(M).threshold
    assert found is not None
    assert (found.value, found.version, found.until, found.owners) == (0.8, "1", AT + timedelta(hours=1), ("a", "b"))
    store.decisions.append("fraud", "threshold.lifted", {"model": M}, "a", AT)
    assert store.orders.standing(M).threshold is None
    assert store.orders.standing("other").threshold is not None
