"""Where the addresses of targets stand, and what of them people see."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.errors import UseCaseError
from bentos.settings import read_settings
from bentos.usecase.loading import load_usecase
from bentos.usecase.options import NotifyPolicy, NotifyRoute
from flows.errors import NotifyError
from flows.notify.port import send_notice
from flows.notify.targets import all_targets, find_target
from flows.workspace.workspace import Workspace, open_workspace
from monitoring.store import memory_store
from tests.support.builders import fraud
from tests.support.hooks import webhook

ROUTES = NotifyPolicy(routes=(NotifyRoute(kinds=("rollback", "approval"), to="oncall"),))

NO_ROUTES = NotifyPolicy()


def house_with(folder: Path, policy: NotifyPolicy = NO_ROUTES) -> Workspace:
    workspace = Workspace(read_settings(home=folder), fraud().model_copy(update={"notify": policy}), "fraud")
    workspace.__dict__["store"] = memory_store()
    return workspace


def test_an_address_comes_from_a_variable_or_from_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "notify.toml"
    file.write_text('oncall = "json://of-the-file"\ndefault = "https://of-the-file mailto://too"\n')
    file.chmod(0o600)
    settings = read_settings(home=tmp_path)
    assert find_target(settings, "oncall").urls == ("json://of-the-file",)
    assert find_target(settings, "default").urls == ("https://of-the-file", "mailto://too")
    monkeypatch.setenv("INCUMBENT_NOTIFY_ONCALL", "json://of-the-variable")
    assert find_target(settings, "oncall").urls == ("json://of-the-variable",)
    assert find_target(settings, "nobody").urls == ()


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ('oncall = "json://token-4711"', 0o644, "chmod 600"),
        ('oncall = "json://token-4711', 0o600, "cannot be read as TOML"),
        ("oncall = 4711", 0o600, "must be text"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence_without_its_content(
    content: str, mode: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "notify.toml").write_text(content)
    (tmp_path / "notify.toml").chmod(mode)
    with pytest.raises(NotifyError, match=words) as refused:
        find_target(read_settings(home=tmp_path), "oncall")
    assert "4711" not in str(refused.value)


def test_a_kind_goes_along_its_routes_and_others_to_the_default() -> None:
    policy = NotifyPolicy(routes=(*ROUTES.routes, NotifyRoute(kinds=("rollback",), to="desk")))
    assert policy.targets("rollback") == ("oncall", "desk")
    assert policy.targets("approval") == ("oncall",)
    assert policy.targets("drift") == ("default",)


def test_a_route_for_a_kind_that_is_none_is_refused_with_the_kinds_there_are(tmp_path: Path) -> None:
    import bentos.usecases.fraud

    text = (Path(str(bentos.usecases.fraud.__file__)).parent / "usecase.toml").read_text()
    file = tmp_path / "mine.toml"
    file.write_text(text + '\n[notify]\nroutes = [{kinds = ["rolback"], to = "oncall"}]\n')
    with pytest.raises(UseCaseError, match="rollback"):
        load_usecase(str(file))
    file.write_text(text + '\n[notify]\nroutes = [{kinds = ["rollback"], to = "oncall"}]\n')
    assert open_workspace(str(file)).usecase.notify.targets("rollback") == ("oncall",)


def test_every_target_of_a_use_case_is_known(tmp_path: Path) -> None:
    workspace = house_with(tmp_path, ROUTES)
    assert [target.name for target in all_targets(workspace.settings, workspace.usecase)] == ["default", "oncall"]


def test_a_flow_tells_at_once_and_asks_a_webhook_that_stumbles_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook((503, 429)) as hook:
        monkeypatch.setenv("INCUMBENT_NOTIFY_URL", hook.url)
        assert send_notice(
            house_with(tmp_path), "retraining", "retrain", "severe drift", datetime.now(UTC), pause_s=0.0
        )
    assert len(hook.bodies) == 3
    assert len({body["id"] for body in hook.bodies}) == 1


def test_a_refusal_is_final_for_the_flow_and_waits_for_the_notifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = house_with(tmp_path)
    with webhook((404,)) as hook:
        monkeypatch.setenv("INCUMBENT_NOTIFY_URL", hook.url)
        workspace = Workspace(read_settings(home=tmp_path), workspace.usecase, "fraud")
        workspace.__dict__["store"] = store = memory_store()
        assert not send_notice(workspace, "retraining", "retrain", "severe drift", datetime.now(UTC), pause_s=0.0)
    assert len(hook.bodies) == 1
    assert [(name, count, why) for name, count, _, why in store.notices.problems()] == [
        ("default", 1, "it answered 404")
    ]
    assert "4711" not in caplog.text


def test_without_a_target_the_log_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "incumbent.notify"):
        assert not send_notice(
            house_with(tmp_path), "retraining", "retrain", "severe drift (amount)", datetime.now(UTC)
        )
    assert "retraining of dev-fraud: retrain: severe drift (amount)" in caplog.text


def test_a_database_that_is_away_does_not_keep_a_flow_from_telling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook:
        monkeypatch.setenv("INCUMBENT_NOTIFY_URL", hook.url)
        monkeypatch.setenv("INCUMBENT_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        workspace = Workspace(read_settings(home=tmp_path), fraud(), "fraud")
        assert send_notice(workspace, "retraining", "retrain", "severe drift", datetime.now(UTC))
    assert len(hook.bodies) == 1
