"""deploy/compose.yaml: valid by schema, and in step with the code that it starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import yaml

from bentos.settings import Settings
from flows.stack.local_stack import Ports
from monitoring.core.hosts import AllowedHosts
from monitoring.exporter.__main__ import ExporterSettings

PROJECT = Path(__file__).resolve().parents[3]
DEPLOY = PROJECT / "deploy"
FILE = DEPLOY / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {"incumbent", "incumbent-flows"}
READ_ELSEWHERE = {"INCUMBENT_REPORTS_URL", "INCUMBENT_PORT", "INCUMBENT_MLFLOW_LOGIN"}
"""Read by flows.stack.local_stack, by the compose file alone, and by flows.workspace.logins."""


def scraped(**environment: str) -> list[dict[str, Any]]:
    """The targets that Prometheus' container writes before it starts, with these variables."""
    (script,) = SERVICES["prometheus"]["command"]
    with tempfile.TemporaryDirectory() as folder:
        script = script.replace("$$", "$").replace("/etc/incumbent/targets", folder)
        words = ["/bin/sh", "-euc", script.replace("exec /bin/prometheus", "exec true")]
        subprocess.run(words, env=environment, check=True, timeout=600)
        return [one for file in sorted(Path(folder).iterdir()) for one in json.loads(file.read_text())]


def targets() -> list[str]:
    config = yaml.safe_load((PROJECT / "monitoring" / "prometheus" / "prometheus.yml").read_text())
    alerting = [manager["static_configs"] for manager in config["alerting"]["alertmanagers"]]
    static = [target for group in alerting for one in group for target in one["targets"]]
    return [*static, *(target for one in scraped(USECASE="fraud", ENV="prod") for target in one["targets"])]


def listening(service: str) -> set[str]:
    """Ports inside a container that are probed or published."""
    probe = " ".join(SERVICES[service]["healthcheck"]["test"])
    published = [str(port).rpartition(":")[2] for port in SERVICES[service].get("ports", [])]
    return {*re.findall(r"127\.0\.0\.1:(\d+)", probe), *published}


def test_the_file_follows_the_compose_specification() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec", str(FILE)],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_whole_house_is_there() -> None:
    wanted = {"service", "scribe", "exporter", "postgres", "redis", "mlflow", "prefect-server", "prefect-worker"}
    assert set(SERVICES) >= wanted | {"prometheus", "alertmanager", "grafana"}


def test_every_image_is_pinned_and_ours_carries_the_version_of_the_project() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    for service in SERVICES.values():
        name, _, tag = service["image"].partition(":")
        assert tag == version if name in OURS else re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-\w+)?", tag), service["image"]
    guide = (PROJECT / "docs" / "how-to" / "containers.md").read_text()
    assert all(f"{name}:{version}" in guide for name in OURS)


def test_every_service_has_a_health_check_limits_and_no_root() -> None:
    for name, service in SERVICES.items():
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert str(service["user"]).partition(":")[0] not in ("", "0", "root"), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["restart"] == "unless-stopped", name


def test_every_volume_is_declared_and_used_and_every_mounted_file_exists() -> None:
    used = set()
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
            else:
                used.add(source)
    assert used == set(COMPOSE["volumes"])


def test_every_variable_of_ours_is_a_setting_that_the_code_reads() -> None:
    known = {f"INCUMBENT_{name.upper()}" for name in (*Settings.model_fields, *ExporterSettings.model_fields)}
    found = set(re.findall(r"\bINCUMBENT_[A-Z_]+\b", FILE.read_text()))
    assert found - known - READ_ELSEWHERE == set()


def test_settings_in_the_file_are_values_that_the_code_accepts() -> None:
    for name in ("service", "scribe", "exporter", "prefect-worker"):
        environment = SERVICES[name]["environment"]
        given = {key.removeprefix("INCUMBENT_").lower(): _default(str(value)) for key, value in environment.items()
                 if key.startswith("INCUMBENT_") and key not in READ_ELSEWHERE}  # fmt: skip
        kind = ExporterSettings if name == "exporter" else Settings
        assert kind(**given).log_url.startswith("postgresql://incumbent:")
        assert ("mlflow_uri" not in given) or given["mlflow_uri"] == "http://mlflow:5000"


def test_addresses_inside_the_house_lead_to_a_service_that_listens_there() -> None:
    text = FILE.read_text()
    inside = set(re.findall(r"[/@]([a-z][a-z-]+):(\d{4})\b", text)) | {tuple(t.split(":")) for t in targets()}
    inside = {(host, port) for host, port in inside if host != "localhost"}
    assert {host for host, _ in inside} <= set(SERVICES)
    known = {"postgres": {"5432"}, "redis": {"6379"}}
    for host, port in inside:
        assert port in known.get(host, listening(host)), (host, port)


def test_prometheus_is_told_whose_each_target_is_and_reads_the_files_that_tell() -> None:
    assert {one["targets"][0]: one["labels"] for one in scraped(USECASE="churn", ENV="staging")} == {
        "service:3000": {"usecase": "churn", "env": "staging"},
        "exporter:9109": {"usecase": "all", "env": "staging"},
    }
    given = SERVICES["prometheus"]["environment"]
    workspace = SERVICES["service"]["environment"]
    assert (given["USECASE"], given["ENV"]) == (workspace["INCUMBENT_USECASE"], workspace["INCUMBENT_ENV"])
    config = yaml.safe_load((PROJECT / "monitoring" / "prometheus" / "prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        (found,) = job["file_sd_configs"]
        assert [Path(file).parent.as_posix() for file in found["files"]] == SERVICES["prometheus"]["tmpfs"]
        assert job["honor_labels"] is True, "what is scraped knows its own use case"


def test_published_ports_are_those_that_the_local_stack_prefers() -> None:
    preferred = Ports(4200, 3000, 8900, exporter=9109)
    assert "3000" in listening("service")
    assert listening("prefect-server") == {str(preferred.prefect)}
    assert listening("reports") == {str(preferred.reports)}
    assert listening("exporter") == {str(ExporterSettings.model_fields["exporter_port"].default)}
    public = [port for service in SERVICES.values() for port in service.get("ports", []) if "127.0.0.1" not in port]
    assert public == ["${INCUMBENT_PORT:-3000}:3000"]


def test_the_processes_of_the_image_share_its_user_and_its_spool() -> None:
    recipe = {name: SERVICES[name] for name in ("service", "scribe", "exporter")}
    assert {one["image"] for one in recipe.values()} == {"incumbent:0.1.0"}
    assert all("state:/var/lib/incumbent" in one["volumes"] for one in recipe.values())
    assert SERVICES["scribe"]["command"] == ["python", "-m", "bentos.scribe"]
    assert SERVICES["exporter"]["command"] == ["python", "-m", "monitoring.exporter"]
    assert "command" not in SERVICES["service"]


def test_secrets_come_from_the_env_file_and_the_example_names_every_variable() -> None:
    text = FILE.read_text()
    asked = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
    example = (DEPLOY / ".env.example").read_text()
    named = dict(re.findall(r"^([A-Z_]+)=(.*)$", example, flags=re.MULTILINE))
    assert set(named) == asked
    secrets = [name for name in named if name.endswith(("_PASSWORD", "_TOKEN"))]
    assert len(secrets) == 6
    assert all(not named[name] for name in secrets)
    assert all(f"${{{name}:?" in text for name in secrets)


def test_no_secret_stands_on_a_command_line() -> None:
    for name, service in SERVICES.items():
        words = " ".join([*service.get("command", []), *service["healthcheck"]["test"]])
        assert not re.search(r"(?<!\$)\$\{\w*(PASSWORD|TOKEN)", words), name
    assert "requirepass $$REDIS_PASSWORD" in SERVICES["redis"]["command"][2].split("<<END")[1]


def test_a_server_without_a_login_is_published_nowhere_and_prefect_is_never_open() -> None:
    for name in ("postgres", "redis", "exporter", "alertmanager"):
        assert "ports" not in SERVICES[name], name
    assert SERVICES["prefect-server"]["command"][:3] == ["python", "-m", "flows.workspace.prefect_server"]
    assert SERVICES["reports"]["command"][:3] == ["python", "-m", "flows.console"]
    assert SERVICES["mlflow"]["command"][:3] == ["python", "-m", "flows.workspace.mlflow_server"]
    assert SERVICES["mlflow"]["environment"]["INCUMBENT_MLFLOW_LOGIN"].startswith("admin:${MLFLOW_PASSWORD:?")
    for name in (one for one, service in SERVICES.items() if "INCUMBENT_MLFLOW_URI" in service.get("environment", {})):
        assert SERVICES[name]["environment"]["MLFLOW_TRACKING_PASSWORD"].startswith("${MLFLOW_PASSWORD:?"), name
    for name, variable in (
        ("prefect-server", "PREFECT_SERVER_API_AUTH_STRING"),
        ("prefect-worker", "PREFECT_API_AUTH_STRING"),
    ):
        assert SERVICES[name]["environment"][variable].startswith("admin:${PREFECT_PASSWORD:?")
    holders = [name for name, one in SERVICES.items() if "PREFECT_PASSWORD" in str(one)]
    # The notifier reads what is planned and what did not run.
    assert sorted(holders) == ["notifier", "prefect-server", "prefect-worker"]


def test_code_of_the_worker_runs_as_a_user_that_no_server_with_secrets_has() -> None:
    worker = SERVICES["prefect-worker"]["user"]
    assert {name for name, one in SERVICES.items() if one["user"] == worker} == {"prefect-worker", "reports"}
    assert all(mount.endswith(":ro") for mount in SERVICES["reports"]["volumes"])
    assert f"--uid {worker.partition(':')[0]}" in (DEPLOY / "flows.Dockerfile").read_text()


def test_names_inside_the_house_are_among_the_allowed_hosts() -> None:
    for name, port in (("prefect-server", "4200"), ("exporter", "9109")):
        rule = AllowedHosts.of("0.0.0.0", SERVICES[name]["environment"]["INCUMBENT_ALLOWED_HOSTS"])
        assert rule.refusal([f"{name}:{port}"], None) is None
        assert rule.refusal(["evil.example"], None) is not None


def test_databases_that_are_asked_for_are_made() -> None:
    made = set(re.findall(r"CREATE DATABASE (\w+)", (DEPLOY / "postgres.sql").read_text())) | {"incumbent"}
    assert set(re.findall(r"@postgres:5432/(\w+)", FILE.read_text())) == made


def _default(value: str) -> str:
    """What compose puts in where the operator says nothing; a required value gets a stand-in."""
    value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
    return re.sub(r"\$\{\w+:\?[^}]*\}", "secret", value)
