"""What the registry has lost is served on from verified copies, is told, and comes back by one command."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import ExperimentDeleted
from bentos.registry.cache import ModelCache
from bentos.registry.mlflow import open_registry
from bentos.registry.ports import ModelRef, Role
from bentos.serving.overrides import StandingOrders
from bentos.serving.role_watcher import Slot
from bentos.serving.version_check import Examiner, Permission
from flows.cli import main
from monitoring.store import RoleChange, Store, open_store
from tests.support.builders import tiny_model
from tests.support.processes.mlflow_server import LOGIN, mlflow_server
from tests.support.processes.servers import SCHEMA, House, Server, event
from tests.support.registries import mlflow_registry
from tests.unit.bentos.serving.test_role_watcher import Apart, Rooms

MODELS = {"1": tiny_model(seed=1, threshold=0.1), "2": tiny_model(seed=2), "3": tiny_model(seed=3)}
OFFICE: dict[Role, str] = {"previous": "1", "champion": "2", "challenger": "3"}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Three versions that hold three roles, by journal and registry."""
    made = House(tmp_path / "home")
    appoint_all(made)
    monkeypatch.setenv("INCUMBENT_HOME", str(made.home))
    return made


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """The same, with the registry behind a real MLflow server."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    with mlflow_server(folder) as url:
        user, _, password = LOGIN.partition(":")
        monkeypatch.setenv("INCUMBENT_MLFLOW_URI", url)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path / "home"))
        made = House(tmp_path / "home")
        appoint_all(made)
        yield made


def appoint_all(workspace: House) -> None:
    for role, version in OFFICE.items():
        workspace.appoint(workspace.add(MODELS[version]), MODELS[version].contract_digest, role)


def slot_of(workspace: House, store: Store, required: bool = True) -> Slot:
    """A slot as after a restart of the service: its folder of copies is what stays."""
    registry, cache = open_registry(workspace.settings), ModelCache(workspace.settings.cache("fraud"))
    permit = Permission(workspace.model, lambda: store, cache)
    examiner = Examiner(workspace.model, SCHEMA.fingerprint, registry, cache, Apart(), permit)
    orders = StandingOrders(workspace.model, lambda: store, required)
    orders.refresh()
    return Slot(workspace.model, registry, examiner, Rooms(), orders=orders)


def served(slot: Slot) -> str | None:
    slot.poll()
    return None if slot.active_models is None else slot.active_models.holder.ref.version


@contextmanager
def served_by(workspace: House) -> Iterator[Server]:
    """A service that is ready; a busy machine may take minutes to start it."""
    server = Server(workspace, INCUMBENT_POLL_SECONDS="0.1")
    try:
        server.wait_for("/readyz", patience=300.0)
        yield server
    finally:
        server.stop()


def command(*words: str) -> tuple[int, Any]:
    out = io.StringIO()
    with redirect_stdout(out):
        code = main([*words, "--json"])
    return code, json.loads(out.getvalue())


def lose_version(workspace: House) -> None:
    workspace.registry.client.delete_model_version(workspace.model, "2")


def lose_alias(workspace: House) -> None:
    workspace.registry.clear(workspace.model, "champion")


def lose_model(workspace: House) -> None:
    workspace.registry.client.delete_registered_model(workspace.model)


def lose_everything(workspace: House) -> None:
    lose_model(workspace)
    client = workspace.registry.client
    client.delete_experiment(client.get_experiment_by_name(workspace.model).experiment_id)


def lose_database(workspace: House) -> None:
    mlflow_registry(workspace.home)  # an empty one in its place
    (workspace.home / "artifacts").rename(workspace.home / "artifacts-of-the-old-one")


LOSSES = [lose_version, lose_alias, lose_model, lose_everything, lose_database]


@pytest.mark.parametrize("lose", LOSSES)
def test_the_champion_serves_on_also_after_a_restart_and_one_command_gives_the_registry_everything_back(
    workspace: House, lose: Callable[[House], None]
) -> None:
    lose_and_repair(workspace, lose)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("lose", "number"), [(lose_version, "4"), (lose_everything, "2")])
def test_a_registry_behind_a_server_gets_everything_back_too(
    remote: House, lose: Callable[[House], None], number: str
) -> None:
    """A server that still counts the deleted version gives its copy the next number."""
    assert remote.settings.registry_uri.startswith("http://")
    lose_and_repair(remote, lose, number)


def lose_and_repair(workspace: House, lose: Callable[[House], None], number: str = "2") -> None:
    """Serve, lose, serve on after a restart, repair, and find everything back, the champion under a number."""
    back: dict[Role, str] = {**OFFICE, "champion": number}
    with workspace.store() as store:
        slot = slot_of(workspace, store)
        assert served(slot) == "2"
        assert slot.view.lost == {}
        lose(workspace)
        assert served(slot) == "2"
        again = slot_of(workspace, store)
        assert served(again) == "2"
        lost = again.view.lost
        assert lost["champion"] == ModelRef(workspace.model, "2")
        assert set(lost) == ({"champion"} if lose in (lose_version, lose_alias) else set(OFFICE))

        code, told = command("status")
        assert code == 0
        assert told["roles"]["champion"]["lost"]
        assert [line["next"] for line in told["lines"] if line["name"] == "@champion"] == ["incumbent db repair"]

        assert command("db", "repair", "--dry-run")[0] == 0
        assert served(slot_of(workspace, store)) == "2"
        code, said = command("db", "repair")
        assert code == 0
        assert all(finding["repaired"] for finding in said["findings"])
        registry = open_registry(workspace.settings)
        assert {role: ref.version for role, ref in registry.roles(workspace.model).items()} == back
        for role, version in back.items():
            folder = registry.fetch(ModelRef(workspace.model, version), workspace.home / f"fetched-{version}")
            assert type(MODELS["1"]).load(folder).contract_digest == MODELS[OFFICE[role]].contract_digest
        last = slot_of(workspace, store)
        assert (served(last), last.view.lost) == (number, {})
        assert store.decisions.verify() == []
        assert command("db", "repair")[1]["findings"] == []
        copy = registry.fetch(ModelRef(workspace.model, number), workspace.home / "next")
        assert int(registry.register(copy, workspace.model).version) == max(4, int(number) + 1)


def test_an_office_that_a_decision_vacated_stays_vacant(workspace: House) -> None:
    with workspace.store() as store:
        assert served(slot_of(workspace, store)) == "2"
        change = RoleChange(workspace.model, "champion", None)
        store.decisions.append("fraud", "repair", {"model": workspace.model}, "ann", datetime.now(UTC), [change])
        workspace.registry.clear(workspace.model, "champion")
        assert served(slot_of(workspace, store)) is None
        _, told = command("status")
        assert "champion" not in told["roles"]


def test_a_copy_that_is_not_what_the_journal_holds_is_not_served(workspace: House) -> None:
    with workspace.store() as store:
        assert served(slot_of(workspace, store)) == "2"
        lose_model(workspace)
        MODELS["3"].save(workspace.settings.cache("fraud") / workspace.model / "2")
        assert served(slot_of(workspace, store)) is None


def test_another_registry_with_another_model_under_the_number_is_told_and_not_written_to(workspace: House) -> None:
    with workspace.store() as store:
        assert served(slot_of(workspace, store)) == "2"
    lose_database(workspace)
    other = House(workspace.home)
    for _ in range(2):
        other.add(MODELS["3"])
    with workspace.store() as store:
        assert served(slot_of(workspace, store)) == "2"
    _, said = command("db", "repair")
    named = {finding["subject"]: finding for finding in said["findings"]}
    assert named["@champion"]["name"] == "content_differs"
    assert not named["@champion"]["repaired"]
    assert "INCUMBENT_MLFLOW_URI" in named["@champion"]["text"]


def test_where_hands_move_aliases_a_lost_one_changes_nothing_at_a_restart(workspace: House) -> None:
    with workspace.store() as store:
        assert served(slot_of(workspace, store, required=False)) == "2"
        lose_alias(workspace)
        assert served(slot_of(workspace, store, required=False)) == "2"


def test_a_deleted_experiment_is_told_as_such_and_comes_back(workspace: House) -> None:
    client = workspace.registry.client
    client.delete_experiment(client.get_experiment_by_name(workspace.model).experiment_id)
    with pytest.raises(ExperimentDeleted, match=r"experiment 'dev-fraud' was deleted.*incumbent db repair"):
        workspace.add(MODELS["1"])
    _, told = command("status")
    assert [line["next"] for line in told["lines"] if line["name"] == "MLflow experiment"] == ["incumbent db repair"]
    (finding,) = command("db", "repair")[1]["findings"]
    assert (finding["name"], finding["repaired"]) == ("experiment_deleted", True)
    assert workspace.add(MODELS["1"]).version == "4"


def test_a_running_service_answers_before_and_after_its_restart_without_the_registered_model(workspace: House) -> None:
    with served_by(workspace) as server:
        before = server.score(event("a")).json()
        lose_model(workspace)
        server.wait_for("/readyz")
        assert server.score(event("b")).json()["model"]["version"] == "2"
    with served_by(workspace) as server:
        after = server.score(event("c")).json()
        assert (after["model"], after["threshold"]) == (before["model"], before["threshold"])
        assert server.card()["registry"]["lost"] == OFFICE
        lost = {name: value for name, value in server.metrics().items() if "registry_lost_role{" in name}
        assert {value for name, value in lost.items() if 'role="candidate"' not in name} == {1.0}


def test_an_open_store_tells_the_holders_of_all_roles(workspace: House) -> None:
    store = open_store(workspace.settings.log_url)
    assert store.orders.standing(workspace.model).holders == OFFICE
    store.close()
