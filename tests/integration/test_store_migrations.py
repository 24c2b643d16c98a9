from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import monitoring.store
from monitoring.errors import StoreError, StoreUnavailable
from monitoring.store import Store, memory_store, open_store
from monitoring.store.migrate import HEAD
from monitoring.store.tables import metadata_of
from tests.logged import scored
from tests.postgresql import Cluster

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
    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]
    store = open_store(url)
    assert store.log.append([scored(1)]).stored == 1
    store.close()


@pytest.mark.needs_postgresql
def test_several_processes_may_open_a_new_postgresql_database_at_once(postgresql: Cluster) -> None:
    url = postgresql.url(postgresql.create())
    started = [subprocess.Popen([sys.executable, "-c", OPEN, url], cwd=ROOT) for _ in range(2)]
    assert [process.wait(timeout=60) for process in started] == [0, 0]


def test_an_up_to_date_database_is_opened_without_alembic(store_url: str) -> None:
    script = f"{OPEN}\nassert not any(name.startswith('alembic') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", script, store_url], cwd=ROOT, check=True, timeout=60)


def test_a_database_of_a_newer_version_is_refused(store_url: str) -> None:
    store = open_store(store_url)
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(StoreError, match=HEAD):
        open_store(store_url)


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
    monkeypatch.setattr("monitoring.store.migrate._PATIENCE", 0.0)
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
