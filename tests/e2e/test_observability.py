"""Real Prometheus over the real service and exporter: metrics, rules, dashboards and the runbook, all as shipped."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as families

from monitoring.grafana.__main__ import FOLDER, read_dashboards, render_dashboard, write_dashboards
from tests.support.log.observed import Observed, get, observed, path_of_programs
from tests.support.processes.servers import PROJECT
from tests.support.processes.system import system_program

pytestmark = pytest.mark.needs_prometheus
RUNBOOK = (PROJECT / "docs" / "how-to" / "runbook.md").read_text()
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", RUNBOOK, flags=re.MULTILINE | re.DOTALL)
QUICK = ("curl", "promtool", "df", "ls")
"""What asks a running part and starts no command of the product; those are checked by the longer suite."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    with observed(tmp_path_factory.mktemp("observed")) as running:
        yield running


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


BOARDS = {board.uid: render_dashboard(board) for board in read_dashboards()}
PANELS = [(uid, panel["title"]) for uid, board in BOARDS.items() for panel in panels(board)]


@pytest.mark.parametrize("part", ["service", "exporter"])
def test_metrics_follow_the_conventions_of_prometheus(workspace: Observed, part: str) -> None:
    text = get(f"{getattr(workspace, part)}/metrics")
    program = system_program("promtool", "prometheus")
    checked = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, text=True, timeout=600)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_prometheus_reads_both_and_every_rule_can_be_evaluated(workspace: Observed) -> None:
    targets = workspace.api("targets", state="active")["activeTargets"]
    assert [target["health"] for target in targets] == ["up", "up"]
    groups = workspace.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 40
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}


def test_the_watchdog_fires_and_nobody_is_woken_for_nothing(workspace: Observed) -> None:
    firing = {alert["labels"]["alertname"] for alert in workspace.api("alerts")["alerts"] if alert["state"] == "firing"}
    assert "Watchdog" in firing
    assert not firing & {"ScrapeDown", "DatabaseDown", "NotReady", "AliasServedMismatch", "PredictionLogDropped"}


def test_the_service_counts_what_it_did(workspace: Observed) -> None:
    for expression in (
        'incumbent_request_total{endpoint="/score",http_response_code="200"} > 0',
        'incumbent_request_duration_seconds_bucket{endpoint="/score",le="0.001"}',
        "incumbent_score_bucket > 0",
        "incumbent_score_batch_events_count > 0",
        'incumbent_refused_requests_total{path="/score"} > 0',
        "incumbent_process_cpu_seconds_total > 0",
        "incumbent_process_resident_memory_bytes > 1e7",
        "incumbent_process_memory_limit_bytes > 1e8",
        "incumbent_spool_limit_bytes > 0",
        "incumbent_spool_oldest_seconds",
        "incumbent_served_since_timestamp_seconds > 1e9",
    ):
        assert workspace.query(expression), expression


def test_the_files_of_grafana_are_those_of_the_builder(tmp_path: Path) -> None:
    assert {file.name: file.read_text() for file in write_dashboards(tmp_path)} == {
        file.name: file.read_text() for file in FOLDER.glob("*.json")
    }


def test_every_panel_has_an_id_of_its_own_a_unit_a_meaning_and_thresholds() -> None:
    assert len(BOARDS) == 4
    assert len({board["title"] for board in BOARDS.values()}) == 4
    for board in BOARDS.values():
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert len({panel["title"] for panel in panels(board)}) == len(panels(board))
        for panel in panels(board):
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults["unit"], panel["title"]
            assert len(defaults["thresholds"]["steps"]) > 1, panel["title"]
            assert len(panel["description"]) > 10, panel["title"]
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]


def test_panels_do_not_lie_on_each_other() -> None:
    for board in BOARDS.values():
        fields = [
            (x, y)
            for place in (panel["gridPos"] for panel in board["panels"])
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(set(fields)) == len(fields)


def panel_of(uid: str, title: str) -> dict[str, Any]:
    return next(panel for panel in panels(BOARDS[uid]) if panel["title"] == title)


def test_drift_is_a_heat_map_with_a_row_for_each_feature_and_a_column_for_each_day(workspace: Observed) -> None:
    panel = panel_of("incumbent-data", "Drift by feature and day")
    (target,) = panel["targets"]
    assert (panel["type"], panel["interval"], target["format"]) == ("heatmap", "1d", "time_series")
    assert panel["timeFrom"] == "30d", "a dashboard of one day would show one column"
    assert panel["options"]["calculate"] is False, "each series is a row, none is counted into buckets"
    assert panel["options"]["color"]["max"] == panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
    rows = [cell["metric"] for cell in workspace.query(target["expr"].replace("$usecase", ".*").replace("$env", "dev"))]
    features = {one["metric"]["feature"] for one in workspace.query("incumbent_drift_excess_psi")}
    assert {row["feature"] for row in rows} == features
    assert len(rows) == len(features) > 3


def test_the_forecast_is_shown_against_the_capacity(workspace: Observed) -> None:
    lines = {target["legendFormat"].split()[0] for target in panel_of("incumbent-money", "Alerts a day")["targets"]}
    assert lines == {"alerts", "forecast", "capacity"}
    panel = panel_of("incumbent-money", "Forecast against capacity")
    (share,) = workspace.query(panel["targets"][0]["expr"].replace("$usecase", ".*").replace("$env", "dev"))
    (forecast,), (capacity,) = (workspace.query(f"incumbent_{name}_alerts") for name in ("forecast", "capacity"))
    assert float(share["value"][1]) == pytest.approx(float(forecast["value"][1]) / float(capacity["value"][1]))
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1] == {"color": "red", "value": 1.0}


@pytest.mark.parametrize(("uid", "title"), PANELS)
def test_every_query_of_a_panel_returns_data(workspace: Observed, uid: str, title: str) -> None:
    panel = panel_of(uid, title)
    for target in panel["targets"]:
        expression = target["expr"].replace("$usecase", ".*").replace("$env", "dev")
        found = workspace.query(expression)
        assert found, expression
        assert any(sample["value"][1] != "NaN" for sample in found), expression


def test_the_lists_of_environments_and_use_cases_are_known(workspace: Observed) -> None:
    environment, usecase = json.loads((FOLDER / "service.json").read_text())["templating"]["list"]
    assert (environment["name"], environment["includeAll"], usecase["name"]) == ("env", False, "usecase")
    for wanted, label, values in ((environment, "env", {"dev"}), (usecase, "usecase", {"fraud"})):
        asked = re.fullmatch(rf"label_values\((.+), {label}\)", wanted["query"]["query"])
        assert asked is not None
        assert {one["metric"][label] for one in workspace.query(asked[1].replace("$env", "dev"))} == values


@pytest.mark.parametrize("part", ["service", "exporter"])
def test_every_sample_says_whose_it_is(workspace: Observed, part: str) -> None:
    found = [one for family in families(get(f"{getattr(workspace, part)}/metrics")) for one in family.samples]
    assert len(found) > 50
    assert {one.labels.get("env") for one in found} == {"dev"}
    assert {one.labels.get("usecase") for one in found} == ({"fraud"} if part == "service" else {"fraud", "all"})


def test_every_series_and_alert_in_prometheus_says_whose_it_is(workspace: Observed) -> None:
    nobody = workspace.query('{__name__=~"incumbent.*|up|process_.*", usecase=""} or {__name__=~"incumbent.*", env=""}')
    assert nobody == []
    alerts = workspace.api("alerts")["alerts"]
    assert all(alert["labels"].get("usecase") and alert["labels"].get("env") for alert in alerts)


def sections() -> dict[str, list[str]]:
    """The commands of each section of the runbook, line by line."""
    parts = re.split(r"^## (\w+)$", RUNBOOK, flags=re.MULTILINE)[1:]
    blocks = {name: re.findall(r"^```sh\n(.*?)^```$", text, flags=re.M | re.S) for name, text in _pairs(parts)}
    return {name: "".join(found).strip().splitlines() for name, found in blocks.items()}


def _pairs(parts: list[str]) -> list[tuple[str, str]]:
    return list(zip(parts[::2], parts[1::2], strict=True))


def quick() -> dict[str, list[str]]:
    found = {name: [line for line in lines if line.startswith(QUICK)] for name, lines in sections().items()}
    return {name: lines for name, lines in found.items() if lines}


def run_lines(workspace: Observed, lines: list[str]) -> None:
    system_program("promtool", "prometheus")
    addresses = {"SERVICE": workspace.service, "EXPORTER": workspace.exporter, "PROMETHEUS": workspace.prometheus}
    environment = workspace.environment | addresses | {"PATH": path_of_programs()}
    for line in lines:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            env=environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_the_section_of_every_alert_says_what_to_run() -> None:
    rules = yaml.safe_load((PROJECT / "monitoring" / "prometheus" / "rules.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in rules for rule in group["rules"]}
    assert set(sections()) == alerts
    assert [name for name, lines in sections().items() if not lines] == []
    assert len(quick()) > len(alerts) / 2


@pytest.mark.parametrize("alert", sorted(quick()))
def test_what_a_section_of_the_runbook_asks_the_running_parts_is_answered(workspace: Observed, alert: str) -> None:
    run_lines(workspace, quick()[alert])


@pytest.mark.slow
@pytest.mark.parametrize("block", sorted(set(COMMANDS)))
def test_every_command_of_the_runbook_works(workspace: Observed, block: str) -> None:
    run_lines(workspace, block.strip().splitlines())
