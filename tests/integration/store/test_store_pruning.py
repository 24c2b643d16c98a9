from __future__ import annotations

import pytest
from sqlalchemy import func, select

from monitoring.store import Report, Store
from monitoring.store.database.day_partitions import DAY_US, days_with_tables
from monitoring.store.database.frames import to_us
from monitoring.store.predictions.retention import TABLES, kept_reports, old_days, prune_table
from tests.support.log.logged import at, days, label, labels_policy, numbers, scored, shadowed, unscored

BEFORE = to_us(at(2))
FIRST = to_us(at(0)) // DAY_US


def fill(store: Store) -> None:
    store.log.append([scored(1, 0), scored(2, 1.9), unscored(3, 0.5), scored(4, 2), scored(5, 0, usecase="other")])
    store.labels.add([label(1, 1, 1), label(2, 1, 5)], labels_policy())
    store.shadow.append([shadowed(1, scored_at=to_us(at(1))), shadowed(4, scored_at=to_us(at(3)))])
    for day in (0, 3):
        store.reports.add(Report("fraud", "drift", at(day), "stable", {"n": day}))


def test_what_is_old_is_shown_by_day_and_then_goes_and_nothing_else(store: Store) -> None:
    fill(store)
    shown = {
        table: [(d.day - FIRST, d.rows) for d in old_days(store.database, "fraud", table, BEFORE)] for table in TABLES
    }
    assert shown == {
        "predictions": [(0, 2), (1, 1)],
        "shadow": [(1, 1)],
        "labels": [(1, 1)],
        "actions": [],
        "quarantine": [],
        "reports": [(0, 1)],
    }
    assert all(d.bytes > 0 for table in TABLES for d in old_days(store.database, "fraud", table, BEFORE))
    removed = {table: prune_table(store.database, "fraud", table, BEFORE) for table in TABLES}
    assert removed == {"predictions": 3, "shadow": 1, "labels": 1, "actions": 0, "quarantine": 0, "reports": 1}
    assert numbers(store.log.answers("fraud", days(-9, 9))["event_id"]) == [4]
    assert len(store.log.answers("other", days(-9, 9))) == 1
    assert store.labels.history("fraud")["event_id"].tolist() == ["e00002"]
    assert [report.payload["n"] for report in store.reports.list("fraud")] == [3]
    assert {table: prune_table(store.database, "fraud", table, BEFORE) for table in TABLES} == dict.fromkeys(TABLES, 0)


def test_a_pruned_event_that_comes_again_is_new(store: Store) -> None:
    fill(store)
    prune_table(store.database, "fraud", "predictions", BEFORE)
    assert store.log.append([scored(1, 0), scored(4, 2)]).stored == 1
    assert store.labels.parked("fraud") == 1


def test_days_of_one_use_case_are_dropped_as_tables(store: Store) -> None:
    if store.database.is_sqlite:
        return
    fill(store)
    with store.database.read() as connection:
        before = days_with_tables(connection)
    prune_table(store.database, "fraud", "predictions", BEFORE)
    with store.database.read() as connection:
        after = days_with_tables(connection)
    # The first day holds a row of another use case and stays.
    assert before.keys() - after.keys() == {FIRST + 1}


def test_reports_that_a_decision_names_stay(store: Store) -> None:
    kept = store.reports.add(Report("fraud", "comparison", at(0), "promote", {"evidence_snapshot": "a" * 64}))
    named = store.reports.add(Report("fraud", "drift", at(0), "severe", {"n": 1}))
    gone = store.reports.add(Report("fraud", "drift", at(0), "stable", {"n": 2}))
    store.decisions.append("fraud", "promotion", {"evidence": "a" * 64, "because": named.digest}, "test", at(1))
    assert kept_reports(store.database, "fraud", BEFORE) == 2
    assert prune_table(store.database, "fraud", "reports", BEFORE) == 1
    left = {report.report_id for report in store.reports.list("fraud")}
    assert left == {kept.report_id, named.report_id} - {gone.report_id}


def test_many_rows_go_in_several_transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.store.predictions.retention._CHUNK", 7)
    store.log.append([scored(n, -20_700, usecase="fraud") for n in range(40)])
    store.shadow.append([shadowed(n) for n in range(40)])
    assert prune_table(store.database, "fraud", "predictions", BEFORE) == 40
    assert prune_table(store.database, "fraud", "shadow", BEFORE) == 40
    with store.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(TABLES["shadow"][0])).scalar_one() == 0
