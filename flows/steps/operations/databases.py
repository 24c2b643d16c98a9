"""The three databases of an installation (ours, MLflow's, Prefect's): where they are, and a copy of each."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from flows.errors import FlowRefused

if TYPE_CHECKING:
    from flows.workspace.installation import Home

_SECONDS = 3600


@dataclass(frozen=True)
class DatabaseLocation:
    """One database: its name (``log``, ``mlflow``, ``prefect``) and where it is; no ``url`` for a remote server."""

    name: str
    url: URL | None

    @property
    def kind(self) -> str:
        """``sqlite``, ``postgresql`` or ``remote``."""
        return "remote" if self.url is None else self.url.get_backend_name()

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database."""
        return Path(self.url.database or "") if self.url is not None and self.kind == "sqlite" else None

    @property
    def exists(self) -> bool:
        """Whether there is anything to copy."""
        return self.file.exists() if self.file is not None else self.kind == "postgresql"

    def holds_tables(self) -> bool:
        """Whether a PostgreSQL database is in use already; it is there before anything is written.

        Raises:
            FlowRefused: it cannot be asked.
        """
        if self.url is None or self.kind != "postgresql":
            return False
        engine = create_engine(self.url.set(drivername="postgresql+psycopg"))
        try:
            return bool(inspect(engine).get_table_names())
        except SQLAlchemyError as exc:
            message = str(getattr(exc, "orig", None) or type(exc).__name__).strip().splitlines()[0]
            raise FlowRefused(f"the database of {self.name} at {self.shown()} cannot be asked: {message}") from exc
        finally:
            engine.dispose()

    @property
    def copy_name(self) -> str:
        """File name of a copy."""
        return f"{self.name}.db" if self.kind == "sqlite" else f"{self.name}.dump"

    def shown(self) -> str:
        """The address without a password."""
        return "a server that keeps its own backups" if self.url is None else self.url.render_as_string()


def database_locations(home: Home) -> list[DatabaseLocation]:
    """The three databases of a home."""
    settings = home.settings
    addresses = {"log": settings.log_url, "mlflow": settings.registry_uri, "prefect": home.prefect_database}
    return [DatabaseLocation(name, _url(text)) for name, text in addresses.items()]


def _url(text: str) -> URL | None:
    try:
        url = make_url(text)
    except ArgumentError:
        return None
    is_supported = url.get_backend_name() in ("sqlite", "postgresql")
    return url if is_supported else None


def copy_database(location: DatabaseLocation, folder: Path) -> Path | None:
    """Copy a database into a folder while it is in use; none when there is nothing to copy or it is remote.

    Raises:
        FlowRefused: PostgreSQL's client programs are missing or fail.
    """
    if not location.exists:
        return None
    target = folder / location.copy_name
    if location.file is not None:
        copy_sqlite(location.file, target)
        return target
    assert location.url is not None
    run_client("pg_dump", location.url, "--format=custom", "--no-owner", f"--file={target}")
    return target


def copy_sqlite(source: Path, target: Path) -> None:
    """SQLite's online backup: one state of the file, while others write."""
    source_connection = sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60)
    with closing(source_connection) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it


def restore_database(location: DatabaseLocation, copy: Path) -> None:
    """Put a copy into an empty place.

    Raises:
        FlowRefused: the place is not empty, is of another kind than the copy, or PostgreSQL's programs fail.
    """
    if copy.name != location.copy_name:
        raise FlowRefused(
            f"the backup holds {copy.name}, but {location.name} is to be {location.kind}: {location.shown()}"
        )
    if location.file is not None:
        location.file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(copy, location.file)
        if location.name == "log":
            with closing(sqlite3.connect(location.file)) as session:
                session.execute("PRAGMA journal_mode=WAL")  # readers never wait for the scribe
        return
    assert location.url is not None
    run_client("pg_restore", location.url, "--no-owner", "--exit-on-error", "--single-transaction", str(copy))


def run_client(program: str, url: URL, *words: str) -> None:
    """Run one of PostgreSQL's client programs on a database; the password goes by the environment."""
    program_folder = find_postgresql_folder()
    path = shutil.which(program) or (str(program_folder / program) if program_folder else None)
    if path is None or not Path(path).exists():
        raise FlowRefused(f"{program} is missing: apt-get install postgresql-client, or go on with --no-backup")
    address = url.set(drivername="postgresql", password=None).render_as_string()
    environment: dict[str, Any] = dict(os.environ) | ({"PGPASSWORD": str(url.password)} if url.password else {})
    process = subprocess.run(
        [path, f"--dbname={address}", *words], env=environment, capture_output=True, text=True, timeout=_SECONDS,
        check=False,
    )  # fmt: skip
    if process.returncode:
        raise FlowRefused(
            f"{program} failed: {process.stderr.strip().splitlines()[0] if process.stderr else 'no reason'}"
        )


def find_postgresql_folder() -> Path | None:
    """Folder with ``initdb`` and ``pg_ctl``; none where PostgreSQL is not installed."""
    initdb = shutil.which("initdb")
    folders = [Path(initdb).resolve().parent] if initdb else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)
