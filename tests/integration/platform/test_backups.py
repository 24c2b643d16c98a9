"""Backups of a real home: registry, artefacts, log and spool; and parts of different age put together."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import make_url, text

import monitoring.store
from bentos.model.scoring_model import ScoringModel
from bentos.scribe import Scribe, accounting
from bentos.spool.writer import SpoolWriter
from flows.cli import main
from flows.drills.load.homes import BenchHome
from flows.errors import FlowRefused
from flows.steps.operations.backups import read_set, restore_backup, write_backup
from flows.steps.operations.databases import DatabaseLocation, database_locations, restore_database
from flows.steps.operations.repairs import journal_version, repair_disagreements
from flows.workspace.workspace import Workspace
from monitoring.store import RoleChange, Store, open_store
from monitoring.store.database.engine import Database
from monitoring.store.database.migrate import HEAD
from tests.support.builders import tiny_model
from tests.support.log.logged import label, labels_policy, scored
from tests.support.log.spooling import die
from tests.support.processes.postgresql import Cluster
from tests.support.registries import mlflow_registry


@pytest.fixture(scope="module")
def seated(tmp_path_factory: pytest.TempPathFactory) -> BenchHome:
    """A home with two versions in their roles."""
    home = BenchHome(tmp_path_factory.mktemp("seated") / "home")
    home.home.make()
    mlflow_registry(home.root)
    home.seat([tiny_model(), tiny_model()])
    return home


@pytest.fixture
def old(seated: BenchHome, tmp_path: Path) -> BenchHome:
    """A home of our own, with a log, labels and a spool that is half shipped."""
    shutil.copytree(seated.root, tmp_path / "old")
    home = BenchHome(tmp_path / "old")
    relocated(home, seated.root)
    with home.store() as store:
        store.log.append([scored(n) for n in range(5)])
        store.labels.add([label(1, 1, 2)], labels_policy())
    writer = SpoolWriter(home.home.settings.spool("fraud"))
    writer.append([scored(n) for n in range(5, 8)])
    with home.store() as store:
        Scribe(store, writer.folder, "fraud", labels_policy()).run_once()
    writer.append([scored(n) for n in range(8, 10)])
    die(writer)
    return home


def relocated(home: BenchHome, source: Path) -> None:
    from flows.steps.operations.backups import rename_artifact_roots

    rename_artifact_roots(
        {place.name: place for place in database_locations(home.home)}["mlflow"], str(source), str(home.root)
    )


def workspace(home: BenchHome) -> Workspace:
    return Workspace(home.home.settings, home.usecase, "fraud")


def drained(home: BenchHome) -> tuple[int, int, int]:
    """Stored, spooled and quarantined when the scribe has run."""
    with home.store() as store:
        folder = home.home.settings.spool("fraud")
        Scribe(store, folder, "fraud", labels_policy()).run_once()
        found = accounting(store, folder, "fraud")
        assert found.is_balanced
        span = store.log.span("fraud")
        return (span[0] if span else 0), found.spooled, found.quarantined


def test_a_restored_home_serves_and_ships_where_the_old_one_stopped(old: BenchHome, tmp_path: Path) -> None:
    (old.root / "evidence" / "ab").mkdir(parents=True)
    (old.root / "evidence" / "ab" / "rows").write_bytes(b"rows of a verdict")
    old.home.settings.lookups("fraud").mkdir(parents=True)
    (old.home.settings.lookups("fraud") / "profile.sqlite").write_bytes(b"values by entity")
    made = write_backup(old.home, tmp_path / "set")
    shutil.rmtree(old.root)
    new = BenchHome(tmp_path / "new")
    done = restore_backup(new.home, made.folder)
    assert set(done) == {"spool", "mlflow", "log", "artifacts", "evidence", "lookups"}
    assert (new.root / "evidence" / "ab" / "rows").read_bytes() == b"rows of a verdict"
    assert (new.home.settings.lookups("fraud") / "profile.sqlite").read_bytes() == b"values by entity"
    assert [finding for finding in repair_disagreements(workspace(new)) if finding.name != "spool_already_stored"] == []
    roles = new.registry.roles(new.model)
    assert (roles["champion"].version, roles["challenger"].version) == ("1", "2")
    ScoringModel.load(new.registry.fetch(roles["champion"], tmp_path / "files")).check_golden()
    assert drained(new) == (10, 0, 0)
    with new.store() as store:
        assert store.decisions.verify() == []
        with store.database.read() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"


def test_keys_are_left_out_unless_asked_for(old: BenchHome, tmp_path: Path) -> None:
    old.home.settings.keys_file.write_text("{}")
    assert "keys" not in write_backup(old.home, tmp_path / "without").manifest["parts"]
    made = write_backup(old.home, tmp_path / "with", with_keys=True)
    assert (made.folder / "keys.json").stat().st_mode & 0o077 == 0


def test_a_changed_or_lost_file_is_found_and_a_full_home_is_not_overwritten(old: BenchHome, tmp_path: Path) -> None:
    made = write_backup(old.home, tmp_path / "set")
    with pytest.raises(FlowRefused, match=r"something already: .*, .*; restore into an empty home"):
        restore_backup(old.home, made.folder)
    with pytest.raises(FlowRefused, match="not empty"):
        write_backup(old.home, made.folder)
    with (made.folder / "log.db").open("ab") as file:
        file.write(b"x")
    with pytest.raises(FlowRefused, match=r"log\.db is not what the manifest says"):
        read_set(made.folder)
    (made.folder / "log.db").unlink()
    with pytest.raises(FlowRefused, match=r"log\.db is missing; .* \(--part log=DIR\)"):
        read_set(made.folder)
    (made.folder / "manifest.json").unlink()
    with pytest.raises(FlowRefused, match="holds no backup"):
        restore_backup(BenchHome(tmp_path / "new").home, made.folder)


def promote_by_hand(home: BenchHome, version: str) -> None:
    """Champion by alias and by journal."""
    with home.store() as store:
        contract = store.decisions.contract_of(home.model, version)
        change = RoleChange(home.model, "champion", version, contract)
        store.decisions.append("fraud", "test", {}, "test", datetime.now(UTC), [change])
    home.registry.point(home.model, "champion", version)


@pytest.mark.parametrize("newer", ["mlflow", "log"])
def test_an_alias_that_the_journal_does_not_explain_follows_the_journal(
    old: BenchHome, tmp_path: Path, newer: str
) -> None:
    first = write_backup(old.home, tmp_path / "first")
    promote_by_hand(old, "2")
    second = write_backup(old.home, tmp_path / "second")
    new = BenchHome(tmp_path / "new")
    restore_backup(new.home, first.folder, {newer: second.folder})
    named = repair_disagreements(workspace(new), dry_run=True)
    assert [(f.name, f.repaired) for f in named if f.name.startswith("roles")] == [("roles_not_in_journal", False)]
    assert [(f.name, f.repaired) for f in repair_disagreements(workspace(new)) if f.name.startswith("roles")] == [
        ("roles_not_in_journal", True)
    ]
    assert new.registry.roles(new.model)["champion"].version == ("1" if newer == "mlflow" else "2")
    assert not [f for f in repair_disagreements(workspace(new)) if f.name.startswith("roles")]


def test_a_version_that_an_older_registry_does_not_have_gives_way_to_the_one_that_it_has(
    old: BenchHome, tmp_path: Path
) -> None:
    first = write_backup(old.home, tmp_path / "first")
    third = tiny_model()
    ref = old.add(third)
    old.appoint(ref, third.contract_digest, "champion")
    second = write_backup(old.home, tmp_path / "second")
    new = BenchHome(tmp_path / "new")
    restore_backup(new.home, second.folder, {"mlflow": first.folder, "artifacts": first.folder})
    (found,) = [f for f in repair_disagreements(workspace(new)) if f.name == "version_missing"]
    assert found.repaired
    assert journal_version(workspace(new), "champion") == new.registry.roles(new.model)["champion"].version == "1"
    assert {f.name for f in repair_disagreements(workspace(new))} <= {"spool_already_stored"}
    with new.store() as store:
        assert store.decisions.verify() == []
        assert store.decisions.list("fraud")[-1].kind == "repair"


def lose_files_of_the_second(home: BenchHome) -> None:
    with closing(sqlite3.connect(home.root / "mlflow.db")) as session:
        (source,) = session.execute("SELECT storage_location FROM model_versions WHERE version = 2").fetchone()
    shutil.rmtree(Path(source.removeprefix("file://")))


def test_a_version_whose_files_are_gone_leaves_its_role(old: BenchHome, tmp_path: Path) -> None:
    made = write_backup(old.home, tmp_path / "set")
    new = BenchHome(tmp_path / "new")
    restore_backup(new.home, made.folder)
    lose_files_of_the_second(new)
    (found,) = [f for f in repair_disagreements(workspace(new)) if f.name == "artifact_missing"]
    assert (found.subject, found.repaired) == ("@challenger", True)
    assert "challenger" not in new.registry.roles(new.model)


def promoted_over_the_first(home: BenchHome) -> None:
    """Version 2 became champion from version 1, which is the way back since then."""
    with home.store() as store:
        changes = [
            RoleChange(home.model, role, version, store.decisions.contract_of(home.model, version))
            for role, version in (("champion", "2"), ("previous", "1"))
        ]
        changes.append(RoleChange(home.model, "challenger", None, None))
        store.decisions.append("fraud", "test", {}, "test", datetime.now(UTC), changes)
    home.registry.point(home.model, "champion", "2")
    home.registry.point(home.model, "previous", "1")
    home.registry.clear(home.model, "challenger")


def held(home: BenchHome) -> dict[str, str]:
    return {role: ref.version for role, ref in home.registry.roles(home.model).items()}


def test_a_version_that_takes_over_is_not_its_own_way_back(old: BenchHome, tmp_path: Path) -> None:
    second = tiny_model()
    first = write_backup(old.home, tmp_path / "first")
    ref = old.add(second)
    with old.store() as store:
        changes = [RoleChange(old.model, "champion", ref.version, second.contract_digest)]
        changes.append(RoleChange(old.model, "previous", "1", store.decisions.contract_of(old.model, "1")))
        store.decisions.append("fraud", "test", {}, "test", datetime.now(UTC), changes)
    last = write_backup(old.home, tmp_path / "last")
    new = BenchHome(tmp_path / "new")
    restore_backup(new.home, last.folder, {"mlflow": first.folder, "artifacts": first.folder})
    repair_disagreements(workspace(new))
    assert journal_version(workspace(new), "champion") == "1"
    assert journal_version(workspace(new), "previous") is None
    assert (held(new)["champion"], "previous" in held(new)) == ("1", False)


def test_the_way_back_takes_office_where_the_files_of_the_champion_are_gone(old: BenchHome, tmp_path: Path) -> None:
    promoted_over_the_first(old)
    made = write_backup(old.home, tmp_path / "set")
    new = BenchHome(tmp_path / "new")
    restore_backup(new.home, made.folder)
    lose_files_of_the_second(new)
    named = [f for f in repair_disagreements(workspace(new), dry_run=True) if f.name == "artifact_missing"]
    assert [(f.subject, f.repaired) for f in named] == [("@champion", False)]
    assert "version 1 takes its place" in named[0].text
    assert held(new) == {"champion": "2", "previous": "1"}, "a dry run changes nothing"
    repair_disagreements(workspace(new))
    assert held(new) == {"champion": "1"}
    assert not [
        f for f in repair_disagreements(workspace(new)) if f.name in ("artifact_missing", "roles_not_in_journal")
    ]


def test_a_spool_older_than_the_log_is_named_and_stores_nothing_twice(old: BenchHome, tmp_path: Path) -> None:
    first = write_backup(old.home, tmp_path / "first")
    drained(old)
    second = write_backup(old.home, tmp_path / "second")
    new = BenchHome(tmp_path / "new")
    restore_backup(new.home, second.folder, {"spool": first.folder})
    assert "spool_already_stored" in {f.name for f in repair_disagreements(workspace(new))}
    assert drained(new) == (10, 0, 0)


def test_a_spool_that_outlived_its_databases_is_put_back_after_the_restore_as_the_refusal_says(
    old: BenchHome, tmp_path: Path
) -> None:
    made = write_backup(old.home, tmp_path / "set")
    new = BenchHome(tmp_path / "new")
    shutil.copytree(old.root / "spool", new.root / "spool")
    with pytest.raises(FlowRefused, match=r"not in the backup: move it away, restore, .* put it back.* db repair"):
        restore_backup(new.home, made.folder)
    (new.root / "spool").rename(tmp_path / "left")
    restore_backup(new.home, made.folder)
    shutil.copytree(tmp_path / "left", new.root / "spool", dirs_exist_ok=True)
    assert {f.name for f in repair_disagreements(workspace(new))} <= {"spool_already_stored"}
    assert drained(new) == (10, 0, 0)


def test_a_log_older_than_the_spool_is_named_and_the_accounting_stays_exact(old: BenchHome, tmp_path: Path) -> None:
    writer = SpoolWriter(old.home.settings.spool("fraud"), rotate_bytes=1)
    first = write_backup(old.home, tmp_path / "first")
    writer.append([scored(20), scored(21)])
    writer.append([scored(22)])
    drained(old)
    second = write_backup(old.home, tmp_path / "second")
    die(writer)
    new = BenchHome(tmp_path / "new")
    restore_backup(new.home, first.folder, {"spool": second.folder})
    (found,) = [f for f in repair_disagreements(workspace(new)) if f.name == "log_older_than_spool"]
    assert found.text.startswith("2 records")
    # Eight were in the old log, one comes from the spool; the two between are nowhere and counted as such.
    assert drained(new)[::2] == (9, 2)


def test_an_upgrade_keeps_a_copy_of_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with closing(sqlite3.connect(home / "dev-log.db")) as session:
        session.executescript((Path(__file__).parents[2] / "golden" / "log-0001.sqlite.sql").read_text())
    for name, value in {"INCUMBENT_HOME": str(home), "INCUMBENT_USECASE": "fraud"}.items():
        monkeypatch.setenv(name, value)
    assert said(["db", "status", "--json"], capsys)["state"] == "behind"
    done = said(["db", "upgrade", "--json"], capsys)
    assert (done["from"], done["state"]) == ("0001", "current")
    (copy,) = done["backup"]
    with closing(sqlite3.connect(copy)) as session:
        assert session.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    assert said(["db", "upgrade", "--json"], capsys)["backup"] == []


@pytest.mark.needs_postgresql
@pytest.mark.parametrize("revision", [f"{number:04d}" for number in range(1, int(HEAD))])
def test_an_upgrade_from_any_earlier_schema_on_postgresql_copies_all_three_databases_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], postgresql: Cluster,
    revision: str,
) -> None:  # fmt: skip
    urls = {
        name: postgresql.url(postgresql.create()) for name in ("DATABASE_URL", "MLFLOW_URI", "PREFECT_DATABASE_URL")
    }
    made_at(urls["DATABASE_URL"], revision)
    for name, url in urls.items():
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as session:
            session.execute("CREATE TABLE only_here AS SELECT 1 AS one")
        monkeypatch.setenv(f"INCUMBENT_{name}", url)
    for name, value in {"INCUMBENT_HOME": str(tmp_path / "home"), "INCUMBENT_USECASE": "fraud"}.items():
        monkeypatch.setenv(name, value)
    done = said(["db", "upgrade", "--json"], capsys)
    assert (done["from"], done["to"], done["state"]) == (revision, HEAD, "current")
    copies = [Path(str(copy)) for copy in done["backup"]]  # type: ignore[attr-defined]  # a list
    assert [copy.name for copy in copies] == ["log.dump", "mlflow.dump", "prefect.dump"]
    back = postgresql.url(postgresql.create())
    restore_database(DatabaseLocation("log", make_url(back)), copies[0])
    with psycopg.connect(back.replace("+psycopg", "")) as session:
        assert session.execute("SELECT version_num FROM alembic_version").fetchone() == (revision,)
        assert session.execute("SELECT count(*) FROM predictions").fetchone() == (5,)
    with closing(open_store(back)) as store:
        assert store.decisions.verify() == []


def made_at(url: str, revision: str) -> None:
    """A database of the first schema, with rows in it, brought to an earlier revision than ours."""
    dump = (Path(__file__).parents[2] / "golden" / "log-0001.postgresql.sql").read_text()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as session:
        session.execute(dump)  # type: ignore[call-overload]  # the text is our own
    config = Config()
    config.set_main_option("script_location", str(Path(monitoring.store.__file__).parent / "migrations"))
    database = Database(url)
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    database.dispose()


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(words) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.needs_postgresql
def test_a_log_on_postgresql_is_dumped_and_restored(tmp_path: Path, postgresql: Cluster) -> None:
    here, there = (postgresql.url(postgresql.create()) for _ in range(2))
    old = BenchHome(tmp_path / "old", database_url=here)
    with old.store() as store:
        store.log.append([scored(1, 0), scored(2, 1)])
        store.decisions.append("fraud", "test", {}, "test", datetime.now(UTC))
    made = write_backup(old.home, tmp_path / "set")
    assert made.manifest["parts"]["log"]["kind"] == "postgresql"
    with pytest.raises(FlowRefused, match="is to be sqlite"):
        restore_backup(BenchHome(tmp_path / "wrong").home, made.folder)
    new = BenchHome(tmp_path / "new", database_url=there)
    assert restore_backup(new.home, made.folder).keys() == {"log"}
    store: Store = open_store(there)
    assert store.log.append([scored(2, 1), scored(3, 1)]).stored == 1
    assert store.decisions.verify() == []
    store.close()


@pytest.mark.needs_postgresql
def test_a_postgresql_database_in_use_is_refused_before_anything_is_copied(
    old: BenchHome, tmp_path: Path, postgresql: Cluster
) -> None:
    made = write_backup(old.home, tmp_path / "set")
    used = postgresql.url(postgresql.create())
    open_store(used).close()
    new = BenchHome(tmp_path / "new", database_url=used)
    with pytest.raises(FlowRefused, match=r"tables already: log \(.*empty databases"):
        restore_backup(new.home, made.folder)
    gone = BenchHome(tmp_path / "gone", database_url=postgresql.url("nowhere"))
    with pytest.raises(FlowRefused, match=r"database of log at .* cannot be asked: .*nowhere"):
        restore_backup(gone.home, made.folder)
    assert [path for home in (new, gone) for path in home.root.rglob("*") if path.is_file()] == []


@pytest.mark.needs_postgresql
def test_without_the_client_programs_an_upgrade_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.steps.operations.databases.find_postgresql_folder", lambda: None)
    monkeypatch.setattr("flows.steps.operations.databases.shutil.which", lambda _: None)
    home = BenchHome(tmp_path, database_url="postgresql://somebody@127.0.0.1:9/log")
    with pytest.raises(FlowRefused, match=r"postgresql-client.*--no-backup"):
        back_up_log(home, tmp_path)


def back_up_log(home: BenchHome, folder: Path) -> None:
    from flows.steps.operations.databases import copy_database

    copy_database(database_locations(home.home)[0], folder)
