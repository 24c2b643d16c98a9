"""The image, proven without a container engine: its own requirements, its own folder, its own variables."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from bentos.registry.ports import ModelRef
from monitoring.core.calendar import TimeWindow
from tests.support.processes.containers import Container, Image, build_bento, install
from tests.support.processes.servers import MODELS, House, event, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE = 60.0


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    folder = tmp_path_factory.mktemp("image")
    return install(build_bento(folder / "bentoml"), folder / "venv")


@pytest.fixture(scope="module")
def container(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INCUMBENT_ENV", "prod")  # as the image says
        workspace = House(tmp_path_factory.mktemp("volume"))
        workspace.add(MODELS()["1"])
        workspace.appoint(ModelRef(workspace.model, "1"), MODELS()["1"].contract_digest)
    running = Container(image, workspace)
    try:
        running.wait_ready()
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


@pytest.fixture(scope="module")
def beside(image: Image, container: Container) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start another process from the same image on the same volume."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str, **environment: str) -> subprocess.Popen[bytes]:
        state = container.workspace.home
        with (state / "beside.log").open("ab") as log:
            process = subprocess.Popen(
                [*image.entrypoint, *words], cwd=image.bento, env=image.environment(state, **environment),
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_image_serves_from_its_own_requirements(container: Container) -> None:
    assert container.client.get("/livez").status_code == 200
    assert container.client.get("/readyz").status_code == 200
    assert container.card()["in_office"]["name"] == "prod-fraud"


def test_the_image_has_nothing_of_the_flows(image: Image) -> None:
    listed = subprocess.run(
        [str(image.python / "bin" / "python"), "-m", "pip", "list", "--format", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"bentoml", "xgboost-cpu", "mlflow-skinny"} <= names or {"bentoml", "xgboost", "mlflow-skinny"} <= names
    assert not names & {"prefect", "evidently", "mlflow", "scikit-learn", "matplotlib", "pyarrow"}


def test_the_image_scores_takes_labels_and_counts(container: Container) -> None:
    one = container.score(event("c-1"))
    assert one.status_code == 200
    assert one.json()["model"]["name"] == "prod-fraud"
    many = container.client.post("/score/batch", json=[event(f"c-{i}") for i in range(2, 6)])
    assert [row["event_id"] for row in many.json()] == ["c-2", "c-3", "c-4", "c-5"]
    label = {"event_id": "c-1", "label": 1, "observed_at": "2026-03-01T12:00:00Z", "source": "chargeback"}
    assert container.client.post("/labels", json=label).status_code in (200, 202)
    samples = container.metrics()
    assert sum(value for name, value in samples.items() if name.startswith("incumbent_scored_events_total")) == 5


def test_the_scribe_ships_from_a_second_process_of_the_image(
    container: Container, beside: Callable[..., subprocess.Popen[bytes]]
) -> None:
    beside("python", "-m", "bentos.scribe", "--poll", "0.05")
    assert container.score(event("s-1")).status_code == 200
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INCUMBENT_ENV", "prod")
        workspace = House(container.workspace.home)
    everything = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    with workspace.store() as store:
        until(lambda: store.log.count("fraud", everything) >= 6)
        until(lambda: len(store.labels.of_events("fraud", ["c-1"])) == 1)


def test_a_release_can_be_looked_at_inside_the_image(container: Container, image: Image) -> None:
    done = image.run(["python", "-m", "bentos.release", "status", "--json"], container.workspace.home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["roles"]["champion"] == "1"


def test_the_exporter_tells_the_log_from_a_third_process_of_the_image(
    container: Container, beside: Callable[..., subprocess.Popen[bytes]]
) -> None:
    port = free_port()
    beside("python", "-m", "monitoring.exporter", INCUMBENT_EXPORTER_PORT=str(port), INCUMBENT_EXPORTER_SECONDS="0")

    def told() -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10.0).text
        except httpx.TransportError:
            return ""

    until(lambda: 'incumbent_log_ledger_records_total{env="prod",fate="stored",usecase="fraud"} 6.0' in told())
    assert "incumbent_replica_mismatch{" in told()


def test_keys_are_made_inside_the_image(image: Image, tmp_path: Path) -> None:
    done = image.run(["python", "-m", "bentos.keys", "list"], tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_killed_worker_is_replaced(container: Container) -> None:
    (worker,) = container.workers()
    os.kill(worker, signal.SIGKILL)
    until(lambda: container.workers() not in ([], [worker]))
    container.wait_ready()
    assert container.score(event("k-1")).status_code == 200


def test_the_image_stops_in_order(image: Image, container: Container) -> None:
    # Last: the container is gone afterwards.
    assert container.stop() == 0
