"""The Bento: what is inside, and that its requirements are a part of the tested set."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from bentos.registry.ports import ModelRef
from tests.support.log.observed import until
from tests.support.processes.containers import Alone, build_bento, export, install, isolated, variables
from tests.support.processes.servers import MODELS, House, event

PROJECT = Path(__file__).resolve().parents[3]
NOT_IN_THE_IMAGE = {"prefect", "evidently", "river", "mlflow", "scikit-learn", "matplotlib", "pyarrow", "pytest"}
REPORTS_ONLY = {"evidently", "river"}
"""Imported inside functions that only flows call."""


def blocks(file: Path) -> dict[str, str]:
    """Name to pin with its hashes."""
    found = re.split(r"\n(?=[A-Za-z0-9])", file.read_text().strip())
    return {re.split(r"[=\[ ]", block, maxsplit=1)[0].lower(): block for block in found}


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bento(tmp_path_factory.mktemp("bentoml") / "home")


def test_the_bento_holds_the_two_rooms_of_the_image_and_nothing_else(bento: Path) -> None:
    source = bento / "src"
    # BentoML adds its own build file.
    assert {path.name for path in source.iterdir()} == {"bentos", "monitoring", "bentofile.yaml"}
    kinds = {path.suffix for path in source.rglob("*") if path.is_file()}
    assert kinds <= {".py", ".toml", ".txt", ".in", ".typed", ".mako", ".json", ".html", ".css", ".yaml", ".yml"} | {""}
    assert (source / "bentos" / "usecases" / "fraud" / "usecase.toml").is_file()
    assert list((source / "monitoring" / "store" / "migrations" / "versions").glob("0*.py"))


def test_the_bento_describes_its_api_with_the_columns_of_the_use_case(bento: Path) -> None:
    page = yaml.safe_load((bento / "apis" / "openapi.yaml").read_text())
    assert "amount" in page["components"]["schemas"]["Event"]["properties"]
    assert "/score" in page["paths"]


def test_the_image_runs_as_a_user_and_keeps_its_state_in_one_place(bento: Path) -> None:
    recipe = (bento / "env" / "docker" / "Dockerfile").read_text()
    assert "USER bentoml" in recipe
    said = variables(recipe)
    assert said["INCUMBENT_HOME"] == "/var/lib/incumbent"
    assert "chown bentoml:bentoml $INCUMBENT_HOME" in recipe
    assert recipe.index("VOLUME $INCUMBENT_HOME") < recipe.index("USER bentoml")
    assert said["INCUMBENT_ENV"] == "prod"


def test_the_image_says_when_it_is_not_alive_and_replaces_a_dead_worker(bento: Path) -> None:
    recipe = (bento / "env" / "docker" / "Dockerfile").read_text()
    assert "HEALTHCHECK" in recipe
    assert "/livez" in recipe.partition("HEALTHCHECK")[2]
    # BentoML leaves a dead worker dead where it finds this variable.
    assert recipe.rindex('ENTRYPOINT ["env", "-u", "BENTOML_CONTAINERIZED"') > recipe.index("ENTRYPOINT [ ")


def test_one_worker_answers_in_a_container(bento: Path) -> None:
    described = yaml.safe_load((bento / "bento.yaml").read_text())
    assert [service["config"]["workers"] for service in described["services"]] == [1]


def test_the_bento_installs_what_the_repository_pins(bento: Path) -> None:
    installed = (bento / "env" / "python" / "requirements.txt").read_text()
    for name, block in blocks(PROJECT / "bentos" / "requirements.txt").items():
        assert block.split(" ")[0].split("\n")[0] in installed, name


def test_every_pin_of_the_image_is_one_of_the_tested_set() -> None:
    lock, image = (blocks(PROJECT / name) for name in ("requirements.lock", "bentos/requirements.txt"))
    assert image.items() <= lock.items()


def test_the_image_leaves_out_what_only_flows_and_reports_need() -> None:
    assert not NOT_IN_THE_IMAGE & set(blocks(PROJECT / "bentos" / "requirements.txt"))


def test_the_image_has_every_package_that_its_rooms_import() -> None:
    image = set(blocks(PROJECT / "bentos" / "requirements.txt"))
    owners = packages_distributions()
    imported = {
        name
        for room in ("bentos", "monitoring")
        for file in (PROJECT / room).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        for name in _imported(node)
    }
    foreign = imported - set(sys.stdlib_module_names) - {"bentos", "monitoring"} - REPORTS_ONLY
    lacking = {name for name in foreign if not image & {owner.lower().replace("_", "-") for owner in owners[name]}}
    assert lacking == set()


STORED = 'incumbent_log_ledger_records_total{env="dev",fate="stored",usecase="fraud"} 1.0'


@pytest.fixture(params=["isolated", pytest.param("installed", marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def python(request: pytest.FixtureRequest, bento: Path, tmp_path: Path) -> Path:
    """Without the project: this environment's packages, or a new environment from the Bento's own requirements."""
    if request.param == "isolated":
        return isolated(tmp_path / "venv")
    return install(bento, tmp_path / "venv").python / "bin" / "python"


def test_who_has_nothing_but_the_bento_serves_ships_and_exports(bento: Path, python: Path, tmp_path: Path) -> None:
    workspace = House(tmp_path / "folder" / ".incumbent")  # where state lies when nothing is set
    workspace.add(MODELS()["1"])
    workspace.appoint(ModelRef(workspace.model, "1"), MODELS()["1"].contract_digest)
    alone = Alone(python, export(bento, tmp_path / "incumbent.bento"), workspace)
    try:
        alone.wait_ready()
        with pytest.raises(AssertionError, match="No module named 'bentos'"):
            alone.run("-c", "import bentos")
        assert alone.score(event("alone-1")).json()["model"]["version"] == "1"
        place = alone.run("-c", "import bentoml; print(bentoml.get('incumbent:latest').path)")
        rooms = f"{place.strip()}/src"
        scribe = alone.start("-m", "bentos.scribe", "--poll", "0.1", PYTHONPATH=rooms)
        try:
            until(lambda: STORED in alone.run("-m", "monitoring.exporter", "--once", PYTHONPATH=rooms))
        finally:
            scribe.terminate()
            assert scribe.wait(30) == 0
        assert not list(Path(rooms).glob(".incumbent")), "state would be lost with the next Bento"
    finally:
        assert alone.stop() == 0


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [node.module.partition(".")[0]]
    return []
