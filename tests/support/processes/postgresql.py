"""A PostgreSQL cluster of our own for the tests: Debian's program, a temporary folder, a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

_NUMBERS = count()


def programs() -> Path:
    """The folder of PostgreSQL's programs; skips the test without one, unless the system must be complete."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "pg_ctl").exists():
            return place
    message = "PostgreSQL is missing: apt-get install postgresql"
    if os.environ.get("INCUMBENT_REQUIRE_SYSTEM") == "1":
        pytest.fail(message)
    pytest.skip(message)


class Cluster:
    """A running server; it makes databases."""

    def __init__(self, folder: Path, owner: str | None) -> None:
        self._folder = folder
        self._owner = owner
        self._user = owner or pwd.getpwuid(os.getuid()).pw_name

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{self._user}@/{database}?host={self._folder}"

    def create(self) -> str:
        """Make an empty database; returns its name."""
        name = f"test_{next(_NUMBERS)}"
        self._run(f'CREATE DATABASE "{name}"')
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        self._run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def shut(self, name: str) -> None:
        """Throw everybody out of a database and let nobody in."""
        self._run(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        self._run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    def reopen(self, name: str) -> None:
        """Let people in again."""
        self._run(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')

    def _run(self, statement: str) -> None:
        with psycopg.connect(host=str(self._folder), user=self._user, dbname="postgres", autocommit=True) as session:
            session.execute(statement)  # type: ignore[call-overload]  # the text is our own


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start a server and stop it. It refuses to run as root, so root lends it another user."""
    where = programs()
    owner = _other_user() if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if owner is not None:
        shutil.chown(folder, owner)
    data = folder / "data"

    def run(*command: str) -> None:
        subprocess.run(command, check=True, user=owner, cwd=folder, stdout=subprocess.DEVNULL, timeout=600)

    try:
        run(str(where / "initdb"), "-D", str(data), "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c shared_buffers=32MB"
        log = str(folder / "log")
        run(str(where / "pg_ctl"), "-D", str(data), "-o", options, "-l", log, "-w", "start")
        try:
            yield Cluster(folder, owner)
        finally:
            run(str(where / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _other_user() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("running as root, and there is no other user to run PostgreSQL")
