"""Services that the installation leans on, disk space, and files that hold secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from flows.health.look import HealthContext, HealthFinding, not_checked, ok, wrong

_LEAST_FREE: Final = 1 << 30
_LEAST_SHARE: Final = 0.05
PRIVATE: Final = ("keys.json", "hash.key", "notify.toml", "prefect.login", "console.token", "mlflow.login")
"""Files of the home that hold secrets, where they are there."""


def database(context: HealthContext) -> HealthFinding:
    """Whether the log's database answers, and its tables are those of this program."""
    dependency = context.dependencies.get("database")
    if _is_new(context):
        return not_checked("there is none yet: the first command that needs it makes it")
    if dependency is None or not dependency.up:
        return wrong(
            _problem_text(context, "database"), "Start it, or mend INCUMBENT_DATABASE_URL; answers wait in the spool."
        )
    if context.store is None:
        return wrong("its tables are not those of this program", "Run: incumbent db status, then incumbent db upgrade.")
    kind = "SQLite in the home" if context.store.database.is_sqlite else "PostgreSQL"
    return ok(f"{kind} answers, its tables are up to date")


def _is_new(context: HealthContext) -> bool:
    """Whether nothing was ever done in this home, and nothing is up."""
    settings = context.settings
    return (
        context.stack is None and not settings.database_url and not (settings.root / f"{settings.env}-log.db").exists()
    )


def mlflow(context: HealthContext) -> HealthFinding:
    """Whether MLflow answers."""
    if not context.settings.mlflow_uri and not (context.settings.root / "mlflow.db").exists():
        return not_checked("there is no model yet: the first training makes its store")
    return _dependency(context, "mlflow", "Start it, or mend INCUMBENT_MLFLOW_URI.")


def prefect(context: HealthContext) -> HealthFinding:
    """Whether the Prefect server answers."""
    return _dependency(context, "prefect", "Start it: incumbent up, or the container prefect-server.")


def redis(context: HealthContext) -> HealthFinding:
    """Whether Redis answers."""
    return _dependency(context, "redis", "Start it, or mend INCUMBENT_REDIS_URL.")


def _dependency(context: HealthContext, name: str, todo: str) -> HealthFinding:
    dependency = context.dependencies.get(name)
    if dependency is None:
        return not_checked("none is configured" if context.stack is None else "the stack has none")
    return (
        ok(f"answered within {dependency.seconds * 1000:.0f} ms")
        if dependency.up
        else wrong(_problem_text(context, name), todo)
    )


def _problem_text(context: HealthContext, name: str) -> str:
    dependency = context.dependencies.get(name)
    return "it was not asked" if dependency is None else f"it does not answer: {dependency.problem}"


def disk_space(context: HealthContext) -> HealthFinding:
    """Whether the home's disk has room."""
    root = context.settings.root
    if not root.is_dir():
        return not_checked(f"there is no home at {root}")
    filesystem = os.statvfs(root)
    free, share = filesystem.f_bavail * filesystem.f_frsize, filesystem.f_bavail / max(1, filesystem.f_blocks)
    text = f"{free / (1 << 30):.1f} GB ({share:.0%}) of the home's disk are free"
    if free < _LEAST_FREE or share < _LEAST_SHARE:
        return wrong(text, "Make room: incumbent log prune --help, old reports, old logs.")
    return ok(text)


def private_files(context: HealthContext) -> HealthFinding:
    """Whether files with secrets are closed to others."""
    files = {
        *(context.settings.root / name for name in PRIVATE),
        context.settings.keys_file,
        context.settings.hash_key_file,
    }
    existing = sorted(file for file in files if file.is_file())
    if not existing:
        return not_checked("the home holds no file with a secret")
    open_names = [file.name for file in existing if file.stat().st_mode & 0o077]
    unreadable = [file.name for file in existing if not os.access(file, os.R_OK)]
    if open_names:
        return wrong(f"others may read {', '.join(open_names)}", f"Run: chmod 600 {_paths(existing, open_names)}.")
    if unreadable:
        return wrong(
            f"{', '.join(unreadable)} cannot be read by this user",
            f"Run: chown and chmod 600 {_paths(existing, unreadable)}.",
        )
    return ok(f"{len(existing)} are for their owner alone")


def _paths(files: list[Path], names: list[str]) -> str:
    return " ".join(str(file) for file in files if file.name in names)
