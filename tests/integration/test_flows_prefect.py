"""The whole stack, started as ``incumbent up`` does, from a foreign folder: deployments, runs, addresses."""

from __future__ import annotations

import os
import re
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
from tests.prefect_api import Desk, prefect_api
from tests.servers import House


@dataclass
class Office:
    """A house with a tiny champion and a Prefect server with a worker."""

    house: House
    stack: Stack
    desk: Desk
    folder: Path


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
            assert set(started) == set(stack.keepers)
            assert {keeper.state for keeper in stack.keepers.values()} == {"running", "done"}
            with prefect_api(stack.urls["prefect"]) as api:
                log = home.logs / "prefect-worker.log"
                yield Office(house, stack, Desk(api, "staging-fraud-{}", log), folder)
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
        found = office.desk.deployment(flow)
        assert found["tags"][:2] == ["staging", "fraud"]
        assert found["parameters"]["usecase"] == "fraud"
        assert found["global_concurrency_limit"]["limit"] == 1
        assert all(not schedule["active"] for schedule in found["schedules"])
        assert found["job_variables"]["env"]["INCUMBENT_HOME"] == str(office.stack.home.root)
        assert not found["pull_steps"]


def test_forms_offer_choices_and_safe_defaults(office: Office) -> None:
    promotion = office.desk.deployment("promotion")["parameter_openapi_schema"]["properties"]
    assert promotion["preview"]["default"] is True
    assert "Switch off to promote" in promotion["preview"]["description"]
    html = office.desk.deployment("drift")["parameter_openapi_schema"]["properties"]["html"]
    assert html["enum"] == ["on_change", "always", "never"]
    training = office.desk.deployment("training")["parameter_openapi_schema"]
    kinds = training["definitions"]["SourceChoice"]["properties"]["kind"]["anyOf"][0]["enum"]
    assert "parquet" in kinds


def test_a_parameter_of_the_wrong_type_is_refused_by_the_server(office: Office) -> None:
    url = f"/deployments/{office.desk.deployment('promotion')['id']}/create_flow_run"
    answer = office.desk.api.post(url, json={"parameters": {"preview": "perhaps"}})
    assert answer.status_code == 409


def test_runs_of_the_worker_end_in_states_that_say_why_and_link_their_page(office: Office) -> None:
    calm = office.desk.start("drift", as_of="2026-03-01T00:00:00+00:00")
    failed = office.desk.start("labels", path=str(office.stack.home.root / "absent.csv"))
    state = office.desk.end_of(calm)
    assert state["type"] == "COMPLETED", state["message"]
    assert state["message"].startswith("insufficient_data")
    state = office.desk.end_of(failed)
    assert state["type"] == "FAILED"
    assert "no such file or folder" in state["message"]
    artifacts = office.desk.artifacts()
    assert "staging-fraud-drift-summary" in artifacts
    (link,) = re.findall(r"\((http[^)]+)\)", artifacts["staging-fraud-drift-report"]["data"])
    assert link.startswith(office.stack.urls["reports"])
    assert "Insufficient data: 0 rows" in httpx.get(link, trust_env=False).raise_for_status().text


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
    for _ in range(10):
        office.desk.api.post("/events", json=[drift_event(as_of)]).raise_for_status()
    state = office.desk.end_of(office.desk.first_run("retraining")["id"])
    assert state["type"] == "COMPLETED", state["message"]
    (run,) = office.desk.runs("retraining")
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
