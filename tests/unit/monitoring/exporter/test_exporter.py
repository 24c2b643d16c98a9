"""The exporter's readings from a database in memory, and the page that it serves."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from bentos.errors import SettingsError
from bentos.settings import read_settings
from monitoring.exporter.__main__ import Exporter, ExporterSettings, StoreCollector, build_registry, read_samples
from monitoring.exporter.catalogue import ADDED, BY_NAME, CATALOGUE, RETIRED
from monitoring.store import Report, RoleChange, Run, Store, memory_store, open_store
from monitoring.store.predictions.spool_ledger import Cargo, Shipment, WriterState
from tests.support.log.logged import CHALLENGER, CHAMPION, at, label, labels_policy, scored, shadowed

NOW = datetime(2026, 3, 20, tzinfo=UTC)


@pytest.fixture
def store() -> Iterator[Store]:
    opened = memory_store()
    yield opened
    opened.close()


def finding(day: float, outcome: str, **changes: object) -> Report:
    """A drift report as the flow stores it."""
    measured = {"name": "amount", "psi": 0.3, "excess": 0.25, "ks": 0.2, "missing_share": 0.0, "unseen_share": None}
    window = {"rows": 900, "share": 1.0, "features": [measured], "score": {"psi": 0.1, "excess": 0.05}}
    payload = {"reports": [window], "performance": None, "skew": None}
    return Report("fraud", "drift", at(day), outcome, payload | changes, model=CHAMPION)


def told(store: Store, name: str) -> dict[tuple[str, ...], float]:
    assert name in BY_NAME
    return {one.labels: one.value for one in read_samples(store, NOW) if one.name == name}


def test_every_metric_of_the_catalogue_has_a_name_of_its_own_and_a_meaning() -> None:
    assert len(BY_NAME) == len(CATALOGUE)
    assert all(metric.help and not metric.name.endswith("_total") for metric in CATALOGUE)


def test_drift_is_told_by_feature_with_its_severity(store: Store) -> None:
    store.reports.add(finding(3, "severe"))
    assert told(store, "drift_psi") == {(CHAMPION, "amount"): 0.3}
    assert told(store, "drift_severity") == {(CHAMPION,): 2.0}
    assert told(store, "drift_score_psi") == {(CHAMPION,): 0.1}
    assert told(store, "feature_unseen_ratio") == {}


def test_too_few_rows_give_no_gauge_rather_than_zero(store: Store) -> None:
    store.reports.add(finding(3, "severe"))
    store.reports.add(finding(4, "insufficient_data"))
    assert told(store, "drift_psi") == told(store, "drift_severity") == {}
    assert len(told(store, "drift_checked_timestamp_seconds")) == 1


def test_severe_checks_are_counted_back_from_the_newest_day(store: Store) -> None:
    for day, outcome in ((1, "severe"), (2, "none"), (3, "severe"), (4, "severe")):
        store.reports.add(finding(day, outcome))
    assert told(store, "drift_severe_checks_in_a_row") == {(): 2.0}
    store.reports.add(finding(4, "severe"))  # the same day again is one check
    assert told(store, "drift_severe_checks_in_a_row") == {(): 2.0}
    store.reports.add(finding(5, "none"))
    assert told(store, "drift_severe_checks_in_a_row") == {(): 0.0}


def test_two_looks_at_the_same_windows_are_one_severe_check(store: Store) -> None:
    def looked(day: float, end: float) -> Report:
        found = finding(day, "severe")
        (window,) = found.payload["reports"]
        seen = window | {"window": {"start": at(end - 1).isoformat(), "end": at(end).isoformat()}}
        return replace(found, payload=found.payload | {"reports": [seen]})

    store.reports.add(looked(4.0, 4))
    store.reports.add(looked(4.1, 4))
    assert told(store, "drift_severe_checks_in_a_row") == {(): 1.0}
    store.reports.add(looked(5.1, 5))
    assert told(store, "drift_severe_checks_in_a_row") == {(): 2.0}


def test_a_run_whose_process_died_is_not_running_once_a_later_one_has_ended(store: Store) -> None:
    hour = timedelta(hours=1)
    store.runs.put(Run("dead", "fraud", "drift", "running", NOW - 9 * hour))
    assert told(store, "flow_running_seconds") == {("drift",): 9 * 3600.0}
    store.runs.put(Run("later", "fraud", "drift", "completed", NOW - 2 * hour, NOW - hour))
    assert told(store, "flow_running_seconds") == {}
    store.runs.put(Run("now", "fraud", "drift", "running", NOW - 0.5 * hour))
    assert told(store, "flow_running_seconds") == {("drift",): 1800.0}


def test_recall_is_compared_with_the_training_by_an_interval(store: Store) -> None:
    metrics = {"recall": {"value": 0.4, "low": 0.3, "high": 0.5}}
    store.reports.add(finding(3, "none", performance={"rows": 900, "positives": 100, "metrics": metrics}))
    then = {"evidence": {"positives": 100, "metrics": {"recall": {"value": 0.8, "low": 0.7, "high": 0.9}}}}
    store.reports.add(Report("fraud", "training", at(1), "pass", then, challenger=CHAMPION))
    loss = told(store, "matured_recall_loss_ratio")
    assert loss[CHAMPION, "value"] == pytest.approx(0.4)
    assert 0.2 < loss[CHAMPION, "low"] < 0.4 < loss[CHAMPION, "high"]
    assert told(store, "matured_recall_ratio")[CHAMPION, "low"] == 0.3


def test_a_feature_that_was_compared_and_is_equal_has_no_skew(store: Store) -> None:
    skew = {"rows": 900, "share": 0.0, "features": []}
    store.reports.add(finding(3, "none", skew=skew))
    assert told(store, "feature_skew_ratio") == {(CHAMPION, "amount"): 0.0}
    differing = {"rows": 900, "share": 0.5, "features": [{"name": "amount", "share": 0.5}]}
    store.reports.add(finding(4, "none", skew=differing))
    assert told(store, "feature_skew_ratio") == {(CHAMPION, "amount"): 0.5}
    store.reports.add(finding(5, "none", skew={"rows": 0, "share": None, "features": []}))
    assert told(store, "feature_skew_ratio") == told(store, "skew_rows_ratio") == {}


def test_money_is_final_or_provisional(store: Store) -> None:
    days = [{"state": s, "cost": c, "alerts": 7} for s, c in (("final", 10.0), ("final", 20.0), ("provisional", 4.0))]
    told_money = {"currency": "EUR", "matures_after_s": 604800.0, "capacity": None, "days": days}
    store.reports.add(finding(3, "none", money=told_money))
    assert told(store, "daily_cost") == {("final", "EUR"): 15.0, ("provisional", "EUR"): 4.0}
    assert told(store, "label_maturity_seconds") == {(): 604800.0}
    assert told(store, "capacity_alerts") == {}


def test_the_alerts_of_the_running_day_are_forecast_from_whole_weeks(store: Store) -> None:
    days = [{"day": f"2026-03-{d:02}", "state": "provisional", "cost": 1.0, "alerts": 7 * d} for d in range(2, 9)]
    told_money = {"currency": "EUR", "matures_after_s": 604800.0, "capacity": 10, "days": days[1:]}
    store.reports.add(finding(3, "none", money=told_money))
    assert told(store, "forecast_alerts") == {}
    store.reports.add(finding(4, "none", money=told_money | {"days": days}))
    assert told(store, "forecast_alerts") == {(): pytest.approx(14.0)}


def test_nothing_is_told_of_a_use_case_that_retired_until_it_is_added_again(store: Store) -> None:
    for usecase in ("fraud", "churn"):
        store.runs.put(Run(f"run-{usecase}", usecase, "drift", "failed", at(1), at(2)))

    def known() -> dict[str, set[str]]:
        found = read_samples(store, NOW)
        return {usecase: {one.name for one in found if one.usecase == usecase} for usecase in ("fraud", "churn")}

    before = known()
    assert "flow_failing" in before["churn"]
    store.decisions.append("churn", RETIRED, {}, "a test", at(3))
    assert known() == before | {"churn": {"usecase_retired"}}
    store.decisions.append("churn", ADDED, {}, "a test", at(4))
    assert known() == before


def test_a_flow_is_failing_until_it_succeeds_again(store: Store) -> None:
    def run(name: str, state: str, hours: float) -> Run:
        start = NOW - timedelta(hours=hours)
        return Run(name, "fraud", "drift", state, start, start + timedelta(minutes=1))  # type: ignore[arg-type]  # one of the states

    store.runs.put(run("a", "completed", 30))
    store.runs.put(run("b", "failed", 6))
    assert told(store, "flow_failing") == {("drift",): 1.0}
    store.runs.put(run("c", "completed", 1))
    assert told(store, "flow_failing") == {("drift",): 0.0}
    assert told(store, "flow_duration_seconds") == {("drift",): 60.0}


def test_a_failure_is_told_however_many_runs_of_others_came_after_it(store: Store) -> None:
    start = NOW - timedelta(hours=20)
    store.runs.put(Run("bad", "fraud", "drift", "failed", start, start + timedelta(minutes=1)))
    for number in range(600):
        later = start + timedelta(minutes=number + 2)
        store.runs.put(Run(f"look-{number}", "fraud", "canary", "completed", later, later))
    assert told(store, "flow_failing") == {("canary",): 0.0, ("drift",): 1.0}
    assert store.runs.prune("fraud", NOW) == 599
    assert told(store, "flow_failing") == {("canary",): 0.0, ("drift",): 1.0}
    assert [run.flow for run in store.runs.recent("fraud")] == ["canary", "drift"]


def test_labels_tell_their_delay_and_how_far_they_reach(store: Store) -> None:
    store.log.append([scored(1, 0), scored(2, 9)])
    store.runs.put(Run("a", "fraud", "labels", "completed", NOW, NOW))
    assert told(store, "label_lag_seconds") == {}
    store.labels.add([label(1, 1, 7)], labels_policy())
    assert told(store, "label_delay_seconds")["chargeback", "median"] == pytest.approx(7 * 86_400, rel=0.1)
    assert told(store, "label_lag_seconds")[()] == pytest.approx(9 * 86_400, rel=0.1)


def test_how_long_the_log_is_can_be_seen_while_no_label_has_come(store: Store) -> None:
    store.runs.put(Run("a", "fraud", "labels", "completed", NOW, NOW))
    assert told(store, "log_oldest_event_timestamp_seconds") == {}
    store.log.append([scored(1, 0), scored(2, 9)])
    assert told(store, "log_oldest_event_timestamp_seconds") == {(): at(0).timestamp()}
    assert told(store, "log_newest_event_timestamp_seconds") == {(): at(9).timestamp()}


def test_the_ledger_is_told_by_what_became_of_the_records(store: Store) -> None:
    step = Shipment("fraud", WriterState("w"), 1, 100, 3, dropped=1, gaps=1)
    store.ledger.ship(step, Cargo([scored(1, 0)], [label(1, 1, 7)]), labels_policy())
    found = told(store, "log_ledger_records")
    assert found["stored",] == found["labels",] == found["dropped",] == 1.0
    assert found["quarantined",] == 0.0


def test_a_replica_that_serves_another_version_than_the_journal_is_named(store: Store) -> None:
    def appoint(version: str) -> None:
        change = RoleChange("dev-fraud", "champion", version, "digest")
        store.decisions.append("fraud", "installation", {}, "a test", NOW, [change])

    appoint("1")
    store.serving.heartbeat("fraud", "r1", "dev-fraud", "1", "1")
    assert told(store, "replica_mismatch") == {("dev-fraud", "r1"): 0.0}
    appoint("2")
    assert told(store, "replica_mismatch") == {("dev-fraud", "r1"): 1.0}
    assert told(store, "replica_served_version") == {("dev-fraud", "r1"): 1.0}


def test_an_external_score_that_was_put_back_into_office_is_no_mismatch(store: Store) -> None:
    for version in ("1", None):
        change = RoleChange("dev-fraud", "champion", version)
        store.decisions.append("fraud", "rollback.external", {}, "a test", NOW, [change])
    store.serving.heartbeat("fraud", "r1", "dev-fraud", "0", None)
    assert told(store, "replica_mismatch") == {("dev-fraud", "r1"): 0.0}


def test_a_sample_ratio_mismatch_is_told_while_its_policy_holds(store: Store) -> None:
    def note(event: str, **more: object) -> None:
        store.decisions.append("fraud", "routing", {"event": event, "model": "dev-fraud", **more}, "a test", NOW)

    store.serving.heartbeat("fraud", "r1", "dev-fraud", "1", "1")
    note("share", digest="p1", policy={})
    assert told(store, "routing_mismatch") == {("dev-fraud",): 0.0}
    note("mismatch", routing="p1")
    assert told(store, "routing_mismatch") == {("dev-fraud",): 1.0}
    note("off", digest="p2", policy={})
    assert told(store, "routing_mismatch") == {("dev-fraud",): 0.0}


def test_failures_of_the_challenger_are_counted(store: Store) -> None:
    change = RoleChange("dev-fraud", "challenger", "2", "digest")
    store.decisions.append("fraud", "appointment", {}, "a test", NOW, [change])
    broken = {"raw_score": None, "score": None, "threshold": None, "decision": None, "error": "boom"}
    store.shadow.append([shadowed(1), shadowed(2, **broken)])
    assert told(store, "challenger_failed_rows") == {(CHALLENGER,): 1.0}
    assert told(store, "challenger_scored_rows") == {(CHALLENGER,): 1.0}


def test_a_report_that_cannot_be_understood_takes_nothing_else_with_it(store: Store) -> None:
    store.reports.add(finding(3, "severe", reports="of another kind"))
    store.runs.put(Run("a", "fraud", "labels", "completed", NOW, NOW))
    readable = told(store, "exporter_part_readable")
    assert readable["drift",] == 0.0
    assert readable["flows",] == 1.0
    assert told(store, "flow_failing") == {("labels",): 0.0}


def test_the_database_is_read_before_anybody_asks_so_that_whoever_asks_first_need_not_wait(tmp_path: Path) -> None:
    settings = ExporterSettings(database_url=f"sqlite:///{tmp_path / 'log.db'}", exporter_port=0, exporter_seconds=3600)
    page = Exporter(settings)
    thread = threading.Thread(target=page.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while page.collector._read_at == float("-inf"):
            assert time.monotonic() < deadline, "nobody asked, and nothing was read"
            time.sleep(0.02)
    finally:
        page.stop()
        thread.join()


def test_a_database_that_is_away_is_told_and_nothing_stale(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    settings = ExporterSettings(database_url=f"sqlite:///{file}", exporter_port=0, exporter_seconds=0)
    page = Exporter(settings)
    thread = threading.Thread(target=page.run)
    thread.start()
    try:
        address = f"http://127.0.0.1:{page.port}"
        assert 'incumbent_exporter_database_up{env="dev",usecase="all"} 0.0' in get(f"{address}/metrics")
        assert not file.exists()
        with_store = open_store(f"sqlite:///{file}")
        with_store.reports.add(finding(3, "severe"))
        with_store.close()
        text = get(f"{address}/metrics")
        assert 'incumbent_exporter_database_up{env="dev",usecase="all"} 1.0' in text
        assert 'incumbent_drift_psi{env="dev",feature="amount",model="dev-fraud/1",usecase="fraud"} 0.3' in text
        assert get(f"{address}/livez") == "alive\n"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{address}/secrets")
        foreign = {"Host": "evil.example"}, {"Origin": "https://evil.example"}
        for headers, method, expected in (
            (foreign[0], "GET", 421), (foreign[1], "GET", 403), (foreign[1], "POST", 403), ({}, "POST", 405),
            ({}, "DELETE", 405),
        ):  # fmt: skip
            answer = httpx.request(method, f"{address}/metrics", headers=headers, trust_env=False)
            assert answer.status_code == expected
            assert "incumbent_" not in answer.text
    finally:
        page.stop()
        thread.join()


def test_a_name_that_a_scraper_uses_can_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCUMBENT_ALLOWED_HOSTS", "exporter")
    assert ExporterSettings().allowed_hosts == read_settings().allowed_hosts == "exporter"
    monkeypatch.setenv("INCUMBENT_ALLOWED_HOSTS", "*")
    with pytest.raises(SettingsError, match=r"INCUMBENT_ALLOWED_HOSTS.*is no host name"):
        read_settings()


def test_one_reading_is_told_again_for_a_while(store: Store) -> None:
    opened: list[Store] = []
    collector = StoreCollector(lambda: opened.append(store) or store, seconds=3600)  # type: ignore[func-returns-value]  # append gives none
    assert list(collector.collect()) == list(collector.collect())
    assert len(opened) == 1
    assert build_registry(StoreCollector(lambda: store, 0), "dev") is not None


def test_the_exporter_reads_the_database_that_the_service_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("", "postgresql://somewhere/log"):
        monkeypatch.setenv("INCUMBENT_DATABASE_URL", url)
        monkeypatch.setenv("INCUMBENT_ENV", "staging")
        monkeypatch.setenv("INCUMBENT_HOME", "some/where")
        assert ExporterSettings().log_url == read_settings().log_url


def get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


def test_the_page_of_metrics_names_every_metric() -> None:
    page = (Path(__file__).resolve().parents[4] / "docs" / "reference" / "metrics.md").read_text()
    names = [metric.full_name + ("_total" if metric.kind == "counter" else "") for metric in CATALOGUE]
    assert [name for name in names if f"| `{name}` |" not in page] == []
