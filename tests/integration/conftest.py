"""Stores for the contract tests: the same tests run in memory, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitoring.store import Store, open_store
from tests.postgresql import Cluster, cluster

BACKENDS = ("memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgresql))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(scope="session")
def migrated(postgresql: Cluster) -> str:
    """A database with all tables, to copy from: a copy takes a tenth of the time of a migration."""
    name = postgresql.create()
    open_store(postgresql.url(name)).close()
    return name


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url, clean_up = _database(request, tmp_path)
    opened = open_store(url)
    yield opened
    opened.close()
    clean_up()


@pytest.fixture(params=BACKENDS[1:])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with all tables that several connections and processes can open."""
    url, clean_up = _database(request, tmp_path)
    open_store(url).close()
    yield url
    clean_up()


def _database(request: pytest.FixtureRequest, folder: Path) -> tuple[str, Callable[[], None]]:
    if request.param == "memory":
        return "memory://", lambda: None
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'log.db'}", lambda: None
    server: Cluster = request.getfixturevalue("postgresql")
    name = server.create(template=request.getfixturevalue("migrated"))
    return server.url(name), lambda: server.drop(name)
