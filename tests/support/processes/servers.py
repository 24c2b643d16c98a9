"""A real Bento on a free port of this machine, with a home, a registry and a database of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from bentos.model.scoring_model import ScoringModel
from bentos.registry.mlflow import MlflowRegistry, open_registry
from bentos.registry.ports import ModelRef
from bentos.schema.event_schema import EventSchema
from bentos.settings import Settings, read_settings
from bentos.spool.shipper import Scribe
from monitoring.store import RoleChange, Store, open_store
from tests.support.builders import fraud, tiny_model
from tests.support.registries import mlflow_registry

PROJECT = Path(__file__).resolve().parents[3]
PATIENCE = 600.0
"""Seconds that a busy machine may take; a test waits for the event, not for the time."""


@dataclass
class House:
    """One home with everything that a service reads and writes."""

    home: Path
    settings: Settings = field(init=False)
    registry: MlflowRegistry = field(init=False)

    def __post_init__(self) -> None:
        self.settings = read_settings(home=self.home)
        if not (self.home / "mlflow.db").exists():
            mlflow_registry(self.home)
        self.registry = open_registry(self.settings)

    @property
    def model(self) -> str:
        return self.settings.model_name("fraud")

    def add(self, model: ScoringModel) -> ModelRef:
        """Register a version; it holds no role."""
        with tempfile.TemporaryDirectory() as scratch:
            model.save(Path(scratch))
            return self.registry.register(Path(scratch), self.model)

    def appoint(self, ref: ModelRef, digest: str, role: str = "champion") -> None:
        """Give a role through the journal, as a release does, without its waiting."""
        with self.store() as store:
            change = RoleChange(ref.name, role, ref.version, digest)
            store.decisions.append("fraud", "installation", {}, "a test", datetime.now(UTC), [change])
        self.registry.point(ref.name, role, ref.version)

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        opened = open_store(self.settings.log_url)
        try:
            yield opened
        finally:
            opened.close()

    def ship(self) -> None:
        """Let the scribe move what is in the spool."""
        with self.store() as store:
            Scribe(store, self.settings.spool("fraud"), "fraud", fraud().label).run_once()

    def copy(self, home: Path) -> House:
        """A second home with the same content; model files stay where they are."""
        shutil.copytree(self.home, home, ignore=shutil.ignore_patterns("bentoml", "*.writer", "artifacts"))
        return House(home)

    def environment(self, **changes: str) -> dict[str, str]:
        foreign = ("PROMETHEUS_MULTIPROC_DIR", "INCUMBENT_", "BENTOML_", "MLFLOW_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return kept | {
            "INCUMBENT_HOME": str(self.home),
            "BENTOML_HOME": str(self.home / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        } | changes  # fmt: skip


class Server:
    """A running service. ``stop`` asks, ``kill`` does not."""

    def __init__(
        self, workspace: House, host: str = "127.0.0.1", port: int = 0, logs: Path | None = None, **environment: str
    ) -> None:
        self.workspace = workspace
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # One client: each new one costs 20 ms and a connection.
        self.client = httpx.Client(base_url=self.url, timeout=10.0)
        self.log = (logs or workspace.home) / f"service-{self.port}.log"
        self._out = self.log.open("ab")
        self.process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("bentoml")), "serve", "bentos.service:Incumbent",
                "--host", host, "--port", str(self.port), "--working-dir", str(PROJECT),
            ],
            cwd=PROJECT,
            env=workspace.environment(**environment),
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def wait_ready(self) -> None:
        self.wait_for("/readyz")

    def wait_for(self, path: str, status: int = 200, patience: float = PATIENCE) -> None:
        """Wait until a path answers with a status."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the service ended: {self.log.read_text()[-2000:]}")
            with contextlib.suppress(httpx.TransportError):
                if self.client.get(path).status_code == status:
                    return
            time.sleep(0.1)
        raise AssertionError(f"{path} does not answer {status}: {self.log.read_text()[-2000:]}")

    def wait_served(self, version: str) -> None:
        """Wait until a version is active."""
        deadline = time.monotonic() + PATIENCE
        while self.card()["in_office"]["version"] != version:
            if time.monotonic() > deadline:
                raise AssertionError(f"version {version} does not become champion: {self.card()}")
            time.sleep(0.05)

    def score(self, event: Any) -> httpx.Response:
        return self.client.post("/score", json=event)

    def post(self, path: str, body: bytes, media_type: str = "application/json") -> httpx.Response:
        return self.client.post(path, content=body, headers={"content-type": media_type})

    def card(self) -> Any:
        return self.client.get("/model").json()

    def metrics(self) -> dict[str, float]:
        """Every sample, by its name and labels as they stand in the text, but for use case and environment."""
        text = re.sub(r'\{usecase="[^"]+",env="\w+"(?:,|(\}))', r"{\1", self.client.get("/metrics").text)
        lines = text.replace("{} ", " ").splitlines()
        samples = (line.rpartition(" ") for line in lines if line and line[0] != "#")
        return {name: float(value) for name, _, value in samples}

    def workers(self) -> list[int]:
        """Pids of the worker processes."""
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]

    def stop(self) -> int:
        """SIGTERM, as a container does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self._clean_up()

    def kill(self) -> None:
        """SIGKILL of every process at once. Workers lead sessions of their own."""
        workers = self.workers()
        os.killpg(self.process.pid, signal.SIGKILL)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        self.process.wait(30)
        self._clean_up()

    def _clean_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._out.close()
        self.client.close()


@contextlib.contextmanager
def serving(workspace: House, host: str = "127.0.0.1", **environment: str) -> Iterator[Server]:
    """A service that is ready, and is gone afterwards."""
    server = Server(workspace, host, **environment)
    try:
        server.wait_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
        else:
            server._clean_up()


class Shared:
    """One running service for all test modules that leave it as they found it.

    Version 1 (``tiny_model(threshold=0.1)``) is active; versions 2 to 4 wait.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Server | None = None
        self._houses = 0

    def get(self) -> Server:
        """The running service, started when there is none."""
        if self._server is None or self._server.process.poll() is not None:
            self._houses += 1
            workspace = House(self._folder / str(self._houses))
            for model in MODELS().values():
                workspace.add(model)
            workspace.appoint(ModelRef(workspace.model, "1"), MODELS()["1"].contract_digest)
            self._server = Server(workspace, INCUMBENT_POLL_SECONDS="0.1")
            self._server.wait_ready()
        return self._server

    def discard(self) -> None:
        """Stop it: it was changed, so the next module gets a new one."""
        server, self._server = self._server, None
        if server is not None and server.process.poll() is None:
            server.stop()


@cache
def MODELS() -> dict[str, ScoringModel]:  # noqa: N802  # a constant that is made on first use
    """The versions of the shared service."""
    few = ["amount", "during_weekend", "customer_count_7d", "terminal_risk_30d"]
    return {
        "1": tiny_model(seed=1, threshold=0.1),
        "2": tiny_model(seed=2, threshold=0.2),
        "3": tiny_model(seed=3),
        "4": tiny_model(seed=4, features=few),
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def whole_answer(connection: socket.socket) -> httpx.Response:
    """The answer that a bare connection receives; head and body may come in parts."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return httpx.Response(answer.status, content=answer.read())


def event(name: str, **changes: Any) -> dict[str, Any]:
    """A good transaction."""
    return {
        "transaction_id": name,
        "tx_time": "2026-03-01T12:00:00Z",
        "customer_id": "c-0042",
        "terminal_id": "m-0317",
        "amount": 57.16,
    } | changes


SCHEMA = EventSchema.of(fraud())


@contextlib.contextmanager
def unreadable(database: Path) -> Iterator[None]:
    """A SQLite file without its header: open connections fail at once (a lock would take MLflow 20 s)."""
    with database.open("r+b") as file:
        header = file.read(100)
        try:
            file.seek(0)
            file.write(bytes(100))
            file.flush()
            yield
        finally:
            file.seek(0)
            file.write(header)
