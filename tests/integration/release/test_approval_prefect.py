"""Both roads of a promotion through a real Prefect server and worker: by itself, and after a person's answer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from bentos.keys import KeyRing, add_key
from bentos.promotion.approval import find_request, issue_code, list_requests
from bentos.registry.ports import ModelRef
from flows.stack.local_stack import Ports, Stack, running
from flows.workspace.installation import open_home
from flows.workspace.processes import stop_all
from monitoring.core.verdict import Verdict
from monitoring.store import Report
from tests.support.builders import tiny_model
from tests.support.processes.prefect_api import prefect_api
from tests.support.processes.servers import PROJECT, House
from tests.support.releases import enter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PATIENCE = 240.0


@dataclass
class Office:
    """A home with three versions, and a Prefect server with a worker."""

    workspace: House
    stack: Stack
    api: httpx.Client
    usecases: dict[str, Path]

    def start(self, flow: str, **parameters: object) -> str:
        named = self.api.get(f"/deployments/name/{flow}/staging-fraud-{flow}").raise_for_status().json()
        answer = self.post(f"/deployments/{named['id']}/create_flow_run", {"parameters": parameters})
        return str(answer.raise_for_status().json()["id"])

    def post(self, path: str, body: Any) -> httpx.Response:
        """Ask again while the server's own database is busy, as its UI does."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self.api.post(path, json=body)
            if answer.status_code != 503 or time.monotonic() > deadline:
                return answer
            time.sleep(1.0)

    def reach(self, run: str, *types: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        state: dict[str, Any] = {}
        while time.monotonic() < deadline:
            answer = self.api.get(f"/flow_runs/{run}")
            if answer.status_code == 503:
                time.sleep(1.0)
                continue
            state = answer.raise_for_status().json()["state"]
            if state["type"] in types:
                return state
            assert state["type"] not in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"), state["message"]
            time.sleep(0.25)
        raise AssertionError(f"{state}: {(self.stack.home.logs / 'prefect-worker.log').read_text()[-3000:]}")

    def due_now(self) -> str:
        """Switch the promotion's schedule on, as a person does, and make its next planned run due at once; its id."""
        named = self.api.get("/deployments/name/promotion/staging-fraud-promotion").raise_for_status().json()
        path = f"/deployments/{named['id']}/schedules/{named['schedules'][0]['id']}"
        self.api.patch(path, json={"active": True}).raise_for_status()
        wanted = {
            "deployments": {"id": {"any_": [named["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        deadline = time.monotonic() + PATIENCE
        while not (runs := self.post("/flow_runs/filter", wanted).raise_for_status().json()):
            assert time.monotonic() < deadline, "nothing was planned"
            time.sleep(0.5)
        due = {"type": "SCHEDULED", "state_details": {"scheduled_time": datetime.now(UTC).isoformat()}}
        self.post(f"/flow_runs/{runs[0]['id']}/set_state", {"state": due, "force": True}).raise_for_status()
        return str(runs[0]["id"])

    def champion(self) -> str:
        return self.workspace.registry.resolve(self.workspace.model, "champion").version

    def compared(self, champion: str, challenger: str) -> Verdict:
        """A challenger with a verdict that says promote."""
        now, model = datetime.now(UTC), self.workspace.model
        self.workspace.appoint(ModelRef(model, challenger), MODELS[challenger].contract_digest, "challenger")
        verdict = Verdict(
            "comparison", "promote", (), f"{model}/{challenger}", f"{model}/{champion}", now, ("it saves money",)
        )
        with self.workspace.store() as store:
            enter(store, verdict)
            store.reports.add(Report("fraud", "comparison", now, "promote", {"verdict": verdict.to_json()}))
        return verdict


MODELS = {str(n): tiny_model(seed=n) for n in (1, 2, 3)}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("approval")
    text = (PROJECT / "bentos" / "usecases" / "fraud" / "usecase.toml").read_text()
    assert "[promotion]\n" in text
    usecases = {}
    for road in ("automatic", "required"):
        usecases[road] = folder / f"{road}.toml"
        usecases[road].write_text(text.replace("[promotion]\n", f'[promotion]\napproval = "{road}"\n'))
    usecases["hasty"] = folder / "hasty.toml"
    hasty = '[promotion]\napproval = "required"\napproval_timeout = "5s"\n'
    usecases["hasty"].write_text(text.replace("[promotion]\n", hasty))
    workspace = House(folder / "home")
    workspace.settings = workspace.settings.model_copy(update={"env": "staging"})
    for version, model in MODELS.items():
        assert workspace.add(model).version == version
    workspace.appoint(ModelRef(workspace.model, "1"), MODELS["1"].contract_digest)
    home = open_home(home=folder / "home", env="staging", usecase=str(usecases["required"]))
    before = Path.cwd()
    os.chdir(folder)
    try:
        with running(home, Ports.find()) as stack:
            stack.keep("prefect-server", "deployments", "prefect-worker")
            stack.wait_ready()
            with prefect_api(stack) as api:
                yield Office(workspace, stack, api, usecases)
    finally:
        os.chdir(before)


def test_without_required_approval_the_run_promotes_by_itself(office: Office) -> None:
    office.compared("1", "2")
    run = office.start("promotion", usecase=str(office.usecases["automatic"]), preview=False, reason="it saves money")
    assert office.reach(run, "COMPLETED")["type"] == "COMPLETED"
    assert office.champion() == "2"


def test_a_scheduled_promotion_asks_for_approval_promotes_and_ends_quietly_the_next_night(office: Office) -> None:
    office.workspace.appoint(ModelRef(office.workspace.model, "1"), MODELS["1"].contract_digest)
    verdict = office.compared("1", "2")
    run = office.due_now()
    assert office.reach(run, "PAUSED")["name"] == "Suspended"
    code, _ = _code(office, verdict)
    form = {"answer": "approve", "name": "ann", "note": "seen", "code": code}
    assert office.post(f"/flow_runs/{run}/resume", {"run_input": form}).json()["status"] == "ACCEPT"
    office.reach(run, "COMPLETED")
    assert office.champion() == "2"
    with office.workspace.store() as store:
        (made,) = store.journal.recent(office.workspace.model, 1)
        assert made.reason == "scheduled"
    again = office.reach(office.due_now(), "COMPLETED", "FAILED")
    assert (again["type"], again["name"]) == ("COMPLETED", "Nothing to do"), again["message"]
    assert "is active already" in again["message"]


def test_after_a_timeout_the_verdict_stays_open_and_the_next_run_asks_again(office: Office) -> None:
    verdict = office.compared("2", "3")
    run = office.start("promotion", usecase=str(office.usecases["hasty"]), preview=False, reason="it saves money")
    assert office.reach(run, "PAUSED", "FAILED")["type"] in ("PAUSED", "FAILED")
    assert office.reach(run, "FAILED")["type"] == "FAILED"
    assert office.champion() == "2"
    again = office.start("promotion", usecase=str(office.usecases["hasty"]), preview=False, reason="it saves money")
    office.reach(again, "PAUSED", "FAILED")
    with office.workspace.store() as store:
        requests = list_requests(store, "fraud", office.workspace.model)
    first, second = (request for request in requests if request.verdict.challenger == verdict.challenger)
    assert first.state(datetime.now(UTC)) == "expired"
    assert (first.verdict, second.verdict) == (verdict, verdict)
    assert {first.run_id, second.run_id} == {run, again}
    office.reach(again, "FAILED")


def test_an_approval_waits_without_a_worker_survives_a_restart_and_promotes(office: Office) -> None:
    verdict = office.compared("2", "3")
    run = office.start("promotion", preview=False, reason="it saves money")
    waiting = office.reach(run, "PAUSED")
    assert waiting["name"] == "Suspended"
    assert office.champion() == "2"
    # Another run of the same deployment, which takes one run at a time, passes the one that waits.
    other = office.start("promotion", usecase=str(office.usecases["automatic"]), preview=True)
    office.reach(other, "COMPLETED")
    _restart_server(office)
    assert office.reach(run, "PAUSED")["name"] == "Suspended"
    description, schema = _form(office, run, waiting)
    assert f"{office.workspace.model}/3" in description
    assert set(schema["properties"]) == {"answer", "name", "note", "code"}
    code, token = _code(office, verdict)
    refused = office.post(f"/flow_runs/{run}/resume", {"run_input": {"answer": "perhaps", "name": "ann"}})
    assert refused.json()["status"] == "REJECT"
    form = {"answer": "approve", "name": "ann", "note": "seen", "code": code}
    slip = form | {"code": code[:-1]}
    assert office.post(f"/flow_runs/{run}/resume", {"run_input": slip}).json()["status"] == "ACCEPT"
    waiting = _asked_again(office, run, waiting)
    description, _ = _form(office, run, waiting)
    assert "The last answer was not taken: the approval code is unknown" in description
    assert office.post(f"/flow_runs/{run}/resume", {"run_input": form}).json()["status"] == "ACCEPT"
    office.reach(run, "COMPLETED")
    assert office.champion() == "3"
    with office.workspace.store() as store:
        granted = store.decisions.list(kinds=("approval.granted",))[-1]
        assert (granted.payload["owner"], granted.payload["note"]) == ("ann", "seen")
        assert store.decisions.verify() == []
    for file in (office.stack.home.root).rglob("*"):
        if file.is_file() and file.name not in ("ann.key",):
            assert token.encode() not in file.read_bytes(), file


def _asked_again(office: Office, run: str, before: dict[str, Any]) -> dict[str, Any]:
    """The state of the next form, once it is there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        state = office.reach(run, "PAUSED")
        if state["state_details"]["run_input_keyset"] != before["state_details"]["run_input_keyset"]:
            return state
        time.sleep(0.25)
    raise AssertionError("no second form")


def _restart_server(office: Office) -> None:
    server = office.stack.keepers["prefect-server"].child
    assert server is not None
    stop_all([server])
    office.stack.tend()  # notices the end; the supervision starts it again
    while not office.stack.keepers["prefect-server"].ready:
        office.stack.check()


def _form(office: Office, run: str, state: dict[str, Any]) -> tuple[str, Any]:
    keys = state["state_details"]["run_input_keyset"]
    read = {}
    for part in ("description", "schema"):
        answer = office.api.get(f"/flow_runs/{run}/input/{keys[part]}").raise_for_status()
        read[part] = answer.json()
    return str(read["description"]), read["schema"]


def _code(office: Office, verdict: Verdict) -> tuple[str, str]:
    """What ``incumbent approve --code`` does on ann's terminal."""
    now = datetime.now(UTC)
    file = office.workspace.settings.keys_file
    _, token = add_key(file, "ann", ["approve"], now)
    key = KeyRing.load(file).check(token, "approve", now)
    with office.workspace.store() as store:
        request = find_request(store, "fraud", office.workspace.model, "")
        assert request.verdict == verdict
        return issue_code(store, "fraud", request, key, now), token
