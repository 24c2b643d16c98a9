"""Stores for the contract tests: the same tests run in memory, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.store import Store, open_store
from monitoring.store.database.tables import metadata_of
from tests.support.processes.postgresql import Cluster, cluster

_POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.needs_postgresql)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(scope="session")
def postgresql_store(postgresql: Cluster) -> Iterator[Store]:
    """One database for all tests: emptying it takes a tenth of the time of making one."""
    opened = open_store(postgresql.url(postgresql.create()))
    yield opened
    opened.close()


@pytest.fixture(params=["memory", "sqlite", _POSTGRESQL])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    if request.param == "postgresql":
        shared: Store = request.getfixturevalue("postgresql_store")
        _empty(shared)
        yield shared
        return
    opened = open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'log.db'}")
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", _POSTGRESQL])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database that several connections and processes can open."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'log.db'}"
        open_store(url).close()
        yield url
        return
    server: Cluster = request.getfixturevalue("postgresql")
    name = server.create()
    open_store(server.url(name)).close()
    yield server.url(name)
    server.drop(name)


def _empty(store: Store) -> None:
    """Empty every table, the append-only ones too: the owner may switch their guards off for one transaction."""
    tables = ", ".join(table.name for table in metadata_of(is_sqlite=False).sorted_tables)
    with store.database.write() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql(f"TRUNCATE {tables} RESTART IDENTITY")
