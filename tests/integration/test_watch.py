"""The watch after a promotion, on a log with a registry and a chain; time is told, not waited for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bentos.errors import NothingToRollBack
from bentos.release import install_first, promote, rollback
from bentos.watch import KIND, run_once, watched
from monitoring.store import ScoreRecord, ShadowRecord, Store, memory_store
from monitoring.store.frames import to_us
from monitoring.watch import WatchPolicy
from tests.builders import fraud
from tests.fakes import FakeRegistry
from tests.releases import MODEL, NOW, compared, harmless, passed, registry_of

POLICY = WatchPolicy()


@pytest.fixture
def store() -> Store:
    return memory_store()


@pytest.fixture
def registry(tmp_path: Path, store: Store) -> FakeRegistry:
    made = registry_of(tmp_path)
    install_first(made, store, passed("1"), usecase=fraud(), actor="me", now=NOW, check=harmless)
    made.point(MODEL, "challenger", "2")
    promote(made, store, compared("1", "2"), usecase=fraud(), actor="me", now=NOW, check=harmless)
    return made


def serve(store: Store, ours: int, theirs: int, events: int = 1000) -> None:
    """Version 2 answers, version 1 scores the same events; the first ones are flagged."""
    at = to_us(datetime.now(UTC)) + 1_000_000
    store.log.append(
        [
            ScoreRecord("fraud", f"e{n}", at, at, "live", b"{}", None, None, MODEL, "2", "champion", None, 0.5, 0.5,
                        0.5, n < ours, None)
            for n in range(events)
        ]
    )  # fmt: skip
    store.shadow.append(
        [ShadowRecord("fraud", f"e{n}", MODEL, "1", "previous", 0.5, 0.5, 0.5, n < theirs, None, at)
         for n in range(events)]
    )  # fmt: skip


def look(registry: FakeRegistry, store: Store) -> str | None:
    done = run_once(registry, store, fraud(), MODEL, POLICY, datetime.now(UTC), check=harmless)
    return None if done is None else done.to_version


def test_a_champion_that_flags_everybody_is_rolled_back_with_its_evidence(registry: FakeRegistry, store: Store) -> None:
    serve(store, 1000, 10)
    assert look(registry, store) == "1"
    assert registry.resolve(MODEL, "champion").version == "1"
    noted = store.decisions.last("fraud", (KIND,))
    assert noted is not None
    assert [one["status"] for one in noted.payload["checks"]] == ["PASS", "FAIL"]
    done = store.journal.recent(MODEL)[0]
    assert (done.kind, done.state, done.actor) == ("rollback", "DONE", "watch")
    assert noted.id in done.reason
    assert look(registry, store) is None
    assert store.decisions.verify() == []


def test_a_champion_like_the_old_one_stays(registry: FakeRegistry, store: Store) -> None:
    assert look(registry, store) is None
    serve(store, 12, 10)
    assert look(registry, store) is None
    assert registry.resolve(MODEL, "champion").version == "2"


def test_nothing_is_watched_after_the_period_or_after_a_rollback_by_hand(registry: FakeRegistry, store: Store) -> None:
    now = datetime.now(UTC)
    assert watched(store, "fraud", MODEL, POLICY, now) is not None
    assert watched(store, "fraud", MODEL, POLICY, now + POLICY.period + timedelta(minutes=1)) is None
    rollback(registry, store, MODEL, fraud(), "me", "by hand", NOW, check=harmless)
    assert watched(store, "fraud", MODEL, POLICY, now) is None


def test_a_watch_that_died_between_evidence_and_rollback_is_finished_by_the_next(
    registry: FakeRegistry, store: Store
) -> None:
    serve(store, 1000, 10)
    registry.clear(MODEL, "previous")
    with pytest.raises(NothingToRollBack):
        look(registry, store)
    registry.point(MODEL, "previous", "1")
    assert look(registry, store) == "1"
    assert len(store.decisions.list("fraud", (KIND,))) == 1
