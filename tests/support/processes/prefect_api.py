"""Prefect's REST interface: a client that asks again as Prefect's own does, and a desk that starts deployments."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from flows.stack.local_stack import Stack
from flows.workspace.logins import read_prefect_login

PATIENCE = 900.0


class _AskAgain(httpx.BaseTransport):
    """503 is Prefect's "SQLite was busy, ask again": nothing was written, and every Prefect client repeats the call."""

    def __init__(self, tries: int = 10) -> None:
        self._inner = httpx.HTTPTransport()
        self._tries = tries

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        for _ in range(self._tries - 1):
            answer = self._inner.handle_request(request)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            answer.read()
            answer.close()
            time.sleep(0.5)
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


@contextmanager
def prefect_api(stack: Stack) -> Iterator[httpx.Client]:
    """A client for a stack's server, with its login and its protection against forged requests."""
    user, _, password = read_prefect_login(stack.home.root).partition(":")
    name = str(uuid.uuid4())
    with httpx.Client(
        base_url=stack.urls["prefect"], timeout=30.0, transport=_AskAgain(), trust_env=False,
        auth=httpx.BasicAuth(user, password),
    ) as client:  # fmt: skip
        token = client.get("/csrf-token", params={"client": name}).raise_for_status().json()["token"]
        client.headers.update({"Prefect-Csrf-Client": name, "Prefect-Csrf-Token": token})
        yield client


@dataclass(frozen=True)
class Desk:
    """A server with a worker, as somebody sees it who starts deployments and waits for their runs.

    Attributes:
        api: client of the server.
        name: what deployments are called, ``{}`` in the place of the flow.
        worker_log: what the worker says.
    """

    api: httpx.Client
    name: str
    worker_log: Path

    def deployment(self, flow: str) -> dict[str, Any]:
        answer = self.api.get(f"/deployments/name/{flow}/{self.name.format(flow)}")
        return dict(answer.raise_for_status().json())

    def start(self, flow: str, **parameters: object) -> str:
        url = f"/deployments/{self.deployment(flow)['id']}/create_flow_run"
        return str(self.api.post(url, json={"parameters": parameters}).raise_for_status().json()["id"])

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """The runs of a deployment, whoever started them."""
        asked = {"deployments": {"id": {"any_": [self.deployment(flow)["id"]]}}}
        return list(self.api.post("/flow_runs/filter", json=asked).raise_for_status().json())

    def first_run(self, flow: str) -> dict[str, Any]:
        """The run that something other than the test starts."""
        deadline = time.monotonic() + PATIENCE
        while not (runs := self.runs(flow)):
            assert time.monotonic() < deadline, f"no run of {flow} was made"
            time.sleep(0.25)
        return runs[0]

    def end_of(self, run_id: str) -> dict[str, Any]:
        """The state in which a run ended."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            run = self.api.get(f"/flow_runs/{run_id}").raise_for_status().json()
            if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return dict(run["state"])
            time.sleep(0.25)
        raise AssertionError(f"run {run_id} did not end: {self.worker_log.read_text()}")

    def artifacts(self) -> dict[str, dict[str, Any]]:
        """The newest artifact of each key."""
        found = self.api.post("/artifacts/latest/filter", json={}).raise_for_status().json()
        return {artifact["key"]: artifact for artifact in found}
