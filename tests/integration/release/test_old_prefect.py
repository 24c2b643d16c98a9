"""Deployments that an earlier commit left on its Prefect server: what a person switched on stays on, and is planned."""

from __future__ import annotations

import lzma
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.stack.local_stack import Ports, running
from flows.workspace.installation import open_home
from tests.support.log.old_houses import COMMITS, FOLDER, OldHouse, unpack
from tests.support.processes.prefect_api import PATIENCE, prefect_api

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PLACES = (("deployment", "parameters"), ("deployment", "infra_overrides"))
"""Where Prefect's database holds the place of the house."""


def unpack_prefect(commit: str, workspace: OldHouse) -> None:
    """Give a home the database of its Prefect server, moved to its folder."""
    file = workspace.home / "prefect" / "prefect.db"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(lzma.decompress((FOLDER / f"{commit}.prefect.db.xz").read_bytes()))
    with closing(sqlite3.connect(file)) as database, database:
        for table, column in PLACES:
            query = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            database.execute(query, (str(workspace.figures["made"]["place"]), str(workspace.home)))


@pytest.mark.parametrize("commit", COMMITS)
def test_what_a_person_had_switched_on_stays_on_and_is_planned_after_the_upgrade(commit: str, tmp_path: Path) -> None:
    workspace = unpack(commit, tmp_path)
    unpack_prefect(commit, workspace)
    assert workspace.command("db", "upgrade")[0] == 0
    with running(open_home(home=workspace.home, usecase=workspace.usecase), Ports.find()) as stack:
        stack.keep("prefect-server", "deployments")
        stack.wait_ready()
        with prefect_api(stack) as api:
            found = {flow: deployment(api, flow) for flow in ("drift", "comparison", "training", "promotion")}
            on = {flow: [one["active"] for one in made["schedules"]] for flow, made in found.items()}
            assert on == {"drift": [True], "comparison": [True], "training": [False], "promotion": [False]}
            assert found["drift"]["parameters"] == {"usecase": workspace.usecase, "html": "never"}
            (nightly,) = found["promotion"]["schedules"]
            assert nightly["parameters"]["preview"] is False
            pool = api.get("/work_pools/incumbent").raise_for_status().json()
            assert not {"command", "env"} & pool["base_job_template"]["variables"]["properties"].keys()
            for flow in ("drift", "comparison"):
                assert planned(api, found[flow]["id"])
            assert planned(api, found["training"]["id"], patience=0.0) == []


def deployment(api: httpx.Client, flow: str) -> dict[str, Any]:
    return dict(api.get(f"/deployments/name/{flow}/dev-fraud-{flow}").raise_for_status().json())


def planned(api: httpx.Client, deployment: str, patience: float = PATIENCE) -> list[dict[str, Any]]:
    """The runs that the server's scheduler has planned, once there are some or nobody waits any more."""
    deadline, asked = time.monotonic() + patience, {"deployments": {"id": {"any_": [deployment]}}}
    while not (found := api.post("/flow_runs/filter", json=asked).raise_for_status().json()):
        if time.monotonic() >= deadline:
            return []
        time.sleep(0.25)
    return list(found)
