from __future__ import annotations

import pytest

from monitoring.errors import RowRefused
from monitoring.store import RoleChange, Store
from monitoring.store.database.frames import to_us
from tests.support.log.logged import CHALLENGER, CHAMPION, START, at, numbers, scored, shadowed, unscored


def due(store: Store, model: str = CHALLENGER, limit: int = 100) -> list[int]:
    return numbers([row.event_id for row in store.shadow.pending("fraud", model, limit)])


def appointed(store: Store, version: str, role: str = "challenger") -> int:
    """Journal that the version took its role now; returns that machine time."""
    change = RoleChange("dev-fraud", role, version, "c" * 64)
    made = store.decisions.append("fraud", "appointment", {}, "test", START, [change])
    return to_us(made.recorded_at)


def test_a_model_is_due_to_score_what_others_answered_since_it_took_its_role(store: Store) -> None:
    since = appointed(store, "2")
    early = scored(1, received_at=since - 1)
    own = scored(3, version="2", received_at=since)
    store.log.append([early, scored(2, received_at=since), own, scored(4, received_at=since + 5)])
    store.log.append([unscored(5), scored(6, features=None, plan_id=None, received_at=since)])
    assert store.shadow.watch("fraud", CHALLENGER) == since
    assert due(store) == [2, 4]


def test_a_watch_stays_as_it_began(store: Store) -> None:
    first = store.shadow.watch("fraud", CHALLENGER)
    appointed(store, "2")
    assert store.shadow.watch("fraud", CHALLENGER) == first


def test_waiting_as_candidate_is_not_a_role_in_shadow(store: Store) -> None:
    waiting = appointed(store, "2", role="candidate")
    assert store.shadow.watch("fraud", CHALLENGER) > waiting


def test_what_was_scored_is_no_longer_due_and_cannot_be_scored_twice(store: Store) -> None:
    store.shadow.watch("fraud", CHALLENGER)
    later = to_us(at(3650))
    store.log.append([scored(n, received_at=later) for n in range(4)])
    assert store.shadow.append([shadowed(0), shadowed(2)]) == 2
    assert store.shadow.append([shadowed(2, score=0.1), shadowed(3)]) == 1
    assert due(store) == [1]
    assert due(store, limit=1) == [1]


def test_advancing_never_skips_what_is_due(store: Store) -> None:
    store.shadow.watch("fraud", CHALLENGER)
    later = to_us(at(3650))
    store.log.append([scored(n, received_at=later) for n in range(3)])
    store.shadow.append([shadowed(0)])
    store.shadow.advance("fraud", CHALLENGER)
    assert due(store) == [1, 2]


def test_failures_are_kept_and_counted_apart(store: Store) -> None:
    store.shadow.watch("fraud", CHALLENGER)
    store.log.append([scored(n, received_at=to_us(at(3650))) for n in range(3)])
    failed = shadowed(1, raw_score=None, score=None, threshold=None, decision=None, error="timeout")
    store.shadow.append([shadowed(0), failed])
    progress = store.shadow.progress("fraud", CHALLENGER)
    assert (progress.scored, progress.errors, progress.pending) == (1, 1, 1)


def test_progress_counts_what_is_due_before_anybody_has_looked(store: Store) -> None:
    since = appointed(store, "2")
    store.log.append([scored(1, received_at=since)])
    assert store.shadow.progress("fraud", CHALLENGER).pending == 1
    assert store.shadow.progress("fraud", "dev-fraud/9").pending == 0


@pytest.mark.parametrize("wrong", [{"score": float("nan")}, {"score": 2.0}, {"score": None, "decision": None}])
def test_a_shadow_row_holds_a_probability_or_an_error(store: Store, wrong: dict[str, object]) -> None:
    with pytest.raises(RowRefused):
        store.shadow.append([shadowed(1, **wrong)])


def test_the_champion_scores_what_its_challenger_answered(store: Store) -> None:
    since = appointed(store, "1", role="champion")
    store.shadow.watch("fraud", CHAMPION)
    store.log.append([scored(1, received_at=since), scored(2, version="2", received_at=since)])
    assert due(store, CHAMPION) == [2]
