"""The whole stack, started as ``incumbent up`` does, from a foreign folder: deployments, runs, addresses."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from bentos.secretfile import read_secret
from flows.errors import PortTaken
from flows.home import open_home
from flows.logins import console_token_file, prefect_login_file, read_prefect_login
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
            with prefect_api(stack) as api:
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
        assert found["job_variables"] == {}
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
    with console(office.stack) as browser:
        assert "Insufficient data: 0 rows" in browser.get(link).raise_for_status().text


def console(stack: Stack) -> httpx.Client:
    """A browser that followed the link with the token."""
    browser = httpx.Client(base_url=stack.urls["reports"], trust_env=False, follow_redirects=True, timeout=30)
    token = read_secret(console_token_file(stack.home.root))
    assert browser.get("/login", params={"token": token}).raise_for_status().url.path == "/"
    return browser


def test_prefect_asks_for_the_login_and_answers_its_own_pages_alone(office: Office) -> None:
    url = office.stack.urls["prefect"]
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as stranger:
        for path in ("/deployments/filter", "/flow_runs/filter"):
            assert stranger.post(path, json={}).status_code == 401
        assert stranger.get("/admin/settings").status_code == 401
        assert stranger.get("/docs").status_code == 401
        own = {"Origin": url.removesuffix("/api"), "Access-Control-Request-Method": "POST"}
        assert stranger.options("/deployments/filter", headers=own).headers["access-control-allow-origin"]
        preflight = stranger.options("/deployments/filter", headers=own | {"Origin": "https://evil.example"})
        assert preflight.status_code == 403
        assert "access-control-allow-origin" not in preflight.headers
        for host in ("evil.example", f"evil.example:{office.stack.ports.prefect}", "127.0.0.1.evil.example", ""):
            assert stranger.get("/health", headers={"Host": host}).status_code in (400, 421), host
    login = office.desk.api.auth
    with httpx.Client(base_url=url, trust_env=False, timeout=60, auth=login) as forger:
        simple = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
        assert forger.post("/deployments/filter", content="{}", headers=simple).status_code == 403
        assert forger.post("/deployments/filter", json={}).status_code == 403  # no CSRF token
        pages = forger.get(url.removesuffix("/api") + "/", headers={"Accept": "text/html"}, follow_redirects=True)
        assert pages.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "path", ["/events/in", "/events/out", "/logs/out", "/task_runs/subscriptions/scheduled"], ids=lambda path: path[1:]
)
def test_a_websocket_of_prefect_asks_for_the_login_and_refuses_other_sites(office: Office, path: str) -> None:
    url = office.stack.urls["prefect"].replace("http", "ws", 1) + path
    login = read_prefect_login(office.stack.home.root)

    def greet(token: str, origin: str | None = None) -> str:
        with connect(url, subprotocols=[Subprotocol("prefect")], origin=Origin(origin) if origin else None) as socket:
            socket.send(json.dumps({"type": "auth", "token": token}))
            return str(json.loads(socket.recv(timeout=60))["type"])

    assert greet(login) == "auth_success"
    with pytest.raises(ConnectionClosed):
        greet("admin:guess")
    with pytest.raises(InvalidStatus):
        greet(login, "https://evil.example")
    with pytest.raises((InvalidStatus, ConnectionClosed)), connect(url) as socket:
        socket.recv(timeout=60)


def test_no_job_variable_of_a_run_is_a_command_for_the_worker(office: Office, tmp_path: Path) -> None:
    api, deployment = office.desk.api, office.desk.deployment("labels")
    owned = tmp_path / "owned"
    harmful: list[dict[str, Any]] = [{"command": f"touch {owned}"}, {"env": {"PATH": str(tmp_path)}}, {"env.A": "b"}]
    for variables in harmful:
        body = {"job_variables": variables, "parameters": {}}
        assert api.post(f"/deployments/{deployment['id']}/create_flow_run", json=body).status_code == 422
    # A run of no deployment is not checked by the server, so the worker's own template has to hold.
    bare = {
        "flow_id": deployment["flow_id"], "work_pool_name": "incumbent", "state": {"type": "SCHEDULED"},
        "job_variables": harmful[0] | harmful[1],
    }  # fmt: skip
    run = api.post("/flow_runs/", json=bare).raise_for_status().json()["id"]
    assert office.desk.end_of(run)["type"] in ("CRASHED", "FAILED")
    assert not owned.exists()


def test_the_logins_are_for_their_owner_alone_and_show_nowhere(office: Office) -> None:
    home = office.stack.home
    files = [prefect_login_file(home.root), console_token_file(home.root)]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    words = [read_secret(file).rpartition(":")[2] for file in files]
    running_now = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    shown = running_now + "".join(file.read_text(errors="replace") for file in home.logs.iterdir())
    shown += json.dumps(office.desk.api.post("/deployments/filter", json={}).json()) + home.addresses.read_text()
    assert not any(word in shown for word in words)
    for name in ("service", "scribe", "exporter", "reports"):
        (child,) = (child for child in office.stack.children if child.command.name == name)
        assert not any(words[0] in value for value in child.command.environment.values()), name


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
    with console(office.stack) as browser:
        assert browser.get("/drift/page.html").text == "<p>a report</p>"
    assert "a report" not in httpx.get(f"{urls['reports']}/drift/page.html", trust_env=False).text
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
