"""The repository's own promises: the workflow file, the lock file and the pins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False, timeout=600
    )


def test_the_workflow_file_fits_the_published_schema() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    result = run(str(checker), "--builtin-schema", "vendor.github-workflows", ".github/workflows/ci.yml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_workflow_runs_the_same_script_on_push_and_on_pull_request() -> None:
    import yaml

    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    # YAML 1.1 reads the key `on` as the boolean true.
    assert set(workflow[True]) == {"push", "pull_request"}
    assert {"run": "bash .ci/run"} in workflow["jobs"]["test"]["steps"]


def test_the_lock_file_names_no_index_and_hashes_every_pin() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    pins = re.findall(r"^[a-z0-9][a-z0-9._-]*(?:\[[a-z,]+\])?==\S+", lock, flags=re.MULTILINE)
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    assert len(pins) > 100
    assert all("--hash=sha256:" in block for block in blocks if block.strip())


def test_the_lock_file_holds_every_declared_dependency_within_its_range() -> None:
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [Requirement(r) for r in project["dependencies"] + project["optional-dependencies"]["dev"]]
    locked = dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", (ROOT / "requirements.lock").read_text(), re.M))
    for requirement in declared:
        assert requirement.specifier.contains(locked[requirement.name.lower()]), requirement


def test_evidently_imports_under_the_pins() -> None:
    # `pip check` is green on combinations that do not import; only an import tells.
    result = run(sys.executable, "-c", "import evidently, evidently.presets; print(evidently.__version__)")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "0.7.23"


@pytest.mark.parametrize("room", ["monitoring", "bentos"])
def test_the_rooms_of_the_image_import_without_prefect_and_evidently(room: str) -> None:
    script = (
        "import sys, pkgutil, importlib\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'prefect', 'evidently', 'flows', 'sklearn', 'matplotlib', 'optuna'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Wall())\n"
        f"room = importlib.import_module('{room}')\n"
        "names = [m.name for m in pkgutil.walk_packages(room.__path__, room.__name__ + '.')\n"
        "         if 'migrations' not in m.name and not m.name.endswith('__main__')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names))\n"
    )
    result = run(sys.executable, "-c", script, env={"BENTOML_DO_NOT_TRACK": "True"})
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 3
