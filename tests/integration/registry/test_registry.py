"""The same contract for the MLflow registry and its stand-in."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import httpx
import numpy as np
import pytest

from bentos.errors import IncumbentError, ModelCorrupt, RegistryUnavailable, RoleVacant, VersionMissing
from bentos.model.booster_adapters import ADAPTERS
from bentos.model.scoring_model import MODEL_FILE, MODEL_FILES, ScoringModel
from bentos.registry.mlflow import MlflowRegistry, ModelRef, ModelRegistry
from bentos.registry.routing_policy import Arm, RoutingPolicy
from flows.steps.tracking.mlflow_run import MlflowTracker
from tests.support import registries
from tests.support.boosters import LinearBooster, linear_model
from tests.support.builders import tiny_model
from tests.support.fakes import FakeRegistry
from tests.support.processes.mlflow_server import LOGIN, mlflow_server

NAME = "dev-fraud"


@pytest.fixture(params=["mlflow", "fake"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> ModelRegistry:
    if request.param == "fake":
        return FakeRegistry(tmp_path / "fake")
    return request.getfixturevalue("mlflow_registry")


@pytest.fixture
def mlflow_registry(tmp_path: Path) -> MlflowRegistry:
    return registries.mlflow_registry(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model().save(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_that_does_not_exist_has_no_roles_and_no_versions(registry: ModelRegistry):
    assert registry.roles(NAME) == {}
    assert registry.versions(NAME) == []
    with pytest.raises(RoleVacant, match="dev-fraud has no @champion"):
        registry.resolve(NAME, "champion")


def test_versions_count_up_as_text_and_keep_their_tags(registry: ModelRegistry, folder: Path):
    first = registry.register(folder, NAME, {"semantic_version": "1.0.0"}, description="the first")
    second = registry.register(folder, NAME)
    assert [first, second] == [ModelRef(NAME, "1"), ModelRef(NAME, "2")]
    assert [info.ref for info in registry.versions(NAME)] == [first, second]
    told = registry.describe(first)
    assert (told.tags["semantic_version"], told.description) == ("1.0.0", "the first")
    assert abs(told.created_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_role_moves_and_another_stays(registry: ModelRegistry, folder: Path):
    refs = [registry.register(folder, NAME) for _ in range(2)]
    registry.point(NAME, "champion", "1")
    registry.point(NAME, "challenger", "2")
    assert registry.roles(NAME) == {"champion": refs[0], "challenger": refs[1]}
    registry.point(NAME, "previous", "1")
    registry.point(NAME, "champion", "2")
    registry.clear(NAME, "challenger")
    assert registry.roles(NAME) == {"champion": refs[1], "previous": refs[0]}
    assert registry.resolve(NAME, "champion") == refs[1]


def a_policy(**changes: object) -> RoutingPolicy:
    arms = (Arm("challenger", "challenger", 0.05), Arm("champion", "champion", 0.95))
    made = RoutingPolicy("canary", NAME, "1", "2", arms, "Übung", "customer_id", datetime.now(UTC), "me", "a try")
    return dataclasses.replace(made, **changes)


def test_a_routing_policy_is_read_back_word_for_word_and_with_the_roles(registry: ModelRegistry, folder: Path):
    refs = [registry.register(folder, NAME) for _ in range(2)]
    registry.point(NAME, "champion", "1")
    assert registry.routing(NAME) is None
    registry.set_routing(NAME, a_policy())
    second = a_policy(reason="another")
    registry.set_routing(NAME, second)
    assert registry.routing(NAME) == second
    look = registry.look(NAME)
    assert (look.roles, look.routing) == ({"champion": refs[0]}, second.to_text())
    assert registry.roles(NAME) == {"champion": refs[0]}


def test_a_routing_policy_can_be_taken_away_twice(registry: ModelRegistry, folder: Path):
    registry.register(folder, NAME)
    registry.set_routing(NAME, a_policy())
    for _ in range(2):
        registry.set_routing(NAME, None)
    assert registry.look(NAME).routing is None


def test_a_model_that_does_not_exist_is_not_routed(registry: ModelRegistry):
    assert (registry.look(NAME).roles, registry.routing(NAME)) == ({}, None)
    with pytest.raises(VersionMissing, match=NAME):
        registry.set_routing(NAME, a_policy())


def test_clearing_a_vacant_role_is_no_error(registry: ModelRegistry, folder: Path):
    registry.clear(NAME, "challenger")
    registry.register(folder, NAME)
    registry.clear(NAME, "challenger")
    assert registry.roles(NAME) == {}


@pytest.mark.parametrize("version", ["7", "latest"])
def test_a_version_that_does_not_exist_is_named(registry: ModelRegistry, folder: Path, version: str):
    registry.register(folder, NAME)
    ref = ModelRef(NAME, version)
    for ask in (
        lambda: registry.describe(ref),
        lambda: registry.point(NAME, "champion", version),
        lambda: registry.fetch(ref, folder / "x"),
    ):
        with pytest.raises(VersionMissing, match=f"dev-fraud/{version}"):
            ask()


def test_a_fetched_model_is_the_one_that_was_registered(registry: ModelRegistry, folder: Path, tmp_path: Path):
    into = registry.fetch(registry.register(folder, NAME), tmp_path / "fetched")
    assert sorted(p.name for p in into.iterdir()) == sorted(MODEL_FILES)
    fetched = ScoringModel.load(into, ScoringModel.load(folder).contract_digest)
    fetched.check_golden()


def test_a_damaged_folder_registers_nothing(registry: ModelRegistry, folder: Path):
    (folder / MODEL_FILE).write_bytes(b"{}")
    with pytest.raises(ModelCorrupt):
        registry.register(folder, NAME)
    assert registry.versions(NAME) == []


def test_models_do_not_see_each_other(registry: ModelRegistry, folder: Path):
    registry.register(folder, NAME)
    registry.register(folder, "prod-fraud")
    registry.point("prod-fraud", "champion", "1")
    assert registry.roles(NAME) == {}
    assert [info.ref.label for info in registry.versions("prod-fraud")] == ["prod-fraud/1"]


def test_a_label_reads_back_as_its_version():
    assert ModelRef.parse("dev-fraud/3") == ModelRef(NAME, "3")
    with pytest.raises(ValueError, match="name/version"):
        ModelRef.parse("dev-fraud")


def test_a_version_of_another_booster_is_a_native_model_of_its_own_library(
    mlflow_registry: MlflowRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(ADAPTERS, LinearBooster.kind, LinearBooster)
    made = linear_model()
    made.save(tmp_path / "linear")
    ref = mlflow_registry.register(tmp_path / "linear", NAME)
    fetched = ScoringModel.load(mlflow_registry.fetch(ref, tmp_path / "fetched"), made.contract_digest)
    assert isinstance(fetched.booster, LinearBooster)
    import mlflow.sklearn

    # MLflow stores scikit-learn's objects as code, and asks whoever loads them whether that is meant.
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", mlflow_registry.uri)
    theirs = mlflow.sklearn.load_model(
        f"models:/{NAME}/1",
    )
    assert np.allclose(theirs.predict_proba(made.golden.features)[:, 1], made.golden.raw)


def test_a_registered_version_is_a_native_xgboost_model_for_anyone(
    mlflow_registry: MlflowRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    mlflow_registry.register(folder, NAME)
    import mlflow.xgboost
    import xgboost

    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", mlflow_registry.uri)
    booster = mlflow.xgboost.load_model(f"models:/{NAME}/1")
    model = ScoringModel.load(folder)
    rows = xgboost.DMatrix(model.golden.features, feature_names=list(model.plan.names))
    assert booster.predict(rows).tobytes() == model.golden.raw.tobytes()
    told = mlflow.models.get_model_info(f"models:/{NAME}/1")
    assert told.signature.inputs.input_names() == list(model.plan.names)


def test_nothing_is_written_outside_the_given_folders(
    mlflow_registry: MlflowRegistry, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    mlflow_registry.fetch(mlflow_registry.register(folder, NAME), tmp_path / "fetched")
    assert list(elsewhere.iterdir()) == []
    stored = list((tmp_path / "artifacts").rglob("contract.json"))
    assert len(stored) == 1
    assert not list((tmp_path / "artifacts").rglob("*.pkl"))


def test_a_failed_upload_leaves_no_version(
    mlflow_registry: MlflowRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mlflow_registry.client, "log_model_artifacts", full)
    with pytest.raises(RegistryUnavailable, match="No space left on device"):
        mlflow_registry.register(folder, NAME)
    assert mlflow_registry.versions(NAME) == []
    assert mlflow_registry.roles(NAME) == {}


def test_a_version_without_our_files_cannot_be_fetched(mlflow_registry: MlflowRegistry, folder: Path, tmp_path: Path):
    ref = mlflow_registry.register(folder, NAME)
    next((tmp_path / "artifacts").rglob("contract.json")).unlink()
    with pytest.raises(ModelCorrupt, match=r"dev-fraud/1 has no contract\.json"):
        mlflow_registry.fetch(ref, tmp_path / "fetched")


def test_a_dead_server_says_so_at_once(tmp_path: Path):
    with socket.socket() as taken:  # bound, never listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        registry = MlflowRegistry(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(RegistryUnavailable, match="did not answer"):
            registry.roles(NAME)


def test_an_outage_of_the_stand_in_looks_like_one(folder: Path, tmp_path: Path):
    registry = FakeRegistry(tmp_path / "fake")
    registry.down = True
    asked: list[Callable[[], object]] = [
        lambda: registry.roles(NAME),
        lambda: registry.resolve(NAME, "champion"),
        lambda: registry.register(folder, NAME),
    ]
    for ask in asked:
        with pytest.raises(RegistryUnavailable):
            ask()


def test_roles_can_be_polled_from_a_thread_while_they_move(mlflow_registry: MlflowRegistry, folder: Path):
    for _ in range(2):
        mlflow_registry.register(folder, NAME)
    mlflow_registry.point(NAME, "champion", "1")
    seen: set[str] = set()
    failed: list[IncumbentError] = []

    def poll() -> None:
        try:
            for _ in range(30):
                seen.add(mlflow_registry.resolve(NAME, "champion").version)
        except IncumbentError as exc:
            failed.append(exc)

    threads = [Thread(target=poll) for _ in range(2)]
    for thread in threads:
        thread.start()
    for flip in range(10):
        mlflow_registry.point(NAME, "champion", str(flip % 2 + 1))
    for thread in threads:
        thread.join()
    assert not failed
    assert seen <= {"1", "2"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with mlflow_server(tmp_path) as url:
        yield url


@pytest.mark.slow
def test_a_registry_behind_a_server_keeps_the_contract_too(
    server: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = f"{server}/api/2.0/mlflow/registered-models/search"
    user, _, password = LOGIN.partition(":")
    assert httpx.get(asked).status_code == 401
    assert httpx.get(server).headers["www-authenticate"].startswith("Basic"), "a browser asks for the login"
    assert httpx.get(asked, auth=(user, "wrong-password")).status_code == 401
    assert httpx.get(asked, auth=(user, password)).status_code == 200
    assert httpx.get(asked, auth=(user, password), headers={"Host": "rebound.example.net"}).status_code == 421
    assert httpx.get(asked, auth=(user, password), headers={"Origin": "http://127.0.0.1:8900"}).status_code == 403
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    registry = MlflowRegistry(server, tmp_path / "unused")
    assert registry.roles(NAME) == {}
    ref = registry.register(folder, NAME, {"semantic_version": "1.0.0"}, description="the first")
    registry.point(NAME, "champion", ref.version)
    assert registry.roles(NAME) == {"champion": ModelRef(NAME, "1")}
    assert registry.describe(ref).tags["semantic_version"] == "1.0.0"
    registry.clear(NAME, "challenger")
    registry.set_routing(NAME, a_policy())
    assert registry.look(NAME).routing == a_policy(created_at=registry.routing(NAME).created_at).to_text()
    registry.set_routing(NAME, None)
    assert registry.routing(NAME) is None
    into = registry.fetch(ref, tmp_path / "fetched")
    ScoringModel.load(into, ScoringModel.load(folder).contract_digest).check_golden()
    with pytest.raises(VersionMissing):
        registry.point(NAME, "champion", "7")
    tracker = MlflowTracker(registry)
    run_id = tracker.start(NAME, "a run", {})
    tracker.keep(run_id, folder)
    assert tracker.fetch(run_id, MODEL_FILE, tmp_path / "kept").read_bytes() == (folder / MODEL_FILE).read_bytes()
    assert not (tmp_path / "unused").exists()


def test_several_processes_may_open_a_new_registry_at_once(tmp_path: Path):
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    script = (
        "import sys, mlflow.tracking\n"
        "from bentos.registry.mlflow import MlflowRegistry\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "assert MlflowRegistry(sys.argv[1]).roles('dev-fraud') == {}"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        process.communicate(timeout=600)
    assert [process.returncode for process in started] == [0, 0, 0]
