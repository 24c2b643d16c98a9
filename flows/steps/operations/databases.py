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
class Place:
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
            said = str(getattr(exc, "orig", None) or type(exc).__name__).strip().splitlines()[0]
            raise FlowRefused(f"the database of {self.name} at {self.shown()} cannot be asked: {said}") from exc
        finally:
            engine.dispose()

    @property
    def copy_name(self) -> str:
        """File name of a copy."""
        return f"{self.name}.db" if self.kind == "sqlite" else f"{self.name}.dump"

    def shown(self) -> str:
        """The address without a password."""
        return "a server that keeps its own backups" if self.url is None else self.url.render_as_string()


def places(home: Home) -> list[Place]:
    """The three databases of a home."""
    settings = home.settings
    found = {"log": settings.log_url, "mlflow": settings.registry_uri, "prefect": home.prefect_database}
    return [Place(name, _url(text)) for name, text in found.items()]


def _url(text: str) -> URL | None:
    try:
        url = make_url(text)
    except ArgumentError:
        return None
    known = url.get_backend_name() in ("sqlite", "postgresql")
    return url if known else None


def copy_database(place: Place, folder: Path) -> Path | None:
    """Copy a database into a folder while it is in use; none when there is nothing to copy or it is remote.

    Raises:
        FlowRefused: PostgreSQL's client programs are missing or fail.
    """
    if not place.exists:
        return None
    target = folder / place.copy_name
    if place.file is not None:
        copy_sqlite(place.file, target)
        return target
    assert place.url is not None
    run_client("pg_dump", place.url, "--format=custom", "--no-owner", f"--file={target}")
    return target


def copy_sqlite(source: Path, target: Path) -> None:
    """SQLite's online backup: one state of the file, while others write."""
    opened = sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60)
    with closing(opened) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it


def restore_database(place: Place, copy: Path) -> None:
    """Put a copy into an empty place.

    Raises:
        FlowRefused: the place is not empty, is of another kind than the copy, or PostgreSQL's programs fail.
    """
    if copy.name != place.copy_name:
        raise FlowRefused(f"the backup holds {copy.name}, but {place.name} is to be {place.kind}: {place.shown()}")
    if place.file is not None:
        place.file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(copy, place.file)
        if place.name == "log":
            with closing(sqlite3.connect(place.file)) as session:
                session.execute("PRAGMA journal_mode=WAL")  # readers never wait for the scribe
        return
    assert place.url is not None
    run_client("pg_restore", place.url, "--no-owner", "--exit-on-error", "--single-transaction", str(copy))


def run_client(program: str, url: URL, *words: str) -> None:
    """Run one of PostgreSQL's client programs on a database; the password goes by the environment."""
    places_ = find_programs()
    path = shutil.which(program) or (str(places_ / program) if places_ else None)
    if path is None or not Path(path).exists():
        raise FlowRefused(f"{program} is missing: apt-get install postgresql-client, or go on with --no-backup")
    plain = url.set(drivername="postgresql", password=None).render_as_string()
    environment: dict[str, Any] = dict(os.environ) | ({"PGPASSWORD": str(url.password)} if url.password else {})
    done = subprocess.run(
        [path, f"--dbname={plain}", *words], env=environment, capture_output=True, text=True, timeout=_SECONDS,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise FlowRefused(f"{program} failed: {done.stderr.strip().splitlines()[0] if done.stderr else 'no reason'}")


def find_programs() -> Path | None:
    """Folder with ``initdb`` and ``pg_ctl``; none where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "pg_ctl").exists()), None)
