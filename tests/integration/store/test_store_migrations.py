from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import monitoring.store
from monitoring.errors import StoreError, StoreUnavailable
from monitoring.store import Store, memory_store, open_store
from monitoring.store.database.day_partitions import days_with_tables
from monitoring.store.database.engine import Database
from monitoring.store.database.migrate import HEAD, read_schema
from monitoring.store.database.tables import metadata_of
from tests.support.log.logged import at, days, labels_policy, numbers, scored, unscored
from tests.support.processes.postgresql import Cluster

ROOT = Path(monitoring.store.__file__).parents[2]
OPEN = "import sys; from monitoring.store import open_store; open_store(sys.argv[1]).close()"


def test_the_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    with store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": _is_no_day})
        assert compare_metadata(context, metadata_of(store.database.is_sqlite)) == []


def _is_no_day(name: str | None, kind: str, _: object) -> bool:
    """The tables of single days are made as they are needed."""
    return kind != "table" or not (name or "").startswith("predictions_")


def test_the_newest_migration_is_the_one_that_the_code_wants() -> None:
    scripts = ScriptDirectory(str(Path(monitoring.store.__file__).parent / "migrations"))
    assert scripts.get_heads() == [HEAD]


def test_several_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'log.db'}"
    started = [subprocess.Popen([sys.executable, "-c", OPEN, url], cwd=ROOT) for _ in range(3)]
    assert [process.wait(timeout=600) for process in started] == [0, 0, 0]
    store = open_store(url)
    assert store.log.append([scored(1)]).stored == 1
    store.close()


@pytest.mark.needs_postgresql
def test_several_processes_may_open_a_new_postgresql_database_at_once(postgresql: Cluster) -> None:
    url = postgresql.url(postgresql.create())
    started = [subprocess.Popen([sys.executable, "-c", OPEN, url], cwd=ROOT) for _ in range(2)]
    assert [process.wait(timeout=600) for process in started] == [0, 0]


def test_an_up_to_date_database_is_opened_without_alembic(store_url: str) -> None:
    script = f"{OPEN}\nassert not any(name.startswith('alembic') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", script, store_url], cwd=ROOT, check=True, timeout=600)


def newer(url: str, oldest_code: str | None) -> None:
    """Make the database look as a later program leaves it: a later revision, one more table and column."""
    store = open_store(url)
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text("ALTER TABLE predictions ADD COLUMN of_tomorrow TEXT"))
        connection.execute(text("CREATE TABLE tomorrow (id INTEGER PRIMARY KEY)"))
        if oldest_code is None:
            connection.execute(text("DROP TABLE schema_facts"))
        else:
            connection.execute(text("UPDATE schema_facts SET value = :value"), {"value": oldest_code})
    store.close()


@pytest.mark.parametrize("oldest_code", ["9999", "9000", None])
def test_a_database_that_is_too_new_is_refused_in_plain_words(store_url: str, oldest_code: str | None) -> None:
    newer(store_url, oldest_code)
    with pytest.raises(StoreError, match=f"revision 9999.*this one knows {HEAD}"):
        open_store(store_url)


def test_an_older_program_works_on_with_a_database_that_was_upgraded_before_it(store_url: str) -> None:
    store = open_store(store_url)
    store.log.append([scored(1), unscored(2)])
    newer(store_url, HEAD)
    older = open_store(store_url)
    for one in (store, older):  # one that was open when it happened, and one that starts afterwards
        assert one.log.append([scored(2), scored(3)]).replaced == int(one is store)
        assert one.log.span("fraud")[0] == 3  # type: ignore[index]  # there are three
    assert read_schema(older.database).state == "ahead"
    store.close()
    older.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgresql)])
def first_schema(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database as the first version of the program left it, with rows in it."""
    dump = (ROOT / "tests" / "golden" / f"log-0001.{request.param}.sql").read_text()
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "old.db")) as session:
            session.executescript(dump)
        return f"sqlite:///{tmp_path / 'old.db'}"
    server: Cluster = request.getfixturevalue("postgresql")
    url = server.url(server.create())
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as session:
        session.execute(dump)  # type: ignore[call-overload]  # the text is our own
    return url


def test_a_database_of_the_first_schema_is_upgraded_and_keeps_every_row(first_schema: str) -> None:
    before = Database(first_schema)
    assert (read_schema(before).revision, read_schema(before).state) == ("0001", "behind")
    before.dispose()
    store = open_store(first_schema)
    assert read_schema(store.database).state == "current"
    answers = store.log.answers("fraud", days(-1, 999))
    assert sorted(numbers(answers["event_id"])) == [1, 2, 3, 4]
    assert store.log.features("fraud", days(-1, 999))[1][["amount", "count"]].to_numpy().tolist() == [[1.0, 2.0]] * 4
    assert store.log.span("fraud")[0] == 5  # type: ignore[index]  # there are five
    assert store.labels.known("fraud", at(9), labels_policy(), days(0, 1))["event_id"].tolist() == ["e00001"]
    assert store.ledger.state("fraud", "w1").stored == 5
    assert store.shadow.progress("fraud", "dev-fraud/2").scored == 1
    assert store.decisions.verify() == []
    assert store.decisions.role_at("dev-fraud", "challenger", at(1)) == "2"
    with pytest.raises(StoreError), store.database.write() as connection:
        connection.execute(text("DELETE FROM decisions"))
    store.close()


def test_after_the_upgrade_an_old_database_takes_rows_as_a_new_one_does(first_schema: str) -> None:
    store = open_store(first_schema)
    assert store.log.append([scored(1), scored(9, body=b'{"id":"e00009","amount":9.5}', event_time=-5)]).replaced == 1
    assert store.log.append([scored(5, 1), scored(6, 30)]).stored == 2
    with store.database.read() as connection:
        rows = connection.execute(text("SELECT event_id, row_id FROM predictions ORDER BY row_id")).all()
    assert [event_id for event_id, _ in rows][-3:] == ["e00009", "e00005", "e00006"]
    if not store.database.is_sqlite:
        with store.database.read() as connection:
            named = list(days_with_tables(connection).values())
        assert named == ["predictions_20260302", "predictions_20260303", "predictions_20260401", "predictions_20270406"]
    store.close()


@pytest.mark.needs_postgresql
def test_a_day_whose_table_cannot_be_made_now_goes_to_the_default_one_and_moves_later(postgresql: Cluster) -> None:
    url = postgresql.url(postgresql.create())
    store, other = open_store(url), open_store(url)
    with other.database.read() as reader:
        reader.execute(text("SELECT count(*) FROM predictions")).scalar_one()  # holds every partition until it ends
        assert store.log.append([scored(1, 3)]).stored == 1
        assert count_in(other, "predictions_default") == 1
    store.database.days_retry_at = 0.0
    store.log.append([scored(2, 3)])
    assert (count_in(other, "predictions_default"), count_in(other, "predictions_20260305")) == (0, 2)
    assert store.log.append([scored(1, 3)]).stored == 0
    store.close()
    other.close()


def count_in(store: Store, table: str) -> int:
    with store.database.read() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_a_locked_database_is_unavailable_and_later_fine(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    store = open_store(f"sqlite:///{file}", busy_seconds=0.05)
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.log.append([scored(1)])
    assert store.log.span("fraud") is None  # readers do not wait
    blocker.execute("ROLLBACK")
    assert store.log.append([scored(1)]).stored == 1
    blocker.close()
    store.close()


def test_a_full_database_is_unavailable_and_keeps_what_it_had(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'log.db'}")
    store.log.append([scored(0)])
    with store.database.read() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    driver = store.database.engine.raw_connection()
    driver.execute(f"PRAGMA max_page_count={pages + 2}")  # type: ignore[attr-defined]  # sqlite3's connection
    driver.close()
    with pytest.raises(StoreUnavailable, match="full"):
        store.log.append([scored(n) for n in range(1, 2000)])
    assert store.log.span("fraud")[0] == 1  # type: ignore[index]  # there is one
    store.close()


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:9/log", "sqlite:////proc/nowhere/log.db"])
def test_a_database_that_cannot_be_reached_is_unavailable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.store.database.migrate._LOCK_TIMEOUT", 0.0)
    with pytest.raises(StoreUnavailable):
        open_store(url)


@pytest.mark.parametrize("url", ["mysql://host/db", "what is this", ""])
def test_another_kind_of_database_is_refused_in_plain_words(url: str) -> None:
    with pytest.raises(StoreError, match=r"sqlite"):
        open_store(url)


def test_two_stores_in_memory_share_nothing() -> None:
    one, other = memory_store(), memory_store()
    one.log.append([scored(1)])
    assert other.log.span("fraud") is None
    one.close()
    other.close()


def test_no_error_of_the_database_carries_a_value(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.log.append([scored(1, event_id="secret-card", score=7.0)])
    assert "secret-card" not in str(caught.value)
