from __future__ import annotations

from datetime import time
from typing import Any

import pandas as pd
import pytest

from monitoring.core.calendar import BusinessCalendar
from monitoring.policies.label_rules import LabelRules
from monitoring.store import PairedCounts, Store
from tests.support.log.logged import (
    CHALLENGER,
    CHAMPION,
    START,
    at,
    days,
    label,
    labels_policy,
    numbers,
    scored,
    shadowed,
    unscored,
)

POLICY = labels_policy()
CALENDAR = BusinessCalendar()


def paired(store: Store, as_of: float, **changes: Any) -> pd.DataFrame:
    models = (changes.pop("champion", CHAMPION), changes.pop("challenger", CHALLENGER))
    rules = LabelRules(changes.pop("label", POLICY), changes.pop("calendar", CALENDAR), changes.pop("selective", False))
    return store.log.paired("fraud", models, changes.pop("window", days(0, 60)), at(as_of), rules, **changes)


def test_an_event_that_both_scored_is_one_row_with_both_sides(store: Store) -> None:
    store.log.append([scored(1, 0.5)])
    store.shadow.append([shadowed(1)])
    store.labels.add([label(1, 1, day=2)], POLICY)
    frame = paired(store, as_of=8)
    assert list(frame.columns) == [
        "event_id", "event_time", "day", "score_a", "threshold_a", "flag_a", "score_b", "threshold_b", "flag_b",
        "y", "observed_at",
    ]  # fmt: skip
    row = frame.iloc[0]
    assert (row["score_a"], row["threshold_a"], bool(row["flag_a"])) == (0.2, 0.5, False)
    assert (row["score_b"], row["threshold_b"], bool(row["flag_b"])) == (0.8, 0.6, True)
    assert (row["day"], row["y"], row["observed_at"]) == (pd.Timestamp("2026-03-02"), 1, pd.Timestamp(at(2)))


def test_an_early_label_does_not_let_a_young_event_in(store: Store) -> None:
    store.log.append([scored(1, 0.5), scored(2, 1.5)])
    store.shadow.append([shadowed(1), shadowed(2)])
    store.labels.add([label(1, 1, 0.6), label(2, 1, 1.6)], POLICY)
    assert numbers(paired(store, as_of=8.99)["event_id"]) == [1]
    assert numbers(paired(store, as_of=9)["event_id"]) == [1, 2]
    assert paired(store, as_of=7.99).empty


def test_the_sides_follow_the_version_and_not_who_answered(store: Store) -> None:
    swapped = {"version": "2", "score": 0.7, "threshold": 0.6, "decision": True}
    store.log.append([scored(1), scored(2, **swapped)])
    store.shadow.append([shadowed(1), shadowed(2, version="1", score=0.3, threshold=0.5, decision=False)])
    frame = paired(store, as_of=8)
    assert frame["score_a"].tolist() == [0.2, 0.3]
    assert frame["score_b"].tolist() == [0.8, 0.7]
    assert frame["flag_b"].tolist() == [True, True]


def test_without_a_label_a_matured_event_is_what_the_policy_says(store: Store) -> None:
    store.log.append([scored(1)])
    store.shadow.append([shadowed(1)])
    negative = paired(store, as_of=8)
    assert (negative["y"].tolist(), negative["observed_at"].isna().tolist()) == ([0], [True])
    unknown = paired(store, as_of=8, label=labels_policy(absent_after_maturity="unknown"))
    assert unknown.empty
    assert unknown.attrs["counts"].unknown == 1


def test_labels_count_as_they_were_known(store: Store) -> None:
    store.log.append([scored(1), scored(2)])
    store.shadow.append([shadowed(1), shadowed(2)])
    store.labels.add([label(1, 0, 2, "analyst"), label(1, 1, 20), label(2, 1, 20)], POLICY)
    assert paired(store, as_of=10)["y"].tolist() == [0, 0]
    assert paired(store, as_of=20)["y"].tolist() == [1, 1]


def test_what_is_left_out_is_counted(store: Store) -> None:
    store.log.append([scored(n) for n in range(6)] + [unscored(9)])
    store.shadow.append([shadowed(0), shadowed(1), shadowed(2)])
    failed = {"raw_score": None, "score": None, "threshold": None, "decision": None, "error": "crashed"}
    store.shadow.append([shadowed(3, **failed)])
    store.labels.add([label(1, 1, 2), label(1, 0, 3)], POLICY)
    frame = paired(store, as_of=8)
    assert numbers(frame["event_id"]) == [0, 2]
    assert frame.attrs["counts"] == PairedCounts(
        answered=6, paired=2, unscored_a=0, unscored_b=3, errors_a=0, errors_b=1, conflicting=1, unknown=0,
        behind=((START.date(), 2),),
    )  # fmt: skip  # the two that the shadow has not come to are nobody's failure


def test_event_columns_can_be_asked_for(store: Store) -> None:
    store.log.append([scored(1), scored(2)])
    store.shadow.append([shadowed(2)])
    frame = paired(store, as_of=8, columns={"amount": "float", "id": "identifier"})
    assert frame[["amount", "id"]].to_numpy().tolist() == [[2.5, "e00002"]]


def test_days_and_maturity_follow_the_business_calendar(store: Store) -> None:
    calendar = BusinessCalendar("Europe/Paris", time(6, 0))
    store.log.append([scored(1, 0.1), scored(2, 0.3)])  # 02:24 and 07:12 UTC: before and after 06:00 in Paris
    store.shadow.append([shadowed(1), shadowed(2)])
    frame = paired(store, as_of=9, calendar=calendar)
    assert [str(day.date()) for day in frame["day"]] == ["2026-03-01", "2026-03-02"]
    assert numbers(paired(store, as_of=8, calendar=calendar)["event_id"]) == [1]


def test_a_label_that_is_no_model_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="name/version"):
        paired(store, as_of=8, champion="champion")


def test_an_event_without_the_features_of_a_model_is_unscored_and_no_failure_of_it(store: Store) -> None:
    missing = {"raw_score": None, "score": None, "threshold": None, "decision": None}
    store.log.append([scored(1), scored(2)])
    store.shadow.append([shadowed(1, error="features_missing", **missing), shadowed(2, error="crashed", **missing)])
    counts = paired(store, as_of=8).attrs["counts"]
    assert (counts.unscored_b, counts.errors_b) == (2, 1)
