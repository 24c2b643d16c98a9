"""Settings: where state lives and what names carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from bentos.errors import SettingsError
from bentos.settings import read_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "ENV", "USECASE", "DATABASE_URL", "MLFLOW_URI", "POLL_SECONDS"):
        monkeypatch.delenv(f"INCUMBENT_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def test_all_state_lies_in_one_folder_below_the_working_directory(tmp_path: Path) -> None:
    settings = read_settings()
    assert settings.root == tmp_path / ".incumbent"
    assert settings.log_url == f"sqlite:///{tmp_path}/.incumbent/dev-log.db"
    assert settings.registry_uri == f"sqlite:///{tmp_path}/.incumbent/mlflow.db"
    for folder in (settings.artifacts, settings.snapshots, settings.reports, settings.spool("x"), settings.cache("x")):
        assert folder.is_relative_to(settings.root)
    assert not settings.root.exists()


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", "")
    assert read_settings().root == tmp_path / ".incumbent"


@pytest.mark.parametrize("env", ["dev", "staging", "prod"])
def test_the_environment_prefixes_every_name(monkeypatch: pytest.MonkeyPatch, env: str) -> None:
    monkeypatch.setenv("INCUMBENT_ENV", env)
    settings = read_settings()
    assert settings.model_name("fraud") == f"{env}-fraud"
    assert settings.deployment_name("fraud", "training") == f"{env}-fraud-training"
    assert settings.event_name("model.drift.detected") == f"{env}.model.drift.detected"
    assert settings.log_url.endswith(f"/{env}-log.db")
    assert settings.spool("fraud").parts[-2:] == (env, "fraud")


def test_a_wrong_variable_is_named_with_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCUMBENT_ENV", "production")
    with pytest.raises(SettingsError, match=r"INCUMBENT_ENV: found 'production'; .*'dev', 'staging' or 'prod'"):
        read_settings()
