"""Versions count what changed; code and environment have a digest even where there is no repository."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.registry.mlflow import ModelRef, VersionInfo
from flows.steps.tracking.version_tags import (
    VersionDigests,
    environment_digest,
    git_commit,
    next_version,
    parameters_digest,
    parent_label,
)
from monitoring.core.hashing import sha256_file

KIN = VersionDigests("schema", "plan", "parameters")


def parent(version: str = "2.3.4", **tags: str) -> VersionInfo:
    told = {
        "semantic_version": version,
        "schema_fingerprint": "schema",
        "plan_fingerprint": "plan",
        "parameters_digest": "parameters",
    }
    return VersionInfo(ModelRef("dev-fraud", "9"), told | tags, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "2.3.5"),
        ({"plan_fingerprint": "other"}, "2.4.0"),
        ({"parameters_digest": "other"}, "2.4.0"),
        ({"schema_fingerprint": "other"}, "3.0.0"),
        ({"schema_fingerprint": "other", "plan_fingerprint": "other"}, "3.0.0"),
    ],
)
def test_a_version_says_what_changed_since_its_parent(changed: dict[str, str], expected: str):
    assert next_version(parent(**changed), KIN) == expected


def test_the_first_version_is_one():
    assert next_version(None, KIN) == "1.0.0"
    assert parent_label(None) is None


def test_the_parent_is_named_by_its_label():
    assert parent_label(parent()) == "dev-fraud/9"


def test_parameters_and_seed_have_one_digest_in_any_order():
    assert parameters_digest({"a": 1, "b": 2}, 7) == parameters_digest({"b": 2, "a": 1}, 7)
    assert parameters_digest({"a": 1}, 7) != parameters_digest({"a": 1}, 8)


def test_a_folder_without_a_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None


def test_a_commit_with_changed_files_says_so(tmp_path: Path):
    def git(*words: str) -> None:
        name = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *name, *words], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    clean = git_commit(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == f"{clean}+changes"


def test_the_environment_is_the_lock_file_or_what_is_installed(tmp_path: Path):
    installed = environment_digest(tmp_path)
    assert installed == environment_digest(tmp_path)
    (tmp_path / "requirements.lock").write_text("a==1\n")
    assert environment_digest(tmp_path) == sha256_file(tmp_path / "requirements.lock") != installed
