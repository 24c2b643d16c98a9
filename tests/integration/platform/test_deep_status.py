"""``incumbent status --deep``: faults that are there for real are named, and nothing that looks is changed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bentos.home_lock import HomeLock, LockHolder, born
from flows.cli import main
from flows.health.checks import CHECKS, COMMON, run_checks
from flows.health.look import HealthFinding
from flows.health.status import deep_status, open_contexts
from flows.notify.notice import Notice, with_id
from flows.notify.outbox import with_usecase_name
from flows.stack.state_file import PartState, StackState, SupervisorState, read_state, write_state
from flows.workspace.installation import open_home
from flows.workspace.roster import Member, Roster, write_roster
from flows.workspace.workspace import open_workspace
from monitoring.store import NoticeEntry, RoleChange, Run, ScoreRecord, Store, open_store
from monitoring.store.database.frames import to_us
from tests.support.registries import mlflow_registry
from tests.support.releases import MODEL, NOW

DAY = timedelta(days=1)


class Well:
    """A home whose journal and registry agree on version 1, and whose scribe gives signs of life."""

    def __init__(self, home: Path) -> None:
        self.home = home
        mlflow_registry(home)
        self.client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}", f"sqlite:///{home / 'mlflow.db'}")
        self.client.create_registered_model(MODEL)
        for _ in range(2):
            self.client.create_model_version(MODEL, source=(home / "artifacts").as_uri())
        self.client.set_registered_model_alias(MODEL, "champion", "1")
        self.store: Store = open_store(f"sqlite:///{home / 'dev-log.db'}")
        change = RoleChange(MODEL, "champion", "1", "c")
        self.store.decisions.append("fraud", "promotion.champion_set", {"model": MODEL}, "me", NOW, [change])
        self.store.heartbeats.beat("fraud", "scribe")

    def execute(self, text: str) -> None:
        with self.store.database.write() as connection:
            connection.exec_driver_sql(text)

    def stack(self, urls: dict[str, str], **parts: PartState) -> None:
        me = SupervisorState(os.getpid(), born(os.getpid()), NOW)
        (self.home / "run").mkdir(exist_ok=True)
        state = StackState(parts, me, "127.0.0.1", {}, urls, usecase="fraud", reference="fraud")
        write_state(self.home / "run" / "stack.json", state)


@pytest.fixture
def well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Well]:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path))
    made = Well(tmp_path)
    yield made
    made.store.close()


def wrong() -> dict[str, HealthFinding]:
    return {name: one for name, one in deep_status().items() if one.state == "wrong"}


def test_all_is_well_and_nothing_is_changed(well: Well, capsys: pytest.CaptureFixture[str]) -> None:
    well.store.close()
    before = {file: file.read_bytes() for file in well.home.rglob("*") if file.is_file()}
    assert main(["status", "--deep", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["well"], said["failed"], set(said["checks"])) == (True, [], set(CHECKS))
    assert said["checks"]["champion"]["text"] == "version 1 by journal and registry"
    assert all(one["text"] for one in said["checks"].values())
    after = {file: file.read_bytes() for file in well.home.rglob("*") if file.is_file()}
    assert {file: text for file, text in after.items() if not file.name.endswith(("-shm", "-wal"))} == {
        file: text for file, text in before.items() if not file.name.endswith(("-shm", "-wal"))
    }


def test_a_home_that_does_not_exist_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path / "none"))
    assert main(["status", "--deep"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_the_exit_code_and_the_last_line(well: Well, capsys: pytest.CaptureFixture[str]) -> None:
    well.client.delete_registered_model_alias(MODEL, "champion")
    assert main(["status", "--deep"]) == 1
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == "wrong: champion"


def test_a_champion_that_registry_or_replicas_do_not_know_is_wrong(well: Well) -> None:
    well.client.set_registered_model_alias(MODEL, "champion", "2")
    assert "the registry says version 2, the journal 1" in wrong()["champion"].text
    well.client.delete_model_version(MODEL, "2")
    found = wrong()
    assert set(found) == {"champion"}
    assert "the registry has no champion" in found["champion"].text
    well.client.set_registered_model_alias(MODEL, "champion", "1")
    well.store.serving.heartbeat("fraud", "r1", MODEL, "3", "1", {"reachable": True})
    assert "version 1 is in charge, and 3 answers" in wrong()["champion"].text


def test_an_event_of_the_future_is_wrong(well: Well) -> None:
    at = to_us(datetime(2099, 1, 1, tzinfo=UTC))
    record = ScoreRecord("fraud", "e1", at, at, "live", b"{}", None, None, MODEL, "1", "champion", None, 0.5, 0.5, 0.5,
                         True, None)  # fmt: skip
    well.store.log.append([record])
    found = wrong()
    assert set(found) == {"log's clock"}
    assert "in the future" in found["log's clock"].text
    assert "incumbent log repair" in found["log's clock"].todo


@pytest.mark.parametrize("name", ["keys.json", "prefect.login", "notify.toml"])
def test_a_secret_that_others_may_read_is_wrong(well: Well, name: str) -> None:
    (well.home / name).write_text("")
    (well.home / name).chmod(0o644)
    found = wrong()
    assert "private files" in found
    assert name in found["private files"].text
    assert f"chmod 600 {well.home / name}" in found["private files"].todo


def test_a_scribe_without_a_sign_of_life_is_wrong(well: Well) -> None:
    well.execute("UPDATE heartbeats SET seen_at = seen_at - 600000000")
    assert set(wrong()) == {"scribe"}


def test_a_failed_flow_and_a_run_that_hangs_are_wrong(well: Well) -> None:
    now = datetime.now(UTC)
    well.store.runs.put(Run("a", "fraud", "drift", "failed", now, now, None, "no_data: nothing"))
    assert "the last run failed: drift" in wrong()["runs"].text
    well.store.runs.put(Run("b", "fraud", "training", "running", now - DAY))
    assert "the training that began at" in wrong()["runs"].text


def test_people_who_cannot_be_told_are_wrong(well: Well, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCUMBENT_NOTIFY_URL", "json://127.0.0.1:1/token-4711")
    assert wrong() == {}
    well.store.notices.put([NoticeEntry("n1", "default", "fraud", "rollback", "{}")], NOW)
    (claimed,) = well.store.notices.claim(NOW, 60.0)
    well.store.notices.refused(claimed, "it answered 503", NOW + DAY)
    found = wrong()
    assert set(found) == {"notices"}
    assert "it answered 503" in found["notices"].text
    assert "4711" not in found["notices"].text


def test_parts_that_were_given_up_or_died_are_wrong_and_name_their_log(well: Well) -> None:
    well.stack({}, scribe=PartState("given_up", "/logs/scribe.log", restarts=6, ended="ended with code 1"))
    found = wrong()["stack"]
    assert "scribe was given up after 6 restarts" in found.text
    assert "/logs/scribe.log" in found.todo
    well.stack({}, exporter=PartState("running", "/logs/exporter.log", pid=2**22 - 1, born="1"))
    assert "exporter is dead" in wrong()["stack"].text


def test_a_stack_without_a_lock_of_its_service_is_wrong(well: Well) -> None:
    well.stack({"service": "http://127.0.0.1:1"})
    assert "nobody holds the lock" in wrong()["one service per home"].text
    lock = HomeLock(well.home / "run" / "service-dev-fraud.lock")
    descriptor = lock.take(LockHolder.this_process("a service of fraud (dev)"))
    try:
        assert "one service per home" not in wrong()
    finally:
        os.close(descriptor)


def test_servers_that_hang_hold_up_nobody_and_are_named(well: Well) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        well.stack({"prefect": f"{url}/api", "service": url, "exporter": url, "reports": url})
        places = open_contexts()
        began = time.monotonic()
        found = run_checks(places)
        assert time.monotonic() - began < 60.0, "a check that waits for its server would wait for ever"
    assert {"service", "metrics", "reports"} <= {name for name, one in found.items() if one.state == "wrong"}
    assert found["champion"].state == "ok"


def test_every_use_case_of_the_home_is_looked_at_by_its_own_parts(well: Well) -> None:
    write_roster(open_home(), Roster({"fraud": Member("fraud"), "churn": Member("churn"), "old": Member("old", NOW)}))
    well.store.heartbeats.beat("churn", "scribe")
    assert wrong() == {}
    well.execute("UPDATE heartbeats SET seen_at = seen_at - 600000000 WHERE usecase = 'churn'")
    assert set(wrong()) == {"scribe of churn"}
    well.stack({"service": "http://127.0.0.1:1", "service-churn": "http://127.0.0.1:2"})
    found = wrong()
    assert "http://127.0.0.1:1 " in found["service of fraud"].text
    assert "http://127.0.0.1:2 " in found["service of churn"].text
    assert "service-churn.log" in found["service of churn"].todo
    names = set(deep_status())
    assert names == {*COMMON, *(f"{name} of {one}" for name in set(CHECKS) - COMMON for one in ("fraud", "churn"))}
    assert set(deep_status("churn")) == set(CHECKS)


def test_a_use_case_whose_parts_the_stack_does_not_have_is_wrong(well: Well) -> None:
    write_roster(open_home(), Roster({"fraud": Member("fraud"), "churn": Member("churn")}))
    well.stack({"service": "http://127.0.0.1:1"})
    assert "without a part service-churn" in wrong()["service of churn"].text


def test_a_use_case_file_that_is_gone_is_a_line_and_hides_no_other(well: Well, tmp_path: Path) -> None:
    write_roster(open_home(), Roster({"fraud": Member("fraud"), "mine": Member(str(tmp_path / "mine.toml"))}))
    found = wrong()
    assert set(found) == {"notices of mine"}
    assert "mine.toml" in found["notices of mine"].text


def test_the_use_case_of_the_stack_is_looked_at_where_none_is_named(well: Well) -> None:
    state = read_state(well.home / "run" / "stack.json")
    assert state is None
    me = SupervisorState(os.getpid(), born(os.getpid()), NOW)
    (well.home / "run").mkdir(exist_ok=True)
    state = StackState({}, me, "127.0.0.1", {}, {"service": "http://127.0.0.1:1"}, usecase="churn", reference="churn")
    write_state(well.home / "run" / "stack.json", state)
    assert [place.usecase for place in open_contexts()] == ["churn"]


def test_nothing_that_takes_long_to_import_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys; from flows.cli import main; main(['status', '--deep']); "
        "slow = 'pandas', 'numpy', 'scipy', 'mlflow', 'prefect', 'evidently'; "
        "print([name for name in slow if name in sys.modules])"
    )
    environment = os.environ | {"INCUMBENT_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_renamed_use_case_keeps_its_history_and_every_name_leads_to_it(
    well: Well, capsys: pytest.CaptureFixture[str]
) -> None:
    before = well.store.decisions.list(limit=None)
    rename = ["usecase", "rename", "fraud", "card-fraud"]
    assert main([*rename, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] is False
    assert not (well.home / "usecases.json").exists()
    assert main([*rename, "--yes", "--reason", "the team's word"]) == 0
    *kept, line = well.store.decisions.list(limit=None)
    assert kept == before
    assert (line.usecase, line.kind) == ("fraud", "usecase.renamed")
    assert (line.payload["before"], line.payload["after"]) == ("fraud", "card-fraud")
    assert well.store.decisions.verify() == []
    capsys.readouterr()
    for name, is_told in (("card-fraud", False), ("fraud", True)):
        assert main(["status", "--json", "--usecase", name]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["roles"]["champion"]["version"] == "1"
        assert json.loads(said.out)["name"] == "card-fraud"
        assert ("fraud is now named card-fraud" in said.err) is is_told
    assert main(["usecase", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["usecases"]["fraud"]["name"] == "card-fraud"
    assert main(["usecase", "rename", "card-fraud", "payments", "--yes"]) == 0
    assert open_workspace("fraud").usecase == open_workspace("payments").usecase
    assert main(["usecase", "rename", "fraud", "churn", "--yes"]) == 1
    assert "churn leads to the use case churn already" in capsys.readouterr().err


def test_notices_bear_the_new_name_and_keep_their_id(well: Well) -> None:
    workspace = open_workspace("fraud")
    notice = Notice("run", "dev", "fraud", MODEL, "failed", "The drift failed", NOW.isoformat())
    assert with_usecase_name(workspace, notice).where == "fraud · dev"
    write_roster(open_home(), Roster().rename("fraud", "card-fraud", "fraud"))
    found = with_usecase_name(workspace, with_id(notice, "x"))
    assert (found.where, found.usecase, found.id) == ("card-fraud · dev", "fraud", with_id(notice, "x").id)


def test_deep_looks_at_the_present_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--deep", "--html"]) == 2
    assert "--deep" in capsys.readouterr().err
