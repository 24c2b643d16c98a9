from __future__ import annotations

import time
from dataclasses import replace

import pytest

from monitoring.errors import RowRefused
from monitoring.store import Report, Run, Store
from tests.support.log.logged import CHALLENGER, CHAMPION, at


def drift(day: float, outcome: str = "stable", **changes: object) -> Report:
    return replace(Report("fraud", "drift", at(day), outcome, {"psi": {"amount": 0.1}}), **changes)  # type: ignore[arg-type]  # fields of a report


def test_the_latest_report_is_the_one_of_the_latest_day_not_the_latest_written(store: Store) -> None:
    store.reports.add(drift(5, "severe"))
    store.reports.add(drift(3, "stable"))
    found = store.reports.latest("fraud", "drift")
    assert found is not None
    assert (found.outcome, found.as_of, found.payload) == ("severe", at(5), {"psi": {"amount": 0.1}})


def test_a_day_that_is_looked_at_again_has_its_newest_report(store: Store) -> None:
    store.reports.add(drift(5, "severe"))
    again = store.reports.add(drift(5, "stable"))
    assert store.reports.latest("fraud", "drift") == again


def test_reports_are_read_as_of_a_day_and_for_a_model(store: Store) -> None:
    store.reports.add(drift(3, model=CHAMPION))
    store.reports.add(drift(5, model=CHALLENGER))
    assert store.reports.latest("fraud", "drift", as_of=at(4)).as_of == at(3)  # type: ignore[union-attr]  # there is one
    assert store.reports.latest("fraud", "drift", model=CHAMPION).as_of == at(3)  # type: ignore[union-attr]  # there is one
    assert store.reports.latest("fraud", "drift", as_of=at(2)) is None
    assert store.reports.latest("fraud", "comparison") is None
    assert store.reports.latest("churn", "drift") is None


def test_reports_are_listed_in_the_order_of_their_days(store: Store) -> None:
    for day in (4, 2, 3):
        store.reports.add(drift(day))
    store.reports.add(replace(drift(1), kind="skew"))
    assert [r.as_of for r in store.reports.list("fraud")] == [at(1), at(2), at(3), at(4)]
    assert [r.as_of for r in store.reports.list("fraud", "drift", since=at(3))] == [at(3), at(4)]
    assert [r.as_of for r in store.reports.list("fraud", limit=2)] == [at(3), at(4)]


def test_a_report_is_named_by_the_digest_of_its_content(store: Store) -> None:
    one, same = store.reports.add(drift(1)), store.reports.add(drift(2))
    other = store.reports.add(replace(drift(1), payload={}))
    assert one.digest == same.digest != other.digest
    assert len({one.report_id, same.report_id, other.report_id}) == 3


def test_a_report_with_nan_is_refused(store: Store) -> None:
    with pytest.raises(RowRefused):
        store.reports.add(replace(drift(1), payload={"psi": float("nan")}))


def test_a_run_is_replaced_when_it_ends(store: Store) -> None:
    running = Run("r1", "fraud", "drift", "running", at(1), as_of=at(0))
    store.runs.put(running)
    ended = replace(running, state="failed", ended_at=at(1.1), message="no_data: nothing", payload={"rows": 0})
    store.runs.put(ended)
    assert store.runs.recent("fraud") == [ended]


def test_the_latest_run_of_a_flow_can_be_asked_by_state(store: Store) -> None:
    store.runs.put(Run("r1", "fraud", "drift", "completed", at(1)))
    store.runs.put(Run("r2", "fraud", "drift", "failed", at(2)))
    store.runs.put(Run("r3", "fraud", "training", "completed", at(3)))
    assert store.runs.latest("fraud", "drift").run_id == "r2"  # type: ignore[union-attr]  # there is one
    assert store.runs.latest("fraud", "drift", "completed").run_id == "r1"  # type: ignore[union-attr]  # there is one
    assert store.runs.latest("churn", "drift") is None
    assert [run.run_id for run in store.runs.recent("fraud", limit=2)] == ["r3", "r2"]


def test_a_replica_says_what_it_serves_and_since_when(store: Store) -> None:
    store.serving.heartbeat("fraud", "a", "dev-fraud", "1", "1")
    (before,) = store.serving.live("fraud")
    time.sleep(0.002)
    store.serving.heartbeat("fraud", "a", "dev-fraud", "1", "2", {"refused": {"2": "corrupt"}})
    (same,) = store.serving.live("fraud")
    assert (same.version, same.champion, same.since) == ("1", "2", before.since)
    assert same.detail == '{"refused":{"2":"corrupt"}}'
    assert same.seen_at > before.seen_at
    time.sleep(0.002)
    store.serving.heartbeat("fraud", "a", "dev-fraud", "2", "2")
    (swapped,) = store.serving.live("fraud")
    assert swapped.since > same.since


def test_silent_and_departed_replicas_are_not_live(store: Store) -> None:
    store.serving.heartbeat("fraud", "a", "dev-fraud", None)
    store.serving.heartbeat("fraud", "b", "dev-fraud", "1")
    store.serving.leave("fraud", "b")
    assert [replica.replica for replica in store.serving.live("fraud")] == ["a"]
    time.sleep(0.002)
    assert store.serving.live("fraud", within_seconds=0.0) == []
    assert store.serving.live("churn") == []
