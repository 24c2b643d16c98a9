"""Bring a database to the tables that this code knows, when it is opened.

Several processes may open a new database at once: one of them upgrades under a lock, the others
wait and find nothing to do. An up-to-date database costs one query and does not import Alembic.

A database that a newer program has upgraded says itself (``schema_facts.oldest_code``) down to which
revision programs may still use it, so that services can be replaced one after the other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection, inspect

from monitoring.errors import StoreError, StoreUnavailable
from monitoring.store.database.engine import MEMORY_URL, Database, translate_errors

HEAD: Final = "0010"
_MIGRATION_LOCK: Final = 4_823_001
_LOCK_TIMEOUT: Final = 30.0
_LOG = logging.getLogger(__name__)


def upgrade_database(database: Database) -> None:
    """Upgrade to :data:`HEAD`; a database that is there already is only looked at.

    Raises:
        StoreUnavailable: the database cannot be reached or stays locked for 30 s.
        StoreError: a newer program made the database, and says that this one is too old for it.
    """
    if database.in_memory:
        _driver(database).deserialize(_template())
        return
    schema = read_schema(database)
    if schema.state in ("current", "ahead"):
        if schema.state == "ahead":
            _LOG.warning(
                "the database is at revision %s, this program knows %s: upgrade it soon", schema.revision, HEAD
            )
        return
    if schema.state == "too new":
        raise StoreError(
            f"the database is at revision {schema.revision} and needs a program that knows {schema.oldest_code} or "
            f"later; this one knows {HEAD}: install the newer version, or restore a backup from before the upgrade"
        )
    if database.is_sqlite:
        _prepare_file(database)
    _retry_while_locked(lambda: _migrate(database))


@cache
def _template() -> bytes:
    """A migrated database in memory, made once: each further one is a copy and costs a millisecond."""
    database = Database(MEMORY_URL)
    _migrate(database)
    content = _driver(database).serialize()
    database.dispose()
    return bytes(content)


def _driver(database: Database) -> Any:
    """The one connection of a database in memory, as the driver has it."""
    with database.engine.connect() as connection:
        return connection.connection.driver_connection


def _migrate(database: Database) -> None:
    with database.write() as connection:
        database.lock(connection, _MIGRATION_LOCK)
        revision = _read_revision(connection)
        if revision is None or revision < HEAD:  # another process may have been faster, and newer
            _run_alembic(connection)


@dataclass(frozen=True)
class Schema:
    """Where a database stands.

    Attributes:
        revision: of its tables; none for an empty database.
        oldest_code: the oldest revision that a program may know and still use it; none if it does not say.
        state: ``empty``, ``behind``, ``current``, ``ahead`` (newer, and this program may use it) or ``too new``.
    """

    revision: str | None
    oldest_code: str | None
    state: Literal["empty", "behind", "current", "ahead", "too new"]


def read_schema(database: Database) -> Schema:
    """Where a database stands; nothing is changed.

    Raises:
        StoreUnavailable: the database cannot be reached.
    """
    if database.is_sqlite and not database.in_memory and not Path(database.url.database or "").exists():
        return Schema(None, None, "empty")
    with database.read() as connection:
        revision = _read_revision(connection)
        if revision is None or revision == HEAD:
            return Schema(revision, None, "empty" if revision is None else "current")
        oldest_code = _oldest_code(connection)
    # Revisions are numbers of four digits, so their texts are in their order.
    if revision < HEAD:
        return Schema(revision, oldest_code, "behind")
    return Schema(revision, oldest_code, "ahead" if oldest_code is not None and oldest_code <= HEAD else "too new")


def _oldest_code(connection: Connection) -> str | None:
    if not inspect(connection).has_table("schema_facts"):
        return None
    value = connection.exec_driver_sql("SELECT value FROM schema_facts WHERE name = 'oldest_code'").scalar()
    return None if value is None else str(value)


def _read_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    value = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if value is None else str(value)


def _run_alembic(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError as exc:
        raise StoreError(f"the database is at a revision that this version ({HEAD}) does not know: {exc}") from exc


def _prepare_file(database: Database) -> None:
    """Make the folder and switch the file to WAL, which stays with the file."""
    folder = Path(database.url.database or "").parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreUnavailable(f"no folder can be made at {folder}: {type(exc).__name__}") from exc
    _retry_while_locked(lambda: _enable_wal(database))


def _enable_wal(database: Database) -> None:
    with translate_errors(), database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA journal_mode=WAL")


def _retry_while_locked(action: Callable[[], None]) -> None:
    """Repeat while another process holds the lock: changing the journal mode does not wait by itself."""
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            action()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
