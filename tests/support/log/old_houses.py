"""Stored homes of earlier commits, unpacked and upgraded as a user does; see ``tests/data/old_house/README.md``."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bentos.settings import read_settings
from bentos.spool.shipper import accounting
from flows.cli import main
from flows.steps.operations.backups import rename_artifact_roots
from flows.steps.operations.databases import database_locations
from flows.workspace.installation import Home
from flows.workspace.workspace import Workspace, open_workspace
from tests.support.processes.servers import PATIENCE, PROJECT

FOLDER = Path(__file__).parents[2] / "data" / "old_house"
COMMITS = sorted(path.name.removesuffix(".tar.xz") for path in FOLDER.glob("*.tar.xz"))


@dataclass
class OldHouse:
    """A home that an earlier commit left, at a place of its own.

    Attributes:
        home: ``INCUMBENT_HOME``, with the use-case file and the files of keys inside.
        figures: what the commit's own commands said about it.
    """

    home: Path
    figures: dict[str, Any]
    _environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        foreign = ("INCUMBENT_", "PREFECT_", "MLFLOW_", "BENTOML_", "PROMETHEUS_MULTIPROC_DIR")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        locations = {"INCUMBENT_HOME": str(self.home), "INCUMBENT_USECASE": self.usecase, "INCUMBENT_ACTOR": "worker"}
        quiet = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "BENTOML_DO_NOT_TRACK": "True"}
        self._environment = kept | locations | quiet | {"BENTOML_HOME": str(self.home / "bentoml")}

    @property
    def usecase(self) -> str:
        return str(self.home / "cards.toml")

    def environment(self, **changes: str) -> dict[str, str]:
        return self._environment | changes

    def key(self, owner: str) -> str:
        return (self.home / "keys" / owner).read_text().strip()

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """This process lives in the home meanwhile."""
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(self._environment)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def command(self, *words: str) -> tuple[int, Any]:
        """One command with ``--json`` in this process: its exit code and what it printed."""
        out = io.StringIO()
        with self._inside(), redirect_stdout(out):
            code = main([*words, "--json"])
        return code, json.loads(out.getvalue()) if out.getvalue().strip() else None

    @contextlib.contextmanager
    def open(self) -> Iterator[Workspace]:
        with self._inside():
            workspace = open_workspace(self.usecase)
            try:
                yield workspace
            finally:
                workspace.store.close()

    def rows(self) -> dict[str, int]:
        """Rows of each table of the log's database, those of single days together."""
        counted: dict[str, int] = {}
        with contextlib.closing(sqlite3.connect(self.home / "dev-log.db")) as database:
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if not name.startswith("sqlite_"):
                    (count,) = database.execute(f'SELECT count(*) FROM "{name}"').fetchone()
                    counted[name] = int(count)
        return counted

    def table(self, query: str) -> pd.DataFrame:
        """What a query finds in the log's database."""
        with contextlib.closing(sqlite3.connect(self.home / "dev-log.db")) as database:
            return pd.read_sql_query(query, database)

    def accounting(self) -> dict[str, int]:
        """Where every accepted record is, by the scribe's own command."""
        words = [sys.executable, "-m", "bentos.scribe", "--accounting"]
        done = subprocess.run(words, cwd=PROJECT, env=self._environment, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))

    def ship(self, challenger: str) -> None:
        """Run the scribe until the spool is in the log and the challenger has scored it in shadow."""
        log = self.home / "scribe.log"
        with log.open("ab") as out, self.open() as workspace:
            words = [sys.executable, "-m", "bentos.scribe", "--poll", "0.1"]
            process = subprocess.Popen(words, cwd=PROJECT, env=self._environment, stdout=out, stderr=out)
            try:
                name, deadline = workspace.usecase.name, time.monotonic() + PATIENCE
                while (
                    accounting(workspace.store, workspace.settings.spool(name), name).spooled
                    or workspace.store.shadow.progress(name, challenger).pending
                ):
                    assert process.poll() is None, log.read_text()[-2000:]
                    assert time.monotonic() < deadline, log.read_text()[-2000:]
                    time.sleep(0.1)
            finally:
                process.terminate()
                assert process.wait(60) == 0, log.read_text()[-2000:]

    def copy(self, home: Path) -> OldHouse:
        """The same home at another place."""
        shutil.copytree(self.home, home)
        moved = OldHouse(home, self.figures)
        moved.move_in(str(self.home))
        return moved

    def move_in(self, old: str) -> None:
        """Let MLflow's absolute paths name this place, as a restore does."""
        found = {place.name: place for place in database_locations(Home(read_settings(home=self.home)))}
        rename_artifact_roots(found["mlflow"], old, str(self.home))


def unpack(commit: str, folder: Path) -> OldHouse:
    """The home of a commit as it was left, moved to a folder and not upgraded yet."""
    with tarfile.open(FOLDER / f"{commit}.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    workspace = OldHouse(folder / "home", json.loads((FOLDER / f"{commit}.json").read_text()))
    workspace.move_in(str(workspace.figures["made"]["place"]))
    return workspace


def as_times(figures: dict[str, Any]) -> dict[datetime, Any]:
    """Figures by the business time that they were made for, oldest first."""
    return {datetime.fromisoformat(at): figures[at] for at in sorted(figures)}
