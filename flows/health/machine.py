"""Services that the installation leans on, disk space, and files that hold secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from flows.health.look import Finding, Place, not_looked, ok, wrong

_LEAST_FREE: Final = 1 << 30
_LEAST_SHARE: Final = 0.05
PRIVATE: Final = ("keys.json", "hash.key", "notify.toml", "prefect.login", "console.token", "mlflow.login")
"""Files of the home that hold secrets, where they are there."""


def database(place: Place) -> Finding:
    """Whether the log's database answers, and its tables are those of this program."""
    found = place.dependencies.get("database")
    if _is_new(place):
        return not_looked("there is none yet: the first command that needs it makes it")
    if found is None or not found.up:
        return wrong(_said(place, "database"), "Start it, or mend INCUMBENT_DATABASE_URL; answers wait in the spool.")
    if place.store is None:
        return wrong("its tables are not those of this program", "Run: incumbent db status, then incumbent db upgrade.")
    kind = "SQLite in the home" if place.store.database.is_sqlite else "PostgreSQL"
    return ok(f"{kind} answers, its tables are up to date")


def _is_new(place: Place) -> bool:
    """Whether nothing was ever done in this home, and nothing is up."""
    settings = place.settings
    return place.stack is None and not settings.database_url and not (settings.root / f"{settings.env}-log.db").exists()


def mlflow(place: Place) -> Finding:
    """Whether MLflow answers."""
    if not place.settings.mlflow_uri and not (place.settings.root / "mlflow.db").exists():
        return not_looked("there is no model yet: the first training makes its store")
    return _dependency(place, "mlflow", "Start it, or mend INCUMBENT_MLFLOW_URI.")


def prefect(place: Place) -> Finding:
    """Whether the Prefect server answers."""
    return _dependency(place, "prefect", "Start it: incumbent up, or the container prefect-server.")


def redis(place: Place) -> Finding:
    """Whether Redis answers."""
    return _dependency(place, "redis", "Start it, or mend INCUMBENT_REDIS_URL.")


def _dependency(place: Place, name: str, todo: str) -> Finding:
    found = place.dependencies.get(name)
    if found is None:
        return not_looked("none is configured" if place.stack is None else "the stack has none")
    return ok(f"answered within {found.seconds * 1000:.0f} ms") if found.up else wrong(_said(place, name), todo)


def _said(place: Place, name: str) -> str:
    found = place.dependencies.get(name)
    return "it was not asked" if found is None else f"it does not answer: {found.problem}"


def disk_space(place: Place) -> Finding:
    """Whether the home's disk has room."""
    root = place.settings.root
    if not root.is_dir():
        return not_looked(f"there is no home at {root}")
    seen = os.statvfs(root)
    free, share = seen.f_bavail * seen.f_frsize, seen.f_bavail / max(1, seen.f_blocks)
    text = f"{free / (1 << 30):.1f} GB ({share:.0%}) of the home's disk are free"
    if free < _LEAST_FREE or share < _LEAST_SHARE:
        return wrong(text, "Make room: incumbent log prune --help, old reports, old logs.")
    return ok(text)


def private_files(place: Place) -> Finding:
    """Whether files with secrets are closed to others."""
    files = {*(place.settings.root / name for name in PRIVATE), place.settings.keys_file, place.settings.hash_key_file}
    there = sorted(file for file in files if file.is_file())
    if not there:
        return not_looked("the home holds no file with a secret")
    open_ones = [file.name for file in there if file.stat().st_mode & 0o077]
    unread = [file.name for file in there if not os.access(file, os.R_OK)]
    if open_ones:
        return wrong(f"others may read {', '.join(open_ones)}", f"Run: chmod 600 {_paths(there, open_ones)}.")
    if unread:
        return wrong(
            f"{', '.join(unread)} cannot be read by this user", f"Run: chown and chmod 600 {_paths(there, unread)}."
        )
    return ok(f"{len(there)} are for their owner alone")


def _paths(files: list[Path], names: list[str]) -> str:
    return " ".join(str(file) for file in files if file.name in names)
