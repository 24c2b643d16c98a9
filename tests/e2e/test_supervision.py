"""A detached stack whose parts are killed one after the other, and its supervisor, while events are scored."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from bentos.registry.ports import ModelRef
from flows.stack.state_file import PartState, StackState, read_state
from flows.workspace.installation import Home, open_home
from tests.support.processes.servers import MODELS, House, event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
PATIENCE = 900.0
SIDE_PARTS = ("prefect-server", "reports", "scribe", "exporter", "prefect-worker")


def incumbent(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("incumbent"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("INCUMBENT_", "PREFECT_"))}
    environment["INCUMBENT_HOME"] = str(home.root)
    return subprocess.run([program, *words], env=environment, capture_output=True, text=True, check=False)


def state_of(home: Home) -> StackState:
    state = read_state(home.addresses)
    assert state is not None
    return state


def eventually(came_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not came_true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


class Load:
    """Scores one event after the other; counts what was not answered with 200."""

    def __init__(self, url: str) -> None:
        self.sent = self.failed = 0
        self._url, self._stop = url, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.wait(0.05):
                self.sent += 1
                try:
                    ok = client.post("/score", json=event(f"e{time.time_ns()}")).status_code == 200
                except httpx.TransportError:
                    ok = False
                self.failed += not ok


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    workspace = House(tmp_path_factory.mktemp("supervised") / "home")
    workspace.add(MODELS()["1"])
    workspace.appoint(ModelRef(workspace.model, "1"), MODELS()["1"].contract_digest)
    found = open_home(home=workspace.home)
    up = incumbent(found, "up", "--detach")
    assert up.returncode == 0, up.stderr
    try:
        eventually(lambda: _answers(found))
        yield found
    finally:
        incumbent(found, "down")


def _answers(home: Home) -> bool:
    try:
        return httpx.get(f"{state_of(home).urls['service']}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


def _back(home: Home, name: str, before: PartState) -> bool:
    part = state_of(home).parts[name]
    return part.pid not in (None, before.pid) and part.state == "running" and part.alive


def _kill(home: Home, name: str) -> PartState:
    before = state_of(home).parts[name]
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    return before


def test_side_parts_that_are_killed_come_back_and_no_request_fails(home: Home) -> None:
    service = state_of(home).parts["service"]
    with Load(state_of(home).urls["service"]) as load:
        for name in SIDE_PARTS:
            before = _kill(home, name)
            eventually(lambda name=name, before=before: _back(home, name, before))  # type: ignore[misc]
            sent = load.sent
            eventually(lambda sent=sent: load.sent > sent + 3)  # type: ignore[misc]
    assert load.failed == 0
    assert load.sent > 20
    assert state_of(home).parts["service"].pid == service.pid
    told = incumbent(home, "status", "--json")
    lines = {line["name"]: line["text"] for line in json.loads(told.stdout)["lines"]}
    for name in SIDE_PARTS:
        # A worker that begins while the server is away ends by itself too, and is started again once more.
        assert re.search(r"started again (once|[23] times); it (ended|was ended by SIGKILL)", lines[name]), lines[name]
    assert lines["service"].startswith("running since")


def test_a_service_that_is_killed_comes_back_on_its_port_and_answers(home: Home) -> None:
    url = state_of(home).urls["service"]
    before = _kill(home, "service")
    eventually(lambda: _back(home, "service", before) and _answers(home))
    assert state_of(home).urls["service"] == url
    assert httpx.post(f"{url}/score", json=event("after the kill"), timeout=30).status_code == 200
    assert state_of(home).parts["service"].restarts >= 1


def test_a_second_up_names_the_first_and_ends(home: Home) -> None:
    second = incumbent(home, "up")
    assert second.returncode == 1
    assert f"process {state_of(home).supervisor.pid}" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1


def test_after_the_death_of_the_supervisor_the_next_up_goes_on_with_the_living_parts(home: Home) -> None:
    before = state_of(home)
    with Load(before.urls["service"]) as load:
        os.kill(before.supervisor.pid, signal.SIGKILL)
        eventually(lambda: not before.supervisor.alive)
        assert "nothing restarts a part" in incumbent(home, "status").stdout.replace("\n", " ").replace("  ", "")
        up = incumbent(home, "up", "--detach")
        assert up.returncode == 0, up.stderr
    assert load.failed == 0
    after = state_of(home)
    assert after.supervisor.alive
    assert after.urls == before.urls
    assert {n: p.pid for n, p in after.parts.items()} == {n: p.pid for n, p in before.parts.items()}


def test_down_after_the_death_of_the_supervisor_leaves_nothing_that_blocks_the_next_up(home: Home) -> None:
    before = state_of(home)
    os.kill(before.supervisor.pid, signal.SIGKILL)
    down = incumbent(home, "down")
    assert down.returncode == 0
    assert "service" in down.stdout
    eventually(lambda: not any(part.alive for part in before.parts.values()))
    assert read_state(home.addresses) is None
    up = incumbent(home, "up", "--detach")
    assert up.returncode == 0, up.stderr
    assert incumbent(home, "down").returncode == 0
