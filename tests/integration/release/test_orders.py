"""A running service and the journal's orders: hand-moved aliases, pins without a registry, thresholds for a while."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bentos.keys import KeyRing, add_key
from bentos.registry.ports import ModelRef
from bentos.release.__main__ import main
from bentos.release.emergency import two_people
from monitoring.store import RoleChange
from tests.support.builders import fraud
from tests.support.processes.servers import MODELS, House, Server, Shared, event, unreadable
from tests.support.release_requests import order_threshold, reconcile_quietly


@pytest.fixture(scope="module")
def server(shared_service: Shared) -> Iterator[Server]:
    yield shared_service.get()
    shared_service.discard()


@pytest.fixture(scope="module")
def workspace(server: Server) -> House:
    """Version 2 was promoted over version 1."""
    workspace = server.workspace
    workspace.appoint(ModelRef(workspace.model, "2"), MODELS()["2"].contract_digest)
    with workspace.store() as store:
        change = RoleChange(workspace.model, "previous", "1")
        store.decisions.append("fraud", "installation", {}, "a test", datetime.now(UTC), [change])
    workspace.registry.point(workspace.model, "previous", "1")
    server.wait_served("2")
    return workspace


@pytest.fixture
def release(
    workspace: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """``python -m bentos.release`` in this process; what it says, or its complaint."""
    monkeypatch.setenv("INCUMBENT_HOME", str(workspace.home))

    def run(*words: str) -> Any:
        code = main([*words, "--json"])
        said = capsys.readouterr()
        return json.loads(said.out) if code == 0 else said.err

    return run


def answered(server: Server) -> dict[str, Any]:
    return dict(server.score(event(f"t-{time.monotonic_ns()}")).json())


def test_an_alias_that_was_moved_by_hand_is_not_served_and_can_be_put_back(
    server: Server, workspace: House, release: Callable[..., Any]
) -> None:
    workspace.registry.point(workspace.model, "champion", "1")
    until(lambda: server.metrics().get("incumbent_alias_unexplained") == 1)
    card = server.card()
    assert card["in_office"]["version"] == "2"
    assert card["refused"]["1"]["reason"] == "role"
    assert answered(server)["model"]["version"] == "2"
    until(lambda: release("status")["refused"] != {})
    assert release("status")["unexplained_alias"] == "1"
    assert release("reconcile", "--reason", "a slip")["steps"] == ["@champion = 2"]
    until(lambda: server.metrics()["incumbent_alias_unexplained"] == 0)
    assert not server.card()["refused"]
    assert release("status")["unexplained_alias"] is None


def test_a_threshold_order_reaches_the_answers_and_ends_by_itself(server: Server, workspace: House) -> None:
    promoted = MODELS()["2"].threshold.value
    now = datetime.now(UTC)
    keys = [add_key(workspace.home / "people.json", name, ["approve"], now)[1] for name in ("ann", "bob")]
    both = two_people(KeyRing.load(workspace.home / "people.json"), keys, now)
    assert answered(server)["threshold"] == promoted
    with workspace.store() as store:
        order_threshold(
            store, fraud(), workspace.model, 0.987, datetime.now(UTC) + timedelta(seconds=6), both,
            actor="ann", reason="an attack", now=datetime.now(UTC),
        )  # fmt: skip
    until(lambda: answered(server)["threshold"] == 0.987)
    office = server.card()["in_office"]
    assert (office["threshold"], office["promoted_threshold"]) == (0.987, promoted)
    until(lambda: answered(server)["threshold"] == promoted)
    assert server.card()["orders"]["threshold"] is None


def test_without_a_registry_a_rollback_pins_the_previous_champion_and_the_aliases_follow(
    server: Server, workspace: House, release: Callable[..., Any]
) -> None:
    with unreadable(workspace.home / "mlflow.db"):
        until(lambda: not server.card()["registry"]["reachable"])
        assert release("status")["registry_reachable"] is False
        preview = release("rollback", "--reason", "too many alerts", "--preview")
        assert (preview["preview"], preview["to_version"]) == (True, "1")
        done = release("rollback", "--reason", "too many alerts", "--wait", "30")
        assert (done["state"], done["to_version"], done["acknowledged"]) == ("PINNED", "1", True)
        assert answered(server)["model"]["version"] == "1"
        assert server.metrics()["incumbent_office_pinned"] == 1
        assert "pinned already" in release("rollback", "--reason", "again")
        assert release("status")["pinned"].startswith("version 1")
    until(lambda: server.card()["registry"]["reachable"])
    assert workspace.registry.resolve(workspace.model, "champion").version == "2"
    assert answered(server)["model"]["version"] == "1"
    with workspace.store() as store:
        assert reconcile_quietly(workspace.registry, store, workspace.model, fraud(), datetime.now(UTC))
        assert not reconcile_quietly(workspace.registry, store, workspace.model, fraud(), datetime.now(UTC))
        assert store.decisions.verify() == []
        assert store.decisions.barred(workspace.model) == {"2": "too many alerts"}
    assert {role: ref.version for role, ref in workspace.registry.roles(workspace.model).items()} == {"champion": "1"}
    until(lambda: server.metrics()["incumbent_office_pinned"] == 0)
    assert answered(server)["model"]["version"] == "1"
    assert "no @previous" in release("rollback", "--reason", "once more")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen in 60 s")
