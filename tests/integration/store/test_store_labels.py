from __future__ import annotations

import pandas as pd
import pytest

from monitoring.errors import RowRefused
from monitoring.store import LabelResult, Store
from tests.support.log.logged import at, label, labels_policy, numbers, scored

POLICY = labels_policy()


def known(store: Store, day: float) -> dict[int, tuple[int, str]]:
    frame = store.labels.known("fraud", at(day), POLICY)
    return {int(r.event_id[1:]): (int(r.y), str(r.source)) for r in frame.itertuples()}


def test_a_label_is_known_from_the_time_it_was_observed(store: Store) -> None:
    store.labels.add([label(1, 1, day=3)], POLICY)
    assert known(store, 2.9) == {}
    assert known(store, 3) == {1: (1, "chargeback")}


def test_a_stronger_source_revises_a_weaker_one_whenever_it_speaks(store: Store) -> None:
    store.labels.add([label(1, 0, 2, "analyst"), label(1, 1, 5, "chargeback")], POLICY)
    store.labels.add([label(2, 1, 2, "chargeback"), label(2, 0, 5, "analyst")], POLICY)
    assert known(store, 3) == {1: (0, "analyst"), 2: (1, "chargeback")}
    assert known(store, 6) == {1: (1, "chargeback"), 2: (1, "chargeback")}


def test_a_source_that_says_both_is_in_conflict_from_its_second_word_on(store: Store) -> None:
    result = store.labels.add([label(1, 1, 2), label(1, 0, 4), label(2, 1, 2)], POLICY)
    assert result.conflicts == 1
    assert known(store, 3) == {1: (1, "chargeback"), 2: (1, "chargeback")}
    assert known(store, 5) == {2: (1, "chargeback")}
    torn = store.labels.conflicts("fraud", at(5), POLICY)
    assert numbers(torn["event_id"]) == [1]
    assert torn["observed_at"].tolist() == [pd.Timestamp(at(2))]


def test_a_contradiction_of_a_weak_source_is_settled_by_a_stronger_one(store: Store) -> None:
    store.labels.add([label(1, 1, 1, "analyst"), label(1, 0, 2, "analyst"), label(1, 0, 3, "chargeback")], POLICY)
    assert known(store, 2.5) == {}
    assert known(store, 3) == {1: (0, "chargeback")}


def test_a_repeated_label_changes_nothing(store: Store) -> None:
    store.log.append([scored(1)])
    assert store.labels.add([label(1, 1, 2)], POLICY) == LabelResult(1, 0, 0, 0)
    assert store.labels.add([label(1, 1, 2)], POLICY) == LabelResult(0, 1, 0, 0)


def test_a_label_of_an_unknown_event_is_parked_until_the_event_arrives(store: Store) -> None:
    assert store.labels.add([label(1, 1, 2), label(2, 1, 2)], POLICY).parked == 2
    store.log.append([scored(1)])
    assert store.labels.parked("fraud") == 1
    assert set(known(store, 3)) == {1, 2}


@pytest.mark.parametrize("wrong", [label(2, 1, 2, "rumour"), label(2, 2, 2)])
def test_a_label_that_means_nothing_is_refused_with_its_batch(store: Store, wrong: object) -> None:
    with pytest.raises(RowRefused):
        store.labels.add([label(1, 1, 2), wrong], POLICY)
    assert store.labels.history("fraud").empty


def test_a_source_that_is_no_longer_ranked_is_ignored(store: Store) -> None:
    store.labels.add([label(1, 1, 2, "analyst"), label(2, 1, 2)], POLICY)
    found = store.labels.known("fraud", at(3), labels_policy(sources=("chargeback",)))
    assert numbers(found["event_id"]) == [2]


def test_the_history_keeps_every_statement_in_the_order_of_observation(store: Store) -> None:
    store.labels.add([label(1, 1, 5), label(1, 0, 2, "analyst"), label(2, 0, 3)], POLICY)
    frame = store.labels.history("fraud")
    assert list(frame.columns) == ["event_id", "y", "observed_at", "source"]
    assert numbers(frame["event_id"]) == [1, 2, 1]
    assert str(frame["y"].dtype) == "int8"
    assert len(store.labels.history("fraud", as_of=at(3))) == 2


def test_the_tail_gives_each_label_once_in_the_order_of_storage(store: Store) -> None:
    store.labels.add([label(3, 1, 9), label(1, 1, 1)], POLICY)
    rows, cursor = store.labels.tail("fraud", 0)
    assert numbers([row.event_id for row in rows]) == [3, 1]
    assert store.labels.tail("fraud", cursor) == ([], cursor)
    store.labels.add([label(2, 0, 4), label(3, 1, 9)], POLICY)
    rows, cursor = store.labels.tail("fraud", cursor, limit=1)
    assert [(row.event_id, row.y, row.source) for row in rows] == [("e00002", 0, "chargeback")]
    assert store.labels.tail("fraud", cursor)[0] == []


def test_statements_about_chosen_events_can_be_looked_up(store: Store) -> None:
    store.labels.add([label(n, 1, 1) for n in range(5)], POLICY)
    found = store.labels.of_events("fraud", ["e00003", "e00001", "e99999"])
    assert numbers([row.event_id for row in found]) == [1, 3]


def test_no_label_at_all_gives_an_empty_frame_of_the_usual_types(store: Store) -> None:
    frame = store.labels.known("fraud", at(3), POLICY)
    assert frame.empty
    assert [str(t) for t in frame.dtypes] == ["object", "int8", "datetime64[us, UTC]", "object"]


def test_the_latest_statements_are_found_by_the_id_before_them(store: Store) -> None:
    assert store.labels.before_latest("fraud", 2) == 0
    store.labels.add([label(n, 1, day=3) for n in range(5)], POLICY)
    rows, _ = store.labels.tail("fraud", store.labels.before_latest("fraud", 2))
    assert numbers(pd.Series([row.event_id for row in rows])) == [3, 4]
    assert store.labels.before_latest("fraud", 5) == store.labels.before_latest("other", 0) == 0
