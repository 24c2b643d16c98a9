"""What the page of a run in the Prefect UI shows, and what is left where a run, a worker or the server dies in it."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bentos.promotion.evidence import write_verdict
from flows.stack.local_stack import Ports, Stack, running
from flows.workspace.installation import open_home
from flows.workspace.processes import stop_all
from monitoring.core.verdict import Verdict
from monitoring.store import Report, Run
from tests.support.processes.prefect_api import Desk, prefect_api
from tests.support.worlds import World, small_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
PATIENCE = 900.0


def eventually(came_true: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := came_true()):
        assert time.monotonic() < deadline
        time.sleep(0.25)
    return found


@dataclass
class Office:
    """A small world, a Prefect server and a worker."""

    world: World
    stack: Stack
    desk: Desk
    folder: Path

    def read(self, path: str, **asked: object) -> list[dict[str, Any]]:
        return list(self.desk.api.post(path, json=asked).raise_for_status().json())

    def name(self, run: str) -> str:
        return str(self.desk.api.get(f"/flow_runs/{run}").raise_for_status().json()["name"])

    def steps(self, run: str) -> dict[str, dict[str, Any]]:
        """The task runs of a run by their names."""
        return {one["name"]: one for one in self.read("/task_runs/filter", flow_runs={"id": {"any_": [run]}})}

    def log(self, run: str) -> str:
        lines = self.read("/logs/filter", logs={"flow_run_id": {"any_": [run]}}, sort="TIMESTAMP_ASC")
        return "\n".join(line["message"] for line in lines)

    def artifacts(self, run: str, kind: str) -> list[dict[str, Any]]:
        return self.read("/artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}, "type": {"any_": [kind]}})

    def record(self, flow: str) -> Run | None:
        return self.world.workspace.store.runs.latest("fraud", flow)

    def process(self, run: str, flow: str) -> int:
        """The process of a run, once its record names one."""
        found = eventually(lambda: (one := self.record(flow)) and one.run_id == run and one)
        return int(found.payload["process"]["pid"])

    def reaches(self, run: str, step: str) -> None:
        """Wait until a step of a run is under way, as the worker's log or the server tells."""
        eventually(lambda: any(name.startswith(step) for name in self.steps(run)))

    def versions(self) -> list[str]:
        return [str(one.ref.version) for one in self.world.workspace.registry.versions(self.world.workspace.model)]

    def roles(self) -> dict[str, str]:
        workspace = self.world.workspace
        return {role: ref.version for role, ref in workspace.registry.roles(workspace.model).items()}

    def stop(self, part: str) -> None:
        child = self.stack.keepers[part].child
        assert child is not None
        stop_all([child])

    def bring_back(self, part: str) -> None:
        eventually(lambda: self.stack.tend() or (self.stack.keepers[part].ready and self.stack.keepers[part].alive))

    def challenged(self) -> Verdict:
        """The challenger, with a stored verdict that says promote."""
        workspace = self.world.workspace
        roles = workspace.registry.roles(workspace.model)
        ref, champion = (
            roles.get("challenger") or self.world.challenger(0.02, self.folder / "version"),
            roles["champion"],
        )
        now = datetime.now(UTC)
        verdict = Verdict("comparison", "promote", (), ref.label, champion.label, now, ("it saves money",))
        workspace.store.reports.add(Report("fraud", "comparison", now, "promote", {"verdict": verdict.to_json()}))
        write_verdict(workspace.store, "fraud", verdict, "comparison", now)
        return verdict


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("runs")
    with small_world(folder, history=False) as world, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        home = open_home(home=folder / "home", usecase=world.reference)
        with running(home, Ports.find()) as stack:
            stack.keep("prefect-server", "deployments", "prefect-worker")
            stack.wait_ready()
            with prefect_api(stack) as api:
                desk = Desk(api, "dev-fraud-{}", home.logs / "prefect-worker.log")
                yield Office(world, stack, desk, folder)


TRAINING = (
    "read the simulator source of fraud",
    "keep the data of dev-fraud until 2026-06-30",
    "build the features of dev-fraud from 22421 events",
    "fit the twin of dev-fraud",
    "judge the twin of dev-fraud on the test fold",
    "refit dev-fraud on all matured rows",
    "register dev-fraud 1.0.0",
    "give dev-fraud/1 the role that it has earned",
)


def test_a_training_shows_its_steps_its_figures_and_its_outcome(office: Office) -> None:
    run = office.desk.start("training")
    state = office.desk.end_of(run)
    assert state["type"] == "COMPLETED", state
    assert office.name(run) == "train dev-fraud until 2026-06-30"
    steps = eventually(lambda: (found := office.steps(run)) and set(TRAINING) <= set(found) and found)
    assert {step["state_type"] for step in steps.values()} == {"COMPLETED"}
    assert all(step["tags"] and not step["task_inputs"] for step in steps.values())
    retries = {name: step["empirical_policy"]["retries"] for name, step in steps.items()}
    assert retries["read the simulator source of fraud"] == 3
    assert retries["give dev-fraud/1 the role that it has earned"] == 0
    log = office.log(run)
    for sentence in (
        r"read 22421 events and \d+ labels of simulator",
        r"built \d+ features: \d+ matured rows, \d+ in the test fold with \d+ positives",
        r"fitted the twin on \d+ rows with \d+ positives, threshold",
        r"\d of \d gates hold, beside nobody: pass",
        r"registered dev-fraud/1",
        r"training: dev-fraud/1: gates pass, @champion",
    ):
        assert re.search(sentence, log), (sentence, log)
    (progress,) = office.artifacts(run, "progress")
    assert progress["data"] == 100
    (summary,) = office.artifacts(run, "markdown")
    first, _, rest = summary["data"].partition("\n\n")
    assert first == "# Training: done"
    assert rest.startswith("dev-fraud/1: gates pass, @champion.")
    assert "](data:image/svg+xml;base64," in rest.partition("Business time")[0]
    (checks,) = office.artifacts(run, "table")
    assert "average_precision" in checks["data"]


def test_a_training_that_is_cancelled_registers_nothing_and_the_next_says_so(office: Office) -> None:
    before = office.versions(), office.roles()
    run = office.desk.start("training")
    office.reaches(run, "build the features")
    body = {"state": {"type": "CANCELLING"}}
    office.desk.api.post(f"/flow_runs/{run}/set_state", json=body).raise_for_status()
    assert office.desk.end_of(run)["type"] == "CANCELLED"
    ended = eventually(lambda: (one := office.record("training")) and one.state != "running" and one)
    assert (ended.run_id, ended.state) == (run, "failed")
    assert ended.message == "cancelled: it was stopped before its end"
    assert (office.versions(), office.roles()) == before
    again = office.desk.start("training")
    assert office.desk.end_of(again)["type"] == "COMPLETED"
    assert re.search(r"the last training, begun at .* did not come to its end: cancelled", office.log(again))
    assert office.roles() == {"champion": "1", "challenger": "2"}


def test_a_training_whose_process_is_killed_registers_nothing_and_the_next_says_so(office: Office) -> None:
    before = office.versions(), office.roles()
    run = office.desk.start("training")
    office.reaches(run, "build the features")
    os.kill(office.process(run, "training"), signal.SIGKILL)
    assert office.desk.end_of(run)["type"] == "CRASHED"
    assert (office.versions(), office.roles()) == before
    again = office.desk.start("training")
    office.reaches(again, "read the simulator")
    assert re.search(
        r"the last training, begun at .* did not come to its end: killed", eventually(lambda: office.log(again))
    )
    os.kill(office.process(again, "training"), signal.SIGKILL)
    office.desk.end_of(again)


def test_a_training_ends_with_its_worker_and_the_next_says_so_and_outlives_a_restart_of_the_server(
    office: Office,
) -> None:
    before = office.versions(), office.roles()
    run = office.desk.start("training")
    office.reaches(run, "build the features")
    worker = office.stack.keepers["prefect-worker"].child
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: not worker.alive)
    office.bring_back("prefect-worker")
    assert office.desk.end_of(run)["type"] == "CRASHED"
    ended = eventually(lambda: (one := office.record("training")) and one.state != "running" and one)
    assert (ended.run_id, ended.state) == (run, "failed")
    assert ended.message == "cancelled: it was stopped before its end"
    assert (office.versions(), office.roles()) == before
    again = office.desk.start("training")
    office.reaches(again, "build the features")
    office.stop("prefect-server")
    office.bring_back("prefect-server")
    state = office.desk.end_of(again)
    assert state["type"] == "COMPLETED", state
    assert re.search(r"the last training, begun at .* did not come to its end: cancelled", office.log(again))
    assert office.roles() == before[1] | {"candidate": "3"}


def test_labels_that_are_killed_in_the_middle_are_imported_again_without_a_double(office: Office) -> None:
    workspace, file = office.world.workspace, office.folder / "labels.csv"
    rows = "".join(f"e{n},{n % 2},2026-06-20T00:00:00Z,chargeback\n" for n in range(40_000))
    file.write_text(f"event_id,label,observed_at,source\n{rows}")
    run = office.desk.start("labels", path=str(file))
    os.kill(office.process(run, "labels"), signal.SIGKILL)
    assert office.desk.end_of(run)["type"] == "CRASHED"
    again = office.desk.start("labels", path=str(file))
    assert office.desk.end_of(again)["type"] == "COMPLETED"
    log = office.log(again)
    assert re.search(r"the last labels, begun at .* did not come to its end: killed", log)
    assert re.search(
        r"labels.csv: 40000 good rows and 0 refused; \d+ labels are new, \d+ were known, 0 contradict", log
    )
    assert {"read labels.csv", "store the labels of labels.csv"} <= set(office.steps(again))
    third = office.desk.start("labels", path=str(file))
    office.desk.end_of(third)
    assert "0 labels are new, 40000 were known" in office.log(third)
    assert workspace.store.runs.running("fraud") == []


def test_a_promotion_that_is_killed_is_brought_to_its_end_by_the_next(office: Office) -> None:
    verdict = office.challenged()
    run = office.desk.start("promotion", preview=False, reason="it saves money")
    pid = office.process(run, "promotion")
    office.reaches(run, "put ")
    os.kill(pid, signal.SIGKILL)
    assert office.desk.end_of(run)["type"] == "CRASHED"
    again = office.desk.start("promotion", preview=False, reason="it saves money")
    state = office.desk.end_of(again)
    assert state["type"] == "COMPLETED", state
    assert re.search(r"the last promotion, begun at .* did not come to its end: killed", office.log(again))
    workspace = office.world.workspace
    assert workspace.champion().label == verdict.challenger
    assert not workspace.store.journal.unfinished(workspace.model)
    assert [step["empirical_policy"]["retries"] for name, step in office.steps(again).items() if "put " in name] == [0]
