"""What goes wrong around a real Prefect server and worker: runs that nobody begins, that are killed, that grow old."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.stack.local_stack import Ports, Stack, running
from flows.steps.drift.retraining_due import training_runs
from flows.workspace.installation import open_home
from flows.workspace.processes import stop_all
from monitoring.exporter.attention import attention_samples
from monitoring.store import Run
from tests.support.builders import tiny_model
from tests.support.hooks import Hook, webhook
from tests.support.processes.prefect_api import Desk, prefect_api
from tests.support.processes.servers import House

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PATIENCE = 900.0


@dataclass
class Office:
    """A home with a tiny champion, a Prefect server, a worker, a notifier and whoever is told."""

    workspace: House
    stack: Stack
    desk: Desk
    hook: Hook

    def told(self, title: str) -> list[dict[str, Any]]:
        return [body for body in self.hook.bodies if body["title"] == title]

    def figures(self) -> dict[tuple[str, ...], float]:
        with self.workspace.store() as store:
            return {(one.name, *one.labels): one.value for one in attention_samples(store, "fraud", datetime.now(UTC))}

    def switch_on(self, flow: str) -> str:
        found = self.desk.deployment(flow)
        path = f"/deployments/{found['id']}/schedules/{found['schedules'][0]['id']}"
        self.desk.api.patch(path, json={"active": True}).raise_for_status()
        return str(found["id"])

    def stop(self, part: str) -> None:
        child = self.stack.keepers[part].child
        assert child is not None
        stop_all([child])

    def bring_back(self, part: str) -> None:
        eventually(lambda: self.stack.tend() or (self.stack.keepers[part].ready and self.stack.keepers[part].alive))


def eventually(came_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not came_true():
        assert time.monotonic() < deadline
        time.sleep(0.25)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("faults")
    workspace, model = House(folder / "home"), tiny_model()
    workspace.appoint(workspace.add(model), model.contract_digest)
    home = open_home(home=folder / "home")
    with webhook() as hook, pytest.MonkeyPatch.context() as patch:
        patch.setenv("INCUMBENT_NOTIFY_URL", hook.url)
        patch.chdir(folder)
        with running(home, Ports.find()) as stack:
            stack.keep("prefect-server", "deployments", "prefect-worker", "notifier")
            stack.wait_ready()
            with prefect_api(stack) as api:
                yield Office(workspace, stack, Desk(api, "dev-fraud-{}", home.logs / "prefect-worker.log"), hook)


def test_a_training_that_is_killed_is_told_and_blocks_no_other(office: Office) -> None:
    run_id = office.desk.start("training")
    with office.workspace.store() as store:
        eventually(lambda: _process(store.runs.latest("fraud", "training")))
        first = store.runs.latest("fraud", "training")
        assert first is not None
        assert first.run_id == run_id
        os.kill(_process(first), signal.SIGKILL)
        assert office.desk.end_of(run_id)["type"] == "CRASHED"
        assert not training_runs(store, "fraud", datetime.now(UTC))
        eventually(lambda: office.told("The training was killed"))
        ended = store.runs.latest("fraud", "training")
        assert ended is not None
        assert (ended.run_id, ended.state) == (run_id, "killed")
        assert office.figures()["flow_killed", "training"] == 1
        again = office.desk.start("training")  # the deployment takes one run at a time
        eventually(lambda: _process(store.runs.latest("fraud", "training")))
        second = store.runs.latest("fraud", "training")
        assert second is not None
        assert second.run_id == again
        os.kill(_process(second), signal.SIGKILL)
        office.desk.end_of(again)


def _process(run: Run | None) -> int:
    """The process of a run that has not ended; 0 where there is none."""
    return int(run.payload["process"]["pid"]) if run is not None and run.state == "running" else 0


def test_a_schedule_that_is_missed_is_told_and_measured_until_its_run_has_begun(office: Office) -> None:
    office.stop("prefect-worker")
    deployment = office.switch_on("labels")
    due = (datetime.now(UTC) - timedelta(minutes=11)).isoformat()
    body = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}}
    office.desk.api.post(f"/deployments/{deployment}/create_flow_run", json=body).raise_for_status()
    eventually(lambda: office.told("The labels did not run"))
    (notice,) = office.told("The labels did not run")
    assert notice["kind"] == "schedule"
    assert "the run that was due at" in notice["text"]
    assert office.figures()["condition_seconds", "schedules", "labels"] > 0
    office.bring_back("prefect-worker")
    eventually(lambda: office.told("Over: The labels did not run"))
    assert ("condition_seconds", "schedules", "labels") not in office.figures()


def test_runs_older_than_they_are_kept_are_deleted_by_the_server_and_younger_ones_stay(office: Office) -> None:
    old, young = (office.desk.start("promotion") for _ in range(2))
    for run in (old, young):
        office.desk.end_of(run)
    office.stop("prefect-worker")
    office.stop("prefect-server")
    days = office.stack.home.settings.run_days
    with closing(sqlite3.connect(office.stack.home.prefect / "prefect.db")) as database, database:
        for run, age in ((old, days + 1), (young, days - 1)):
            at = (datetime.now(UTC) - timedelta(days=age)).strftime("%Y-%m-%d %H:%M:%S.%f")
            changed = database.execute("UPDATE flow_run SET end_time = ? WHERE id = ?", (at, run)).rowcount
            assert changed == 1
    office.bring_back("prefect-server")  # it looks when it starts, and each hour
    eventually(lambda: _count(office, "flow_run", old) == 0)
    assert _count(office, "flow_run", young) == 1
    office.bring_back("prefect-worker")


def _count(office: Office, table: str, run: str) -> int:
    file = Path(office.stack.home.prefect / "prefect.db")
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)) as database:
        return int(database.execute(f"SELECT count(*) FROM {table} WHERE id = ?", (run,)).fetchone()[0])
