"""The alert rules: each has severity, runbook, one case that fires and one that does not, run by promtool."""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from monitoring.exporter.catalogue import CATALOGUE
from monitoring.grafana.__main__ import read_dashboards
from tests.support.log.observed import until
from tests.support.processes.servers import free_port
from tests.support.processes.system import system_program

PROJECT = Path(__file__).resolve().parents[3]
FOLDER = PROJECT / "monitoring" / "prometheus"
NAMED = {
    "ErrorBudgetBurnFast", "ErrorBudgetBurn", "ErrorBudgetBurnSlow", "NotReady", "ModelStale", "AliasServedMismatch",
    "ChallengerErrors", "PredictionLogDropped", "PredictionLogOldest", "SpoolDisk", "DriftSevere", "DriftAbsent",
    "RecallDrop", "FlowFailed", "PromotionStuck", "LabelLag", "ScrapeDown", "ProcessCpu", "ProcessMemory", "Watchdog",
}  # fmt: skip
"""What was promised; more may exist."""


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def alerts() -> dict[str, dict[str, Any]]:
    found = [rule for group in read(FOLDER / "rules.yml")["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in found}) == len(found)
    return {rule["alert"]: rule for rule in found}


def run(*words: str) -> str:
    program = system_program(words[0], {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}[words[0]])
    done = subprocess.run([program, *words[1:]], cwd=PROJECT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_promised_alert_exists() -> None:
    assert set(alerts()) >= NAMED


@pytest.mark.parametrize("name", sorted(alerts()))
def test_an_alert_has_severity_summary_and_a_section_of_the_runbook(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in ({"none"} if name == "Watchdog" else {"page", "ticket"})
    assert len(rule["annotations"]["summary"]) > 20
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert page == '{{ or $externalLabels.runbook "docs/how-to/runbook.md" }}'
    headings = re.findall(r"^## (\w+)$", (PROJECT / "docs" / "how-to" / "runbook.md").read_text(), flags=re.MULTILINE)
    assert anchor in {heading.lower() for heading in headings}


def test_every_alert_has_a_case_that_fires_and_one_that_is_silent() -> None:
    cases: dict[str, set[bool]] = {}
    for file in sorted((FOLDER / "tests").glob("*.yml")):
        for case in read(file)["tests"]:
            for asked in case["alert_rule_test"]:
                cases.setdefault(asked["alertname"], set()).add(bool(asked["exp_alerts"]))
    wanted = {name: {True, False} for name in alerts()} | {"Watchdog": {True}}
    assert cases == wanted


def test_receivers_get_an_absolute_address_of_the_runbook_and_no_label_for_it() -> None:
    config = read(FOLDER / "prometheus.yml")
    assert re.fullmatch(r"https://\S+/how-to/runbook\.html", config["global"]["external_labels"]["runbook"])
    assert {"action": "labeldrop", "regex": "runbook"} in config["alerting"]["alert_relabel_configs"]


def test_nothing_is_added_up_over_use_cases_or_environments() -> None:
    rules = [rule for file in ("recording.yml", "rules.yml") for group in read(FOLDER / file)["groups"]
             for rule in group["rules"]]  # fmt: skip
    panels = [query.expr for board in read_dashboards() for row in board.row for panel in row.panel
              for query in panel.queries if not panel.repeat]  # fmt: skip
    assert [found for rule in [*(rule["expr"] for rule in rules), *panels] for found in blurred(rule)] == []


@pytest.mark.parametrize("expression", ["sum(a)", "max by (usecase) (a)", "sum without (env) (a)", "topk(3, a)",
                                        "a / on (usecase) b", "a / ignoring (env) b", "absent(a)"])  # fmt: skip
def test_what_adds_up_or_forgets_is_seen(expression: str) -> None:
    assert blurred(expression)


def test_every_alert_says_in_words_whose_it_is() -> None:
    summaries = {name: rule["annotations"]["summary"] for name, rule in alerts().items() if name != "Watchdog"}
    whose = "{{ $labels.usecase }} in {{ $labels.env }}: "
    assert [name for name, summary in summaries.items() if not summary.startswith(whose)] == []
    assert {"usecase": "all", "env": "all"}.items() <= alerts()["Watchdog"]["labels"].items()


def test_every_case_has_series_and_alerts_of_some_use_case_and_environment() -> None:
    for file in sorted((FOLDER / "tests").glob("*.yml")):
        for case in read(file)["tests"]:
            for series in case.get("input_series", []):
                assert re.search(r'usecase="\w+"', series["series"]), series
                assert re.search(r'env="\w+"', series["series"]), series
            for one in (alert for asked in case["alert_rule_test"] for alert in asked["exp_alerts"]):
                assert {"usecase", "env"} <= set(one["exp_labels"]), case["name"]


def test_every_panel_asks_for_the_chosen_use_case_and_environment() -> None:
    for board in read_dashboards():
        for panel in (panel for row in board.row for panel in row.panel):
            for query in panel.queries:
                asked = re.findall(r"\bincumbent[_:][\w:]+(\{[^}]*\})?", query.expr)
                assert asked, panel.title
                assert all('usecase=~"$usecase", env=~"$env"' in one for one in asked), query.expr
                assert panel.repeat == "usecase" or "{{usecase}}" in query.legend, panel.title


def test_an_alert_silences_others_of_its_own_use_case_and_environment_alone() -> None:
    rules = read(PROJECT / "deploy" / "alertmanager.yml")["inhibit_rules"]
    assert rules
    assert all({"env", "usecase"} <= set(rule["equal"]) for rule in rules)


@pytest.mark.needs_prometheus
def test_a_real_alertmanager_silences_only_what_belongs_to_the_same_use_case_and_environment(tmp_path: Path) -> None:
    program = system_program("prometheus-alertmanager", "prometheus-alertmanager")
    address = f"127.0.0.1:{free_port()}"
    config = PROJECT / "deploy" / "alertmanager.yml"
    words = [program, f"--config.file={config}", f"--storage.path={tmp_path}", f"--web.listen-address={address}"]
    cause = {"alertname": "ScrapeDown", "severity": "page", "usecase": "fraud", "env": "prod"}
    noise = {"alertname": "FlowFailed", "severity": "ticket", "flow": "drift"}
    whose = [("fraud", "prod"), ("churn", "prod"), ("fraud", "staging"), ("all", "prod")]
    sent = [cause, *(noise | {"usecase": usecase, "env": env} for usecase, env in whose)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*words, "--cluster.listen-address="], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v2", timeout=20.0) as client:
            until(lambda: _answers(client))
            assert client.post("/alerts", json=[{"labels": labels} for labels in sent]).status_code == 200
            until(lambda: len(client.get("/alerts").json()) == len(sent))
            until(lambda: bool(_silenced(client)))
            assert _silenced(client) == {("fraud", "prod")}
    finally:
        process.terminate()
        process.wait(30)


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/status").status_code == 200
    return False


def _silenced(client: httpx.Client) -> set[tuple[str, str]]:
    found = [one for one in client.get("/alerts").json() if one["status"]["inhibitedBy"]]
    return {(one["labels"]["usecase"], one["labels"]["env"]) for one in found}


WHOSE = {"usecase", "env"}
ADDING = r"\b(?:sum|max|min|avg|count|topk|bottomk|quantile|stddev)\b\s*(by|without)?\s*\(([^)]*)\)"


def blurred(expression: str) -> list[str]:
    """Parts of an expression that lose the use case or the environment."""
    added = [m[0] for m in re.finditer(ADDING, expression) if m[1] != "by" or not set(words(m[2])) >= WHOSE]
    matched = [m[0] for m in re.finditer(r"\b(on|ignoring)\s*\(([^)]*)\)", expression) if forgets(m[1], words(m[2]))]
    absent = re.findall(r"\babsent\(", expression) if '"usecase", "all"' not in expression else []
    return [*added, *matched, *absent]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def forgets(matching: str, labels: list[str]) -> bool:
    # An exporter that tells of no use case is known by its environment, and where nothing came, by nothing.
    return labels == ["usecase"] if matching == "on" else bool(WHOSE & set(labels))


@pytest.mark.needs_prometheus
def test_the_cases_hold() -> None:
    files = sorted(str(file) for file in (FOLDER / "tests").glob("*.yml"))
    assert run("promtool", "test", "rules", *files).count("SUCCESS") == len(files)


@pytest.mark.needs_prometheus
def test_a_rule_that_never_fires_fails_its_case(tmp_path: Path) -> None:
    program = system_program("promtool", "prometheus")
    for file in ("rules.yml", "recording.yml", "tests/serving.yml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        text = (FOLDER / file).read_text().replace("expr: incumbent_ready == 0", "expr: incumbent_ready == 7")
        (tmp_path / file).write_text(text)
    cases = str(tmp_path / "tests" / "serving.yml")
    done = subprocess.run([program, "test", "rules", cases], capture_output=True, text=True)
    assert done.returncode != 0
    assert "NotReady" in done.stdout + done.stderr


@pytest.mark.needs_prometheus
def test_prometheus_and_alertmanager_accept_their_files() -> None:
    run("promtool", "check", "config", str(FOLDER / "prometheus.yml"))
    config = str(PROJECT / "deploy" / "alertmanager.yml")
    run("amtool", "check-config", config)
    for name, rule in alerts().items():
        severity = rule["labels"]["severity"]
        labels = [f"alertname={name}", f"severity={severity}"]
        receiver = run("amtool", "config", "routes", "test", f"--config.file={config}", *labels).strip()
        assert receiver == ("watchdog" if name == "Watchdog" else severity)


def test_rules_ask_only_for_metrics_that_somebody_exports() -> None:
    texts = [(FOLDER / file).read_text() for file in ("rules.yml", "recording.yml")]
    asked = set(re.findall(r"\b(incumbent_\w+)", "\n".join(texts)))
    known = {metric.full_name + ("_total" if metric.kind == "counter" else "") for metric in CATALOGUE}
    own = {"incumbent_exporter_database_up", "incumbent_request_total", "incumbent_request_duration_seconds_bucket"}
    assert asked - known - own - _of_the_service() == set()


def _of_the_service() -> set[str]:
    from monitoring.metrics import process as processload
    from monitoring.metrics import serving as metrics

    found = set()
    for instrument in [*vars(metrics).values(), *vars(processload).values()]:
        if hasattr(instrument, "describe") and not isinstance(instrument, type):
            found |= {one.name + ("_total" if one.type == "counter" else "") for one in instrument.describe()}
    return found
