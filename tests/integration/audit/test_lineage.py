"""Data versions and lineage on the command line, over a model that was really trained."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from flows.snapshots.dvc import track
from tests.support.worlds import DAY, World, small_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A home with the history imported and version 1 trained from it, active."""
    before = dict(os.environ)
    with small_world(tmp_path_factory.mktemp("lineage")) as made:
        said(made, "train", "--source", "log", "--until", made.live_from.date().isoformat())
        yield made
    os.environ.clear()
    os.environ.update(before)


def said(world: World, *words: str, code: int = 0) -> dict[str, Any]:
    """Run a command with ``--json`` and return what it printed."""
    os.environ["INCUMBENT_HOME"] = str(world.workspace.settings.root)
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main([*words, "--usecase", world.reference, "--json"]) == code
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def shown(world: World, *words: str) -> str:
    """Run a command and return its text for people."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main([*words, "--usecase", world.reference]) == 0
    return printed.getvalue()


def test_a_version_leads_to_its_data_its_code_its_parameters_and_its_decisions(world: World) -> None:
    found = said(world, "lineage", "1")
    model = world.model()
    assert found["version"] == f"{world.workspace.model}/1"
    assert found["roles"] == ["champion"]
    assert found["data"]["digest"] == model.metadata.data_digest
    assert found["data"]["here"]
    assert len(found["code"]["environment_digest"]) == 64
    assert found["parameters"]["seed"] == str(model.metadata.seed)
    assert found["parent"] is None
    kinds = [d["kind"] for d in found["decisions"]]
    assert kinds[:2] == ["training", "installation.planned"]
    assert said(world, "lineage", "champion") == found
    assert said(world, "lineage", found["version"]) == found


def test_its_data_and_each_of_its_decisions_lead_back_to_the_version(world: World) -> None:
    found = said(world, "lineage", "1")
    back = said(world, "lineage", "--data", found["data"]["digest"][:12])
    assert back["versions"] == [found["version"]]
    assert back["decisions"] == found["decisions"]
    for decision in found["decisions"]:
        by_id = said(world, "lineage", "--decision", decision["id"])
        assert {"version": found["version"], "data_digest": found["data"]["digest"]} in by_id["versions"]
        assert by_id == said(world, "lineage", "--decision", str(decision["seq"]))


def test_the_snapshots_are_listed_with_what_uses_them(world: World) -> None:
    listed = said(world, "data", "list")["snapshots"]
    digest = said(world, "lineage", "1")["data"]["digest"]
    (own,) = [s for s in listed if s["digest"] == digest]
    assert own["used_by"] == [f"{world.workspace.model}/1"]
    assert own["kind"] == "training"
    detail = said(world, "data", "show", digest[:10])
    assert detail["rows"] == own["rows"]
    assert {c["name"] for c in detail["columns"]} == {c.name for c in world.workspace.usecase.columns}
    assert detail["used_by"]["versions"] == own["used_by"]


def test_a_restored_snapshot_reads_as_the_same_data(world: World, tmp_path: Path) -> None:
    digest = said(world, "lineage", "1")["data"]["digest"]
    table = str(tmp_path / "restored.parquet")
    restored = said(world, "data", "restore", digest, "--out", table)
    assert restored["rows"] == said(world, "data", "show", digest)["rows"]
    until = world.live_from.date().isoformat()
    again = said(world, "train", "--source", "parquet", "--path", table, "--until", until)
    assert said(world, "lineage", again["model"])["data"]["digest"] == digest
    listed = said(world, "data", "list")["snapshots"]
    assert [s["digest"] for s in listed if s["kind"] == "training"] == [digest]


def test_a_data_version_with_a_day_less_is_compared_with_the_whole(world: World) -> None:
    digest = said(world, "lineage", "1")["data"]["digest"]
    usecase, store = world.workspace.usecase, world.workspace.snapshots
    whole = store.load(digest)
    kept = (whole.events[usecase.event_time] < whole.events[usecase.event_time].max() - DAY).to_numpy()
    events = whole.events[kept].reset_index(drop=True)
    labels = whole.labels[whole.labels["event_id"].isin(events[usecase.event_id])]
    less = store.save(events, labels, usecase=usecase, window=whole.ref.window, source="a day less")
    found = said(world, "data", "diff", less.digest[:9], digest[:9])
    assert (found["added"], found["removed"], found["changed"]) == (int((~kept).sum()), 0, 0)
    assert found["labels"] == {"gained": 0, "lost": 0, "changed": 0}
    assert found["used_by"] == {less.digest: [], digest: said(world, "lineage", "--data", digest)["versions"]}
    assert found["drift"]["band"] == "none"
    assert f"{int((~kept).sum())} added, 0 removed" in shown(world, "data", "diff", less.digest, digest)


def test_a_child_names_its_parent_and_the_parent_its_child(world: World, tmp_path: Path) -> None:
    model, registry = world.workspace.model, world.workspace.registry
    world.model().save(tmp_path)
    child = registry.register(tmp_path, model, {"parent": f"{model}/1"})
    assert said(world, "lineage", child.version)["ancestors"] == [f"{model}/1"]
    ours = [v.ref.label for v in registry.versions(model) if v.tags.get("parent") == f"{model}/1"]
    assert child.label == ours[-1]
    assert said(world, "lineage", "1")["children"] == ours
    assert f"{model}/1" in shown(world, "lineage", child.version)


def test_track_writes_dvc_files_and_fills_the_cache_once_there_is_a_repository(world: World) -> None:
    tracked = said(world, "data", "track")
    assert tracked["files"]
    assert all(Path(file).is_file() for file in tracked["files"])
    assert tracked["cached"] == 0
    (world.workspace.snapshots.folder / ".dvc").mkdir()
    assert said(world, "data", "track") == tracked | {"cached": len(tracked["files"])}
    shutil.rmtree(world.workspace.snapshots.folder / ".dvc")


def test_what_does_not_exist_is_refused_in_one_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["lineage", "99"], ["lineage", "--decision", "9999"], ["data", "show", "0" * 64]):
        assert main([*words, "--usecase", world.reference]) == 1
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_dvc_push_and_pull_carry_a_snapshot(world: World, tmp_path: Path) -> None:
    """The real tool, in an environment of its own."""
    dvc = own_dvc(tmp_path)
    place, remote = tmp_path / "snapshots", tmp_path / "remote"
    shutil.copytree(world.workspace.snapshots.folder, place)
    subprocess.run([dvc, "init", "--no-scm", "-q"], cwd=place, check=True)
    subprocess.run([dvc, "remote", "add", "-d", "ours", str(remote)], cwd=place, check=True)
    paths = sorted(place.glob("??/*.parquet"))
    assert paths
    files = [track(path) for path in paths]
    assert all(f.cached for f in files)
    status = subprocess.run([dvc, "status"], cwd=place, check=True, capture_output=True, text=True).stdout
    assert "up to date" in status
    subprocess.run([dvc, "push", "-q", "-R", "."], cwd=place, check=True)
    assert {f.md5 for f in files} <= {p.parent.name + p.name for p in remote.rglob("files/md5/??/*")}
    before = [path.read_bytes() for path in paths]
    shutil.rmtree(place / ".dvc" / "cache")
    for path in paths:
        path.unlink()
    subprocess.run([dvc, "pull", "-q", "-R", "."], cwd=place, check=True)
    assert [path.read_bytes() for path in paths] == before


def own_dvc(folder: Path) -> str:
    """A ``dvc`` of its own: ``INCUMBENT_TEST_DVC``, else a fresh environment."""
    from tests.support.processes.environments import program

    return program("dvc", folder, "INCUMBENT_TEST_DVC", "dvc>=3.60,<4")
