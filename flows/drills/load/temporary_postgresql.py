"""A PostgreSQL server for a bench or a drill: the system's programs, a folder of its own, a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.errors import StackError
from flows.steps.operations.databases import find_postgresql_folder

_TIMEOUT_SECONDS = 60


class Postgres:
    """A server that can be stopped and started again; durable as by default."""

    def __init__(self, programs: Path, folder: Path, owner: str | None) -> None:
        self._programs, self._folder, self._owner = programs, folder, owner
        self._user = owner or pwd.getpwuid(os.getuid()).pw_name

    @property
    def url(self) -> str:
        """SQLAlchemy URL of its database."""
        return f"postgresql+psycopg://{self._user}@/postgres?host={self._folder}"

    def make(self) -> None:
        """Create the cluster's files."""
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-E", "UTF8", "--locale=C")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-k {self._folder} -c listen_addresses='' -c max_locks_per_transaction=256"
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", str(self._data), "-o", options, "-l", log, "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: ``immediate`` is a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        # Its output must not be a pipe of ours: the server inherits it and never closes it.
        process = subprocess.run(
            command,
            user=self._owner,
            cwd=self._folder,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            stdout=subprocess.DEVNULL,
        )
        if process.returncode:
            raise StackError(f"{program} {arguments[-1]} failed; look at {self._folder / 'log'}")


@contextmanager
def temporary_postgresql() -> Iterator[Postgres]:
    """A new server, started, and gone afterwards.

    Raises:
        StackError: PostgreSQL is not installed, or does not start.
    """
    programs = find_postgresql_folder()
    if programs is None:
        raise StackError("PostgreSQL is missing: apt-get install postgresql, or name a database by its URL")
    # The server refuses to run as root, so root lends it another user; sockets need a short path.
    owner = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="incumbent-pg-", dir="/tmp"))  # made for us alone by mkdtemp
    if owner is not None:
        shutil.chown(folder, owner)
    server = Postgres(programs, folder, owner)
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def open_database(name: str | None) -> Iterator[str]:
    """The URL behind ``--database``: nothing or ``sqlite`` is SQLite in the home (empty), ``postgresql`` a new server.

    Raises:
        StackError: PostgreSQL is wanted and cannot be had.
    """
    if name == "postgresql":
        with temporary_postgresql() as server:
            yield server.url
        return
    yield "" if name in (None, "sqlite") else str(name)
