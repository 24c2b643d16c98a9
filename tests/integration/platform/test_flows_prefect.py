"""The whole stack, started as ``incumbent up`` does, from a foreign folder: deployments, runs, addresses."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.server.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from bentos.keys.secret_file import read_secret
from flows.errors import PortTaken
from flows.runs.links import stack_pages
from flows.stack.deployment_file import Declaration, read_declarations
from flows.stack.deployments import deploy, deploy_declaration
from flows.stack.local_stack import Ports, Stack, program, running, start_all
from flows.workspace.installation import PROJECT, deployment_values, open_home
from flows.workspace.logins import console_token_file, prefect_login_file, read_prefect_login
from tests.support.builders import tiny_model
from tests.support.processes.prefect_api import PATIENCE, Desk, prefect_api
from tests.support.processes.servers import House


@dataclass
class Office:
    """A home with a tiny champion and a Prefect server with a worker."""

    workspace: House
    stack: Stack
    desk: Desk
    folder: Path


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    workspace = House(folder / "home")
    workspace.settings = workspace.settings.model_copy(update={"env": "staging"})
    bare = tiny_model()
    model = replace(bare, metadata=replace(bare.metadata, training_end="2026-01-01T00:00:00+00:00"))
    workspace.appoint(workspace.add(model), model.contract_digest)
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
                yield Office(workspace, stack, Desk(api, "staging-fraud-{}", log), folder)
    finally:
        os.chdir(before)


def test_a_stack_that_is_well_is_well_in_the_eyes_of_status_deep(office: Office) -> None:
    def look() -> dict[str, Any]:
        done = subprocess.run(
            [program("incumbent"), "status", "--deep", "--json"], env=office.stack.environment, capture_output=True,
            text=True, check=False, timeout=600,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode, found["failed"]) == (0, []), done.stdout
        return found

    # A worker that has just begun is not looked at until it has called the server.
    deadline = time.monotonic() + PATIENCE
    while (found := look())["checks"]["worker"]["state"] != "ok":
        assert time.monotonic() < deadline, found["checks"]["worker"]
        time.sleep(1)
    well = {name for name, check in found["checks"].items() if check["state"] == "ok"}
    assert {
        "stack",
        "champion",
        "schedules",
        "worker",
        "prefect login",
        "prefect hosts",
        "work pool",
        "reports",
    } <= well


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
    assert state["message"] == f"source_options: {office.stack.home.root / 'absent.csv'}: no such file or folder"
    said = office.desk.api.post("/logs/filter", json={"logs": {"flow_run_id": {"any_": [failed]}}}).json()
    assert said
    assert not [line for line in said if "Traceback" in line["message"]]
    names = [office.desk.api.get(f"/flow_runs/{run}").raise_for_status().json()["name"] for run in (calm, failed)]
    assert names[0] == "check the drift of staging-fraud as of 2026-03-01"
    assert re.fullmatch(r"import labels of staging-fraud at \d{4}-\d\d-\d\d \d\d:\d\d UTC", names[1])
    steps = office.desk.api.post("/task_runs/filter", json={"flow_runs": {"id": {"any_": [calm]}}}).json()
    assert "load staging-fraud/1" in {step["name"] for step in steps}
    told = office.desk.api.post("/logs/filter", json={"logs": {"flow_run_id": {"any_": [calm]}}}).json()
    messages = [line["message"] for line in told]
    assert "read 0 answers of 2026-02-26 to 2026-02-27: insufficient_data" in messages, messages
    artifacts = office.desk.artifacts()
    assert "staging-fraud-drift-summary" in artifacts
    (link,) = re.findall(r"\((http[^)]+)\)", artifacts["staging-fraud-drift-report"]["data"])
    assert link.startswith(office.stack.urls["reports"])
    with console(office.stack) as browser:
        assert "Insufficient data: 0 rows" in browser.get(link).raise_for_status().text


@contextmanager
def console(stack: Stack) -> Iterator[httpx.Client]:
    """A browser that followed the link with the token."""
    with httpx.Client(base_url=stack.urls["reports"], trust_env=False, follow_redirects=True, timeout=30) as browser:
        token = read_secret(console_token_file(stack.home.root))
        assert browser.get("/login", params={"token": token}).raise_for_status().url.path == "/"
        yield browser


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


def test_a_work_pool_that_a_person_paused_and_limited_stays_so_and_its_template_follows_the_program(
    office: Office,
) -> None:
    api, path = office.desk.api, "/work_pools/incumbent"
    loose = {"job_configuration": {"command": "{{ command }}"}, "variables": {"properties": {"command": {}}}}
    chosen = {"is_paused": True, "concurrency_limit": 3, "description": "paused for the audit"}
    ours = api.get(path).raise_for_status().json()["base_job_template"]
    try:
        for template, change in ((ours, "as it was"), (loose, "changed")):
            api.patch(path, json=chosen | {"base_job_template": template}).raise_for_status()
            done = subprocess.run(
                [sys.executable, "-m", "flows.stack.deployments"], env=office.stack.environment, check=True,
                capture_output=True, text=True, timeout=PATIENCE,
            )  # fmt: skip
            assert f"work pool incumbent: {change}\n" in done.stdout
            pool = api.get(path).raise_for_status().json()
            assert {name: pool[name] for name in chosen} == chosen
            assert pool["base_job_template"] == ours
    finally:
        api.patch(path, json={"is_paused": False, "concurrency_limit": None}).raise_for_status()


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
    with office.workspace.store() as store:
        kept = store.reports.latest("fraud", "retraining")
    assert kept is not None
    assert kept.payload["asked"] == "drift severe, 0.4 of the features"
    assert kept.payload["evidence"]["band"] == "severe"
    assert kept.as_of == datetime.fromisoformat(as_of)


def test_every_link_that_is_printed_opens_in_a_browser(office: Office) -> None:
    """The addresses of ``up`` and of the demo's end, and the links of every artifact."""
    printed = stack_pages(office.stack.home.live_addresses())
    assert {"prefect_ui", "service", "reports", "metrics", "exporter"} == set(printed)
    artifacts = office.desk.artifacts()
    found = {url for one in artifacts.values() for url in re.findall(r"\((\w+://[^)\s]+)\)", str(one["data"]))}
    assert found, "no artifact links to a page"
    with console(office.stack) as browser:
        for url in [*printed.values(), *found]:
            assert url.startswith("http"), url
            assert browser.get(url).status_code == 200, url


def test_every_part_answers_at_its_published_address(office: Office) -> None:
    urls = office.stack.home.live_addresses()
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


def declarations_of(office: Office, monkeypatch: pytest.MonkeyPatch) -> dict[str, Declaration]:
    """The file as this home has it, by flow."""
    monkeypatch.setenv("INCUMBENT_HOME", str(office.stack.home.root))
    monkeypatch.setenv("INCUMBENT_ENV", "staging")
    return {one.flow: one for one in read_declarations(deployment_values())}


def on_server(office: Office, flow: str) -> dict[str, Any]:
    """What a person may have changed of a deployment."""
    names = ("id", "parameters", "paused", "tags", "description", "job_variables")
    found = office.desk.deployment(flow)
    # The limit also counts the runs of this minute, which come and go by themselves.
    return {name: found[name] for name in names} | {
        "limit": found["global_concurrency_limit"]["limit"],
        "schedules": sorted(found["schedules"], key=lambda one: str(one["id"])),
    }


def resume(office: Office, flow: str) -> str:
    """Switch a schedule on as a person does at a terminal; its id."""
    found = office.desk.deployment(flow)
    (schedule,) = found["schedules"]
    words = ["deployment", "schedule", "resume", f"{flow}/{found['name']}", schedule["id"]]
    subprocess.run([program("prefect"), *words], env=office.stack.environment, check=True, timeout=PATIENCE)
    return str(schedule["id"])


def planned(office: Office, flow: str) -> list[dict[str, Any]]:
    """Runs that the server's scheduler has planned, once there are some."""
    deadline = time.monotonic() + PATIENCE
    while not (found := [run for run in office.desk.runs(flow) if run["auto_scheduled"]]):
        assert time.monotonic() < deadline, f"no run of {flow} was planned"
        time.sleep(0.25)
    return sorted(found, key=lambda run: str(run["expected_start_time"]))


def start_now(office: Office, run: dict[str, Any]) -> dict[str, Any]:
    """Do not wait for the night: a planned run is due at once. The state in which it ended."""
    due = {"type": "SCHEDULED", "state_details": {"scheduled_time": datetime.now(UTC).isoformat()}}
    body = {"state": due, "force": True}
    office.desk.api.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()
    return office.desk.end_of(run["id"])


def test_a_schedule_that_a_person_switches_on_plans_runs_that_start_and_end(office: Office) -> None:
    resume(office, "promotion")
    runs = planned(office, "promotion")
    for run, due in zip(runs, sorted(run["expected_start_time"] for run in runs), strict=True):
        assert run["expected_start_time"] == due
        assert datetime.fromisoformat(due).hour == 6
    state = start_now(office, runs[0])
    # Prefect forgot the parameters of the schedule when it was switched on; the run promotes nevertheless.
    assert (state["type"], state["name"]) == ("COMPLETED", "Nothing to do"), state["message"]
    assert state["message"].startswith("nothing_to_do: no comparison of fraud is stored")
    with office.workspace.store() as store:
        kept = store.runs.latest("fraud", "promotion")
    assert kept is not None
    assert (kept.state, kept.message) == ("completed", state["message"])
    log = (office.stack.home.logs / "prefect-server.log").read_text()
    assert "bulk DML" not in log, "the scheduler of this Prefect does not work with this SQLAlchemy"


ENDS = {
    "scoring": ("COMPLETED", "Nothing to do", ""),
    "drift": ("COMPLETED", "Completed", ""),
    "comparison": ("COMPLETED", "Nothing to do", ""),
    # The log of this home is empty, and its champion is no training of ours: said in a sentence.
    "retraining": ("FAILED", "Failed", "no_data: log of fraud: it holds no events"),
    "promotion": ("COMPLETED", "Nothing to do", ""),
    "labels": ("COMPLETED", "Completed", ""),
    "tuning": ("COMPLETED", "Nothing to do", ""),
    "evaluation": ("FAILED", "Failed", r"\w+: "),
}
"""How a scheduled run of each flow ends in this home: type and name of its state, beginning of its message."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_schedule_plans_its_runs_at_its_times_and_one_of_each_starts_and_ends(office: Office) -> None:
    api = office.desk.api
    for flow, (kind, name, message) in ENDS.items():
        found = office.desk.deployment(flow)
        (one,) = found["schedules"]
        api.patch(f"/deployments/{found['id']}/schedules/{one['id']}", json={"active": True}).raise_for_status()
        runs = planned(office, flow)
        starts = [datetime.fromisoformat(run["expected_start_time"]) for run in runs]
        wanted = asyncio.run(CronSchedule(**one["schedule"]).get_dates(n=len(starts), start=datetime.now(UTC)))
        assert set(starts) & set(wanted)
        assert all(run["parameters"]["usecase"] == "fraud" for run in runs)
        state = start_now(office, runs[0])
        text = state["message"] or ""  # one that did its work has its summary in the run's artifacts
        assert "Traceback" not in text
        assert (state["type"], state["name"]) == (kind, name), (flow, text)
        assert re.match(message, text), (flow, text)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_look_of_each_minute_runs_by_itself_and_leaves_nothing_behind(office: Office) -> None:
    resume(office, "canary")
    deadline, seen = time.monotonic() + 400, set()
    while len(seen) < 3 and time.monotonic() < deadline:
        ended = [run for run in office.desk.runs("canary") if run["state_type"] == "COMPLETED"]
        assert {run["state_name"] for run in ended} <= {"Nothing to do"}
        seen |= {run["id"] for run in ended}
        assert len(ended) <= 2  # the look that has just ended, and at most the one before
        time.sleep(1.0)
    assert len(seen) >= 3
    with office.workspace.store() as store:
        assert store.runs.latest("fraud", "canary") is None


def test_deploying_again_keeps_what_a_person_changed_and_plans_nothing_anew(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, wanted = office.desk.api, declarations_of(office, monkeypatch)
    for flow in wanted.keys() - {"rollback"}:
        found = office.desk.deployment(flow)
        (one,) = found["schedules"]
        api.patch(f"/deployments/{found['id']}/schedules/{one['id']}", json={"active": True}).raise_for_status()
    drift, comparison, tuning = (office.desk.deployment(flow) for flow in ("drift", "comparison", "tuning"))
    changed = {"parameters": drift["parameters"] | {"html": "never"}, "tags": ["ours"], "paused": False}
    api.patch(f"/deployments/{drift['id']}", json=changed).raise_for_status()
    timing = {"schedule": {"interval": 7200.0, "timezone": "Europe/Berlin"}, "active": True}
    path = f"/deployments/{comparison['id']}/schedules/{comparison['schedules'][0]['id']}"
    api.patch(path, json=timing).raise_for_status()
    api.post(f"/deployments/{tuning['id']}/pause_deployment").raise_for_status()
    api.delete(f"/deployments/{tuning['id']}/schedules/{tuning['schedules'][0]['id']}").raise_for_status()
    extra = [{"schedule": {"cron": "0 12 * * *", "timezone": "UTC"}, "active": True}]
    api.post(f"/deployments/{drift['id']}/schedules", json=extra).raise_for_status()
    (automation,) = api.post("/automations/filter", json={}).raise_for_status().json()
    api.patch(f"/automations/{automation['id']}", json={"enabled": False}).raise_for_status()
    before = {flow: on_server(office, flow) for flow in wanted}
    runs = {flow: {run["id"] for run in planned(office, flow)} for flow in ("drift", "promotion", "retraining")}
    with temporary_settings(of_server(office)):
        assert set(deploy().values()) <= {"as it was", "changed"}  # the promotion's parameters come back
        assert set(deploy().values()) == {"as it was"}
    after = {flow: on_server(office, flow) for flow in wanted}
    (promotion,) = after["promotion"]["schedules"]
    assert promotion["parameters"] == {"preview": False, "reason": "scheduled"}
    for found in (before, after):
        for one in found["promotion"]["schedules"]:
            del one["parameters"], one["updated"]
    assert after == before
    for flow in ("drift", "retraining"):
        assert runs[flow] <= {run["id"] for run in planned(office, flow)}
    (kept,) = api.post("/automations/filter", json={}).raise_for_status().json()
    assert (kept["id"], kept["enabled"]) == (automation["id"], False)


def test_a_new_file_reaches_what_nobody_touched_also_after_a_crash_at_any_step(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, declared = office.desk.api, declarations_of(office, monkeypatch)["evaluation"]
    with temporary_settings(of_server(office)), get_client(sync_client=True) as client:
        for step in range(12):
            found = office.desk.deployment("evaluation")
            path = f"/deployments/{found['id']}/schedules/{found['schedules'][0]['id']}"
            api.patch(path, json={"active": True}).raise_for_status()
            mine = {"parameters": found["parameters"] | {"version": str(step)}}
            api.patch(f"/deployments/{found['id']}", json=mine).raise_for_status()
            cron = f"{step} 5 * * 1"
            (slug,) = declared.kept["schedules"]
            schedule = declared.kept["schedules"][slug]
            later = schedule | {"schedule": schedule["schedule"] | {"cron": cron}}
            fields = {"schedules": {slug: later}, "tags": ["new", str(step)]}
            fields["parameters"] = declared.kept["parameters"] | {"as_of": f"2026-01-{step + 1:02}T00:00:00+00:00"}
            newer = replace(declared, kept=declared.kept | fields)
            with suppress(Cut):
                deploy_declaration(CutShort(client, step), newer)
            deploy_declaration(client, newer)
            now = office.desk.deployment("evaluation")
            assert now["parameters"] == fields["parameters"] | {"version": str(step)}
            assert now["tags"] == ["new", str(step)]
            (one,) = now["schedules"]
            assert (one["schedule"]["cron"], one["active"]) == (cron, True)
            assert deploy_declaration(client, newer) == "as it was"


def of_server(office: Office) -> dict[Any, Any]:
    """Settings with which this process finds the server and its login."""
    login = read_prefect_login(office.stack.home.root)
    return {PREFECT_API_URL: office.stack.urls["prefect"], PREFECT_API_AUTH_STRING: login}


class Cut(Exception):
    """The process died here."""


class CutShort:
    """A client whose process dies before its request of that number."""

    def __init__(self, client: Any, left: int) -> None:
        self._client, self._left = client, left

    def request(self, *words: Any, **named: Any) -> Any:
        if self._left == 0:
            raise Cut
        self._left -= 1
        return self._client.request(*words, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_prefect_deploy_is_refused_and_names_the_command_that_keeps_changes(office: Office) -> None:
    before = on_server(office, "drift")
    file = str(PROJECT / "prefect.yaml")
    done = subprocess.run(
        [program("prefect"), "--no-prompt", "deploy", "--all", "--prefect-file", file],
        env=office.stack.environment, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode != 0
    assert "incumbent deploy" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert on_server(office, "drift") == before
