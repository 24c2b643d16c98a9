"""Releases whose process dies after any write, and releases that meet each other and a stranger's hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import ReleaseError
from flows.drills.interleaving import ActorScheduler
from monitoring.store import Store
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.release_requests import recover, rollback
from tests.support.releases import (
    MODEL,
    NOW,
    Killed,
    Process,
    challenged,
    compared,
    dies_after,
    enter,
    harmless,
    promote,
    time_passes,
)

Act = Callable[[Any, Store], object]
NAMES: dict[str, Any] = {"usecase": fraud(), "actor": "ann", "now": NOW, "check": harmless}


def set_up(folder: Path) -> tuple[FakeRegistry, Store]:
    """Version 1 active, version 2 compared with it."""
    registry, store = challenged(folder)
    enter(store, compared("1", "2"))
    return registry, store


def do_promote(registry: Any, store: Store) -> object:
    return promote(registry, store, compared("1", "2"), **NAMES)


def do_rollback(registry: Any, store: Store) -> object:
    return rollback(registry, store, MODEL, fraud(), "bob", "it is bad", NOW, check=harmless, patience=0.0)


def do_recover(registry: Any, store: Store, now: Any = NOW) -> object:
    return recover(registry, store, MODEL, **NAMES | {"now": now})


def roles(registry: FakeRegistry) -> dict[str, str]:
    return {role: found.version for role, found in registry.roles(MODEL).items()}


def journalled(store: Store) -> dict[str, str]:
    ends = {role: store.decisions.terms(MODEL, role) for role in ("champion", "challenger", "candidate", "previous")}
    return {role: terms[-1][0] for role, terms in ends.items() if terms and terms[-1][0] is not None}


BEFORE = {"champion": "1", "challenger": "2"}
AFTER = {"champion": "2", "previous": "1"}
BACK = {"champion": "1"}


def deaths(folder: Path, prepare: Act | None, act: Act) -> Iterator[tuple[FakeRegistry, Store]]:
    """The act, killed after no write, after one, after two, and so on until it comes through."""
    for writes in range(100):
        registry, store = set_up(folder / str(writes))
        if prepare is not None:
            prepare(registry, store)
        process = Process(registry, store, dies_after(writes))
        try:
            act(process.registry, process.store)
        except Killed:
            yield registry, store
            store.close()
        else:
            store.close()
            return
    pytest.fail("it never came through")


@pytest.mark.parametrize("again", ["the same request", "a recovery"])
def test_a_promotion_that_dies_after_any_write_is_made_good(tmp_path: Path, again: str) -> None:
    seen = 0
    for registry, store in deaths(tmp_path, None, do_promote):
        assert registry.resolve(MODEL, "champion").version in ("1", "2")
        assert roles(registry).get("previous") in (None, "1")
        time_passes(store)
        if again == "a recovery":
            do_recover(registry, store)
            assert roles(registry) == journalled(store)
            assert roles(registry) in (BEFORE, AFTER)
        do_promote(registry, store)
        assert roles(registry) == journalled(store) == AFTER
        assert store.journal.unfinished(MODEL) == []
        assert store.decisions.verify() == []
        seen += 1
    assert seen > 12


def test_a_rollback_that_dies_after_any_write_is_made_good(tmp_path: Path) -> None:
    seen = 0
    for registry, store in deaths(tmp_path, do_promote, do_rollback):
        assert registry.resolve(MODEL, "champion").version in ("1", "2")
        time_passes(store)
        do_recover(registry, store)
        assert roles(registry) == journalled(store)
        if roles(registry) == AFTER:
            do_rollback(registry, store)
        assert roles(registry) == journalled(store) == BACK
        assert set(store.decisions.barred(MODEL)) == {"2"}
        assert store.decisions.verify() == []
        seen += 1
    assert seen > 8


def test_a_promotion_left_behind_long_ago_is_taken_back_unless_it_was_committed(tmp_path: Path) -> None:
    ends = []
    for registry, store in deaths(tmp_path, None, do_promote):
        committed = registry.resolve(MODEL, "champion").version == "2"
        time_passes(store)
        do_recover(registry, store, NOW + timedelta(days=2))
        assert roles(registry) == journalled(store) == (AFTER if committed else BEFORE)
        assert store.journal.unfinished(MODEL) == []
        ends.append(committed)
    assert set(ends) == {True, False}


def test_after_a_strangers_hand_recovery_touches_nothing(tmp_path: Path) -> None:
    for registry, store in deaths(tmp_path, None, do_promote):
        registry.point(MODEL, "champion", "3")
        before = roles(registry)
        time_passes(store)
        do_recover(registry, store)
        assert roles(registry) == before
        assert store.journal.unfinished(MODEL) == []
        assert store.decisions.verify() == []


@pytest.mark.parametrize("seed", range(30))
def test_releases_that_meet_leave_one_of_their_results(tmp_path: Path, seed: int) -> None:
    registry, store = set_up(tmp_path)
    chance = random.Random(seed)
    champions: set[str] = set()

    def acting(act: Act, dies: int | None) -> Callable[[Callable[[], None]], object]:
        def run(turn: Callable[[], None]) -> object:
            fate = dies_after(dies) if dies is not None else lambda: None

            def before() -> None:
                turn()
                champions.add(registry.resolve(MODEL, "champion").version)
                fate()

            process = Process(registry, store, before)
            return act(process.registry, process.store)

        return run

    def stranger(turn: Callable[[], None]) -> None:
        for _ in range(chance.randrange(12)):
            turn()
        registry.point(MODEL, "champion", "1")

    some = [acting(do_promote, chance.choice([None, chance.randrange(16)])) for _ in range(2)]
    turns = ActorScheduler(seed, (ReleaseError, Killed))
    turns.run([*some, acting(do_rollback, None), acting(do_recover, None), stranger])
    assert turns.failures == []
    time_passes(store)
    do_recover(registry, store)
    assert champions <= {"1", "2"}
    held = roles(registry)
    assert held["champion"] in ("1", "2")
    assert held.get("previous") in (None, "1")
    assert store.journal.unfinished(MODEL) == []
    assert store.decisions.verify() == []
    store.close()
