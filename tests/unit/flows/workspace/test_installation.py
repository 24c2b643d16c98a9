from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from bentos.errors import SecretFileError
from bentos.home_lock import born
from bentos.usecase.loading import builtin_usecases
from flows.commands.platform.stack import mlflow_command
from flows.errors import FlowRefused, StackError
from flows.stack.local_stack import Ports
from flows.workspace.installation import Home, deployment_values, foreign_settings, open_home, usecase_reference
from flows.workspace.logins import make_logins, prefect_login_file, read_prefect_login, require_closed_server
from flows.workspace.mlflow_server import main as serve_mlflow
from flows.workspace.mlflow_server import server_environment
from flows.workspace.workspace import require_own_environment


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(home=tmp_path / "state")


def test_every_library_keeps_its_state_inside_the_home(home: Home) -> None:
    environment = home.environment(base={})
    for name in ("PREFECT_HOME", "PREFECT_PROFILES_PATH", "BENTOML_HOME", "MPLCONFIGDIR", "INCUMBENT_HOME"):
        assert environment[name].startswith(str(home.root)), name
    for name in ("PREFECT_API_DATABASE_CONNECTION_URL", "MLFLOW_TRACKING_URI"):
        assert str(home.root) in environment[name], name


def test_telemetry_is_off(home: Home) -> None:
    environment = home.environment(base={"DO_NOT_TRACK": "0"})
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["BENTOML_DO_NOT_TRACK"] == "True"


def test_a_users_own_prefect_profile_does_not_leak_into_our_processes(home: Home) -> None:
    base = {"PREFECT_PROFILE": "work", "PREFECT_API_KEY": "k", "PREFECT_LOGGING_LEVEL": "DEBUG", "PATH": "/bin"}
    environment = home.environment(base=base)
    assert "PREFECT_PROFILE" not in environment
    assert "PREFECT_API_KEY" not in environment
    assert environment["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert environment["PATH"] == "/bin"


def test_a_key_goes_to_the_server_that_it_was_given_for(home: Home) -> None:
    base = {"PREFECT_API_URL": "https://prefect.example/api", "PREFECT_API_KEY": "k"}

    assert home.environment(base=base, prefect_url="https://prefect.example/api")["PREFECT_API_KEY"] == "k"
    assert "PREFECT_API_KEY" not in home.environment(base=base, prefect_url="http://127.0.0.1:4200/api")


def test_a_login_goes_to_the_server_that_it_was_given_for(home: Home) -> None:
    base = {"PREFECT_API_URL": "https://prefect.example/api", "PREFECT_API_AUTH_STRING": "me:my-password"}
    name = "PREFECT_API_AUTH_STRING"
    assert home.environment(base=base, prefect_url="https://prefect.example/api")[name] == "me:my-password"
    assert name not in home.environment(base=base, prefect_url="http://127.0.0.1:4200/api")
    ours = home.environment(base=base, prefect_url="http://127.0.0.1:4200/api", prefect_login="admin:ours")
    assert ours[name] == "admin:ours"


def test_settings_of_a_server_are_kept_for_the_stack_to_follow_or_refuse(home: Home) -> None:
    base = {
        "PREFECT_SERVER_API_AUTH_STRING": "me:my-password",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "*",
        "PREFECT_PROFILE": "work",
    }
    kept = home.environment(base=base)
    assert {name for name in base if name in kept} == set(base) - {"PREFECT_PROFILE"}
    assert foreign_settings(base) == ["PREFECT_PROFILE"]


def test_a_worker_of_another_environment_refuses_the_run_of_a_deployment() -> None:
    for deployment in ("", "dev-fraud-training", "my-own-deployment", "devil-fraud"):
        require_own_environment("dev", deployment)
    with pytest.raises(FlowRefused, match="prod-fraud-training is a deployment of prod"):
        require_own_environment("dev", "prod-fraud-training")


def test_a_process_outside_a_stack_has_no_prefect_address(home: Home) -> None:
    assert "PREFECT_API_URL" not in home.environment(base={})


def test_entering_a_home_changes_the_given_environment_and_makes_its_folders(home: Home) -> None:
    environ = {"PREFECT_PROFILE": "work", "PATH": "/bin"}
    home.enter(environ)
    assert environ["PREFECT_HOME"] == str(home.prefect)
    assert "PREFECT_PROFILE" not in environ
    assert home.logs.is_dir()


def test_a_prefect_address_that_a_person_chose_is_kept(home: Home) -> None:
    environ = {"PREFECT_API_URL": "http://prefect.example/api"}
    home.enter(environ)
    assert environ["PREFECT_API_URL"] == "http://prefect.example/api"


def test_addresses_of_a_stack_that_was_killed_are_not_believed(home: Home) -> None:
    home.make()

    def write(birth: str | None) -> None:
        parts = {"service": {"pid": os.getpid(), "born": birth}}
        home.addresses.write_text(json.dumps({"urls": {"prefect": "http://x/api"}, "parts": parts}))

    write("another life of this process id")
    assert home.live_addresses() == {}
    write(born(os.getpid()))
    assert home.live_addresses() == {"prefect": "http://x/api"}


def test_the_login_of_a_stack_that_is_up_reaches_its_clients_and_one_without_can_still_be_stopped(home: Home) -> None:
    home.make()
    parts = {"service": {"pid": os.getpid(), "born": born(os.getpid())}}
    home.addresses.write_text(json.dumps({"urls": {"prefect": "http://127.0.0.1:4200/api"}, "parts": parts}))
    environ = {"PREFECT_API_URL": "http://prefect.example/api", "PREFECT_API_AUTH_STRING": "me:for-another"}
    home.enter(environ)
    assert "PREFECT_API_AUTH_STRING" not in environ
    make_logins(home.root)
    home.enter(environ)
    assert environ["PREFECT_API_AUTH_STRING"] == read_prefect_login(home.root, {})
    assert read_prefect_login(home.root, {}).startswith("admin:")
    before = prefect_login_file(home.root).read_text()
    make_logins(home.root)
    assert prefect_login_file(home.root).read_text() == before
    prefect_login_file(home.root).chmod(0o644)
    with pytest.raises(SecretFileError, match="others may read it"):
        home.enter(environ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "*"),
        ("PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS", "https://evil.example"),
        ("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "false"),
        ("PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED", "0"),
        ("PREFECT_SERVER_API_HOST", "0.0.0.0"),
        ("PREFECT_UI_API_URL", "http://elsewhere/api"),
        ("PREFECT_API_AUTH_STRING", "me:another-password"),
    ],
)
def test_a_variable_that_would_open_the_server_is_refused_in_words(home: Home, name: str, value: str) -> None:
    make_logins(home.root)
    require_closed_server(home.root, {})
    with pytest.raises(StackError, match=name):
        require_closed_server(home.root, {name: value})


def test_a_login_of_a_persons_own_is_followed_where_it_is_one(home: Home) -> None:
    both = {"PREFECT_SERVER_API_AUTH_STRING": "me:my-password", "PREFECT_API_AUTH_STRING": "me:my-password"}
    require_closed_server(home.root, both)
    assert read_prefect_login(home.root, both) == "me:my-password"
    for bad in ("my-password", "me:short", ":my-password", "me:my pass word"):
        with pytest.raises(StackError, match="must be user:password"):
            read_prefect_login(home.root, {"PREFECT_SERVER_API_AUTH_STRING": bad})


def test_a_damaged_address_file_counts_as_no_stack(home: Home) -> None:
    home.make()
    home.addresses.write_text("{")
    assert home.live_addresses() == {}


def test_a_use_case_file_is_named_by_its_absolute_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert usecase_reference("my.toml") == str(tmp_path / "my.toml")
    assert usecase_reference("fraud") == "fraud"


def test_deployment_values_have_defaults_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("INCUMBENT_ENV", "INCUMBENT_USECASE", "INCUMBENT_HOME", "INCUMBENT_REPORTS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    values = deployment_values()
    assert (values["env"], values["name"], values["timezone"]) == ("dev", "fraud", "UTC")


def test_deployment_values_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INCUMBENT_ENV", "prod")
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path))
    assert deployment_values()["env"] == "prod"


def test_links_name_a_host_that_others_can_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INCUMBENT_REPORTS_URL", raising=False)
    here, everywhere = Ports(1, 2, 3), Ports(1, 2, 3, "0.0.0.0")
    assert here.link_base == "http://127.0.0.1:3"
    assert everywhere.urls["service"] == "http://127.0.0.1:2"
    assert everywhere.link_base == f"http://{socket.gethostname()}:3"
    monkeypatch.setenv("INCUMBENT_REPORTS_URL", "https://reports.example")
    assert everywhere.link_base == "https://reports.example"


def test_no_deployment_that_asks_for_approval_is_made_for_an_open_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = builtin_usecases()["fraud"].read_text(encoding="utf-8")
    assert "[promotion]" in text
    file = tmp_path / "approved.toml"
    file.write_text(text.replace("[promotion]", '[promotion]\napproval = "required"'), encoding="utf-8")
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INCUMBENT_USECASE", str(file))
    for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example:4200/api")
    with pytest.raises(FlowRefused, match="asks nobody who they are"):
        deployment_values()
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:secret")
    assert deployment_values()["name"] == "fraud"
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    with pytest.raises(FlowRefused, match="asks nobody who they are"):
        deployment_values()


def test_mlflow_is_given_its_database_where_no_list_of_processes_shows_a_password(tmp_path: Path) -> None:
    settings = open_home(home=tmp_path, mlflow_uri="postgresql+psycopg://ml:secret@host/mlflow?host=/tmp").settings
    given = server_environment(settings.registry_uri, settings)
    assert settings.mlflow_uri in given.values()
    assert mlflow_command() == "incumbent mlflow"


def test_an_mlflow_elsewhere_is_named_and_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path))
    assert serve_mlflow([]) == 2
    assert "mlflow.login" in capsys.readouterr().err, "there is no login yet"
    make_logins(tmp_path)
    monkeypatch.setenv("INCUMBENT_MLFLOW_URI", "http://mlflow.example:5000")
    assert serve_mlflow([]) == 2
    assert "open its address in a browser" in capsys.readouterr().err
    monkeypatch.setenv("INCUMBENT_MLFLOW_LOGIN", "admin:short")
    assert serve_mlflow([]) == 2
    assert "INCUMBENT_MLFLOW_LOGIN must be user:password" in capsys.readouterr().err
