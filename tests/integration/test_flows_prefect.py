"""The whole stack, started as ``incumbent up`` does, from a foreign folder: deployments, runs, addresses."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.errors import PortTaken
from flows.home import open_home
from flows.stack import Ports, Stack, running, start_all
from tests.builders import tiny_model
from tests.prefect_api import prefect_api
from tests.servers import House

WORKER_PATIENCE = 180.0


@dataclass
class Office:
    """A house with a tiny champion and a Prefect server with a worker."""

    house: House
    stack: Stack
    api: httpx.Client
    folder: Path

    def deployment(self, flow: str) -> dict[str, Any]:
        answer = self.api.get(f"/deployments/name/{flow}/staging-fraud-{flow}")
        return dict(answer.raise_for_status().json())

    def start(self, flow: str, **parameters: object) -> str:
        url = f"/deployments/{self.deployment(flow)['id']}/create_flow_run"
        return str(self.api.post(url, json={"parameters": parameters}).raise_for_status().json()["id"])

    def end_of(self, run_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + WORKER_PATIENCE
        while time.monotonic() < deadline:
            run = self.api.get(f"/flow_runs/{run_id}").raise_for_status().json()
            if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return dict(run["state"])
            time.sleep(0.25)
        raise AssertionError(f"run {run_id} did not end: {(self.stack.home.logs / 'prefect-worker.log').read_text()}")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    house = House(folder / "home")
    house.settings = house.settings.model_copy(update={"env": "staging"})
    bare = tiny_model()
    model = replace(bare, metadata=replace(bare.metadata, training_end="2026-01-01T00:00:00+00:00"))
    house.appoint(house.add(model), model.contract_digest)
    home = open_home(home=folder / "home", env="staging")
    before = Path.cwd()
    os.chdir(folder)  # deployments must not depend on where they are made
    try:
        with running(home, Ports.find()) as stack:
            started: list[str] = []
            start_all(stack, started.append)
            assert set(started) == {"Prefect server", "reports", "scribe", "service", "exporter", "prefect-worker"}
            with prefect_api(stack.urls["prefect"]) as api:
                yield Office(house, stack, api, folder)
    finally:
        os.chdir(before)


def test_deployments_carry_environment_limits_help_and_sleeping_schedules(office: Office) -> None:
    for flow in (
        "training",
        "evaluation",
        "drift",
        "comparison",
        "promotion",
        "rollback",
        "scoring",
        "labels",
        "retraining",
        "tuning",
    ):
        found = office.deployment(flow)
        assert found["tags"][:2] == ["staging", "fraud"]
        assert found["parameters"]["usecase"] == "fraud"
        assert found["global_concurrency_limit"]["limit"] == 1
        assert all(not schedule["active"] for schedule in found["schedules"])
        assert found["job_variables"]["env"]["INCUMBENT_HOME"] == str(office.stack.home.root)
        assert not found["pull_steps"]


def test_forms_offer_choices_and_safe_defaults(office: Office) -> None:
    promotion = office.deployment("promotion")["parameter_openapi_schema"]["properties"]
    assert promotion["preview"]["default"] is True
    assert "Switch off to promote" in promotion["preview"]["description"]
    html = office.deployment("drift")["parameter_openapi_schema"]["properties"]["html"]
    assert html["enum"] == ["on_change", "always", "never"]
    training = office.deployment("training")["parameter_openapi_schema"]
    kinds = training["definitions"]["SourceChoice"]["properties"]["kind"]["anyOf"][0]["enum"]
    assert "parquet" in kinds


def test_a_parameter_of_the_wrong_type_is_refused_by_the_server(office: Office) -> None:
    url = f"/deployments/{office.deployment('promotion')['id']}/create_flow_run"
    answer = office.api.post(url, json={"parameters": {"preview": "perhaps"}})
    assert answer.status_code == 409


def test_runs_of_the_worker_end_in_states_that_say_why(office: Office) -> None:
    calm = office.start("drift", as_of="2026-03-01T00:00:00+00:00")
    failed = office.start("labels", path=str(office.stack.home.root / "absent.csv"))
    state = office.end_of(calm)
    assert state["type"] == "COMPLETED", state["message"]
    assert state["message"].startswith("insufficient_data")
    state = office.end_of(failed)
    assert state["type"] == "FAILED"
    assert "no such file or folder" in state["message"]
    artifacts = office.api.post("/artifacts/filter", json={}).raise_for_status().json()
    assert "staging-fraud-drift-summary" in {artifact["key"] for artifact in artifacts}


def drift_event(as_of: str) -> dict[str, Any]:
    """What a drift check sends."""
    payload = {"model": "staging-fraud/1", "as_of": as_of, "band": "severe", "score_moved": True, "share": 0.4}
    return {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "staging.model.drift.detected",
        "resource": {"prefect.resource.id": "model.staging-fraud"},
        "payload": payload | {"features": {"amount": 0.6}},
    }


def test_ten_alarms_ask_the_retraining_policy_once_with_their_evidence(office: Office) -> None:
    as_of = "2026-01-05T00:00:00+00:00"
    deployment = office.deployment("retraining")["id"]
    for _ in range(10):
        office.api.post("/events", json=[drift_event(as_of)]).raise_for_status()
    asked = {"deployments": {"id": {"any_": [deployment]}}}
    deadline = time.monotonic() + WORKER_PATIENCE
    while not (runs := office.api.post("/flow_runs/filter", json=asked).raise_for_status().json()):
        assert time.monotonic() < deadline, "no run was made"
        time.sleep(0.25)
    state = office.end_of(runs[0]["id"])
    assert state["type"] == "COMPLETED", state["message"]
    (run,) = office.api.post("/flow_runs/filter", json=asked).raise_for_status().json()
    assert run["parameters"]["as_of"] == as_of
    assert run["parameters"]["evidence"]["features"] == {"amount": 0.6}
    with office.house.store() as store:
        kept = store.reports.latest("fraud", "retraining")
    assert kept is not None
    assert kept.payload["asked"] == "drift severe, 0.4 of the features"
    assert kept.payload["evidence"]["band"] == "severe"
    assert kept.as_of == datetime.fromisoformat(as_of)


def test_every_part_answers_at_its_published_address(office: Office) -> None:
    urls = office.stack.home.known_addresses()
    assert urls == office.stack.urls
    page = office.stack.home.settings.reports / "drift" / "page.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("<p>a report</p>")
    assert httpx.get(f"{urls['reports']}/drift/page.html", trust_env=False).text == "<p>a report</p>"
    assert httpx.get(f"{urls['service']}/livez", trust_env=False).status_code == 200
    assert httpx.get(f"{urls['prefect']}/health", trust_env=False).json() is True


def test_a_second_stack_in_the_same_home_is_refused(office: Office) -> None:
    with pytest.raises(PortTaken, match="already up"), running(office.stack.home, Ports.find()):
        pass


def test_state_lies_inside_the_home(office: Office) -> None:
    home = office.stack.home
    assert (home.prefect / "prefect.db").is_file()
    assert (home.root / "bentoml").is_dir()
    assert not (office.folder / ".prefect").exists()
    assert sorted(p.name for p in office.folder.iterdir()) == ["home"]
