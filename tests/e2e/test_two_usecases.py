"""Two use cases in one stack, as their operators see them: started, asked, retired, brought back, stopped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from bentos.home_lock import born
from bentos.registry.mlflow import open_registry
from bentos.registry.ports import ModelRef
from bentos.usecase.loading import load_usecase
from flows.stack.state_file import StackState, read_state
from flows.workspace.installation import Home, open_home
from flows.workspace.logins import read_prefect_login
from flows.workspace.prefect_answers import PrefectServer
from monitoring.store import RoleChange, Run, open_store
from tests.support.builders import tiny_model
from tests.support.hooks import Hook, webhook
from tests.support.processes.servers import PROJECT, event
from tests.support.registries import mlflow_registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
PATIENCE = 600.0
NAMES = ("fraud", "cards")


class Operator:
    """Works on one home from the command line."""

    def __init__(self, home: Home, files: dict[str, Path]) -> None:
        self.home, self.files = home, files

    def run(self, *words: str, may_refuse: bool = False) -> str:
        foreign = ("INCUMBENT_", "PREFECT_", "MLFLOW_", "BENTOML_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        environment["INCUMBENT_HOME"] = str(self.home.root)
        argv = [str(Path(sys.executable).with_name("incumbent")), *words]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or (may_refuse and done.returncode == 1), done.stdout + done.stderr
        return done.stdout

    def is_well(self) -> bool:
        """Whether every line of the deep status is well; a line about each use case's service is there in any case."""
        lines = self.run("status", "--deep", may_refuse=True).splitlines()
        assert all(any(line[6:].startswith(f"service of {name}") for line in lines) for name in NAMES), lines
        return not any(line.startswith("WRONG") for line in lines)

    def state(self) -> StackState:
        state = read_state(self.home.addresses)
        assert state is not None
        return state

    def url(self, usecase: str) -> str:
        state = self.state()
        return state.urls.get(state.part_of("service", usecase), "")

    def score(self, usecase: str, name: str) -> Any:
        return httpx.post(f"{self.url(usecase)}/score", json=event(name), timeout=120).raise_for_status().json()

    def is_ready(self, usecase: str) -> bool:
        try:
            return bool(url := self.url(usecase)) and httpx.get(f"{url}/readyz", timeout=60).is_success
        except httpx.TransportError:
            return False

    def paused(self, usecase: str) -> dict[str, bool]:
        """Whether each deployment of a use case is paused, by flow."""
        prefix = self.home.settings.deployment_name(usecase, "")
        with PrefectServer(self.state().urls["prefect"], read_prefect_login(self.home.root), 30.0) as server:
            found = server.ask("deployments/filter", {"deployments": {"name": {"like_": prefix}}, "limit": 200})
        return {one["name"].removeprefix(prefix): one["paused"] for one in found if one["name"].startswith(prefix)}


def eventually(came_true: Callable[[], bool], pause: float = 0.2) -> None:
    deadline = time.monotonic() + PATIENCE
    while not came_true():
        assert time.monotonic() < deadline
        time.sleep(pause)


@contextmanager
def stack_of_two(root: Path, hooks: dict[str, Hook]) -> Iterator[Operator]:
    """A stack of two use cases, each with a champion of its own and people of its own who are told."""
    home = open_home(home=root / "home")
    home.make()
    mlflow_registry(home.root)
    shipped = (PROJECT / "bentos/usecases/fraud/usecase.toml").read_text()
    files = {}
    for number, name in enumerate(NAMES, 1):
        files[name] = root / f"{name}.toml"
        route = f'\n[[notify.routes]]\nkinds = ["run"]\nto = "{name}_team"\n'
        files[name].write_text(shipped.replace('name = "fraud"', f'name = "{name}"', 1) + route)
        appoint(home, files[name], seed=number)
    addresses = home.root / "notify.toml"
    addresses.write_text("".join(f'{name}_team = "{hooks[name].url}"\n' for name in NAMES))
    addresses.chmod(0o600)
    operator = Operator(home, files)
    operator.run("up", "--detach", *(word for name in NAMES for word in ("--usecase", str(files[name]))))
    try:
        yield operator
    finally:
        operator.run("down")


def appoint(home: Home, file: Path, seed: int) -> None:
    """Put a small model in charge of a use case."""
    usecase, settings = load_usecase(file), home.settings
    model, registry = tiny_model(usecase, seed=seed), open_registry(settings)
    with tempfile.TemporaryDirectory() as scratch:
        model.save(Path(scratch))
        ref: ModelRef = registry.register(Path(scratch), settings.model_name(usecase.name))
    with closing(open_store(settings.log_url)) as store:
        change = RoleChange(ref.name, "champion", ref.version, model.contract_digest)
        store.decisions.append(usecase.name, "installation", {}, "a test", datetime.now(UTC), [change])
    registry.point(ref.name, "champion", ref.version)


def test_two_use_cases_share_a_stack_and_nothing_else(tmp_path: Path) -> None:
    with webhook() as first, webhook() as second:
        hooks = dict(zip(NAMES, (first, second), strict=True))
        with stack_of_two(tmp_path, hooks) as operator:
            for name in NAMES:
                eventually(lambda name=name: operator.is_ready(name))  # type: ignore[misc]  # bound at once
                assert operator.score(name, f"{name}-1")["model"]["name"] == f"dev-{name}"
            each_is_measured_under_its_own_name(operator)
            each_tells_its_own_people(operator, hooks)
            one_retires_and_comes_back_while_the_other_answers(operator)
            eventually(operator.is_well, pause=5.0)
            parts = operator.state().parts.values()
            processes = [(part.pid, part.born) for part in parts if part.pid is not None]
    assert len(processes) >= 10, "server, worker, exporter, reports, and three of each use case"
    assert [pid for pid, birth in processes if born(pid) == birth] == [], "down leaves none behind"


def each_is_measured_under_its_own_name(operator: Operator) -> None:
    for name in NAMES:
        samples = [
            line
            for line in httpx.get(f"{operator.url(name)}/metrics", timeout=120).text.splitlines()
            if line[:1] != "#"
        ]
        assert samples
        assert {re.search(r'usecase="(\w+)",env="(\w+)"', line).groups() for line in samples} == {(name, "dev")}  # type: ignore[union-attr]
    exporter = operator.state().urls["exporter"]

    def all_are_told() -> bool:
        text = httpx.get(f"{exporter}/metrics", timeout=120).text
        return set(re.findall(r'\{[^}]*env="dev"[^}]*usecase="(\w+)"', text)) >= set(NAMES)

    eventually(all_are_told)


def each_tells_its_own_people(operator: Operator, hooks: dict[str, Hook]) -> None:
    now = datetime.now(UTC)
    with closing(open_store(operator.home.settings.log_url)) as store:
        for name in NAMES:
            store.runs.put(Run(f"r-{name}", name, "drift", "failed", now, now, None, "no_data: nothing"))
    for name, hook in hooks.items():
        eventually(lambda hook=hook: bool(hook.bodies))  # type: ignore[misc]  # bound at once
        assert {body["usecase"] for body in hook.bodies} == {name}
    with closing(open_store(operator.home.settings.log_url)) as store:
        for name in NAMES:
            later = datetime.now(UTC)
            store.runs.put(Run(f"r-{name}-2", name, "drift", "completed", later, later, None, "no drift"))


def one_retires_and_comes_back_while_the_other_answers(operator: Operator) -> None:
    before = operator.paused("cards")
    assert before
    address = operator.url("cards")
    operator.run("usecase", "retire", "cards", "--yes")
    eventually(lambda: "service-cards" not in operator.state().parts)
    operator.score("fraud", "while-cards-is-away")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{address}/livez")
    assert set(operator.paused("cards").values()) == {True}
    assert operator.paused("fraud") == before
    operator.run("usecase", "add", str(operator.files["cards"]), "--yes")
    eventually(lambda: operator.is_ready("cards"))
    assert operator.score("cards", "cards-2")["model"]["name"] == "dev-cards"
    operator.score("fraud", "after-cards-is-back")
    assert operator.paused("cards") == before
