"""One consistent set of everything that an installation has to remember, with a manifest; and the way back.

The order makes it consistent while everything runs. The spool comes first: what is shipped between the
two copies is then in both, and the ledger, copied later, knows it. MLflow comes before the log that holds
the journal, and both again when the journal moved in between. Artefacts come after MLflow: files are
written before a version names them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, inspect, text

from flows.errors import FlowRefused
from flows.stack.occupants import require_quiet
from flows.steps.operations.databases import DatabaseLocation, copy_database, database_locations, restore_database
from monitoring.core.hashing import sha256_file
from monitoring.store.database.engine import Database

if TYPE_CHECKING:
    from flows.workspace.installation import Home

MANIFEST = "manifest.json"
_FORMAT = 1
_TRIES = 5
_PARTS = ("spool", "mlflow", "log", "prefect", "artifacts", "snapshots", "evidence", "lookups", "keys")
"""What a set consists of; the journal is part of the log."""
_LOCATIONS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "model_versions": ("source", "storage_location"),
    "logged_models": ("artifact_location",),
}
"""MLflow's columns that hold absolute paths."""


@dataclass(frozen=True)
class BackupSet:
    """A set on the disk: its folder and its manifest (``made_at``, ``home``, ``parts``, ``digests``)."""

    folder: Path
    manifest: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON without the digests of single files."""
        return {"folder": str(self.folder)} | {k: v for k, v in self.manifest.items() if k != "digests"}


def write_backup(home: Home, target: Path, with_keys: bool = False) -> BackupSet:
    """Copy everything into a new folder; it appears under its name only when it is whole.

    Raises:
        FlowRefused: the folder is not empty, a program is missing, or releases never pause.
    """
    if target.exists() and any(target.iterdir()):
        raise FlowRefused(f"{target} is not empty; choose a new folder for each backup")
    unfinished = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    locations = {location.name: location for location in database_locations(home)}
    _copy_folder(home.root / "spool", unfinished / "spool")
    _copy_together(locations["mlflow"], locations["log"], unfinished)
    copy_database(locations["prefect"], unfinished)
    _copy_folder(home.settings.artifacts, unfinished / "artifacts")
    _copy_folder(home.settings.snapshots, unfinished / "snapshots")
    for name in ("evidence", "lookups"):
        _copy_folder(home.root / name, unfinished / name)
    if with_keys and home.settings.keys_file.exists():
        shutil.copyfile(home.settings.keys_file, unfinished / "keys.json")
        (unfinished / "keys.json").chmod(0o600)
    manifest = _manifest(home, unfinished, locations)
    (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    if target.exists():
        target.rmdir()
    unfinished.rename(target)
    return BackupSet(target, manifest)


def read_set(folder: Path) -> BackupSet:
    """Open a set and compare every file with its digest.

    Raises:
        FlowRefused: no set, or a file was changed or lost since it was made.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        digests = dict(manifest["digests"])
    except (OSError, ValueError, KeyError) as exc:
        raise FlowRefused(f"{folder} holds no backup: {MANIFEST} cannot be read ({type(exc).__name__})") from exc
    if manifest.get("format") != _FORMAT:
        raise FlowRefused(f"{folder} has the format {manifest.get('format')}; this version reads {_FORMAT}")
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != digest:
            problem = "is not what the manifest says" if path.is_file() else "is missing"
            part = Path(name).parts[0].partition(".")[0]
            raise FlowRefused(f"{path} {problem}; restore this part from another backup (--part {part}=DIR)")
    return BackupSet(folder, manifest)


def restore_backup(home: Home, source: Path, other: Mapping[str, Path] | None = None) -> dict[str, str]:
    """Fill an empty home from a set; single parts may come from other sets, also of another age.

    Args:
        home: where to; its databases and folders must be empty.
        source: folder of the set.
        other: part to the folder of the set that it comes from instead.

    Returns:
        part to the time when it was backed up. :mod:`flows.steps.operations.repairs` then makes the parts agree.

    Raises:
        FlowRefused: something is there already, a service or a stack runs there, or a set is damaged.
    """
    sets = dict.fromkeys(_PARTS, source) | dict(other or {})
    if unknown := sets.keys() - set(_PARTS):
        raise FlowRefused(f"unknown part {', '.join(sorted(unknown))}; parts are {', '.join(_PARTS)}")
    backup_sets = {folder: read_set(folder) for folder in dict.fromkeys(sets.values())}
    locations = {location.name: location for location in database_locations(home)}
    require_quiet(home, "a backup is not restored")
    _refuse_full_home(home, locations)
    home.make()
    made_at_by_part: dict[str, str] = {}
    for part, folder in sets.items():
        if _restore_part(home, locations, part, folder):
            made_at_by_part[part] = str(backup_sets[folder].manifest["made_at"])
    if "mlflow" in made_at_by_part and locations["mlflow"].exists:
        rename_artifact_roots(locations["mlflow"], str(backup_sets[sets["mlflow"]].manifest["home"]), str(home.root))
    return made_at_by_part


def _restore_part(home: Home, locations: Mapping[str, DatabaseLocation], part: str, folder: Path) -> bool:
    if part in locations:
        location = locations[part]
        copies = [copy for copy in (folder / f"{part}.db", folder / f"{part}.dump") if copy.exists()]
        for copy in copies:
            restore_database(location, copy)
        return bool(copies)
    if part == "keys":
        if not (folder / "keys.json").exists():
            return False
        shutil.copyfile(folder / "keys.json", home.settings.keys_file)
        home.settings.keys_file.chmod(0o600)
        return True
    targets = {"artifacts": home.settings.artifacts, "snapshots": home.settings.snapshots}
    targets |= {name: home.root / name for name in ("spool", "evidence", "lookups")}
    return _copy_folder(folder / part, targets[part])


def rename_artifact_roots(location: DatabaseLocation, old_root: str, new_root: str) -> None:
    """Make MLflow's absolute paths name the new home."""
    if old_root == new_root or location.url is None:
        return
    url = location.url.set(drivername="postgresql+psycopg") if location.kind == "postgresql" else location.url
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            inspector = inspect(connection)
            for table, columns in _LOCATIONS.items():
                present = (
                    {column["name"] for column in inspector.get_columns(table)} if inspector.has_table(table) else set()
                )
                for column in present & set(columns):
                    statement = f"UPDATE {table} SET {column} = replace({column}, :old, :new)"  # noqa: S608  # names of our own
                    connection.execute(text(statement), {"old": f"{old_root}/", "new": f"{new_root}/"})
    finally:
        engine.dispose()


def _copy_together(mlflow: DatabaseLocation, log: DatabaseLocation, folder: Path) -> None:
    """Registry and journal of one moment: once more when a decision was written in between."""
    for _ in range(_TRIES):
        newest = _newest_decision(log)
        for location in (mlflow, log):
            (folder / location.copy_name).unlink(missing_ok=True)
            copy_database(location, folder)
        if _newest_decision(log) == newest:
            return
    raise FlowRefused("decisions are written all the time; make the backup while no release is under way")


def _newest_decision(log: DatabaseLocation) -> int:
    if not log.exists or log.url is None:
        return 0
    database = Database(log.url.render_as_string(hide_password=False))
    try:
        with database.read() as connection:
            if not inspect(connection).has_table("decisions"):
                return 0
            return int(connection.exec_driver_sql("SELECT coalesce(max(seq), 0) FROM decisions").scalar_one())
    finally:
        database.dispose()


def _copy_folder(source: Path, target: Path) -> bool:
    """Copy a folder whose files may vanish meanwhile: the scribe deletes what it has shipped."""
    if not source.is_dir():
        return False
    for path in sorted(source.rglob("*")):
        if path.is_dir() or path.name.startswith("."):
            continue
        destination = target / path.relative_to(source)
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, destination)
        except FileNotFoundError:
            destination.unlink(missing_ok=True)
    return True


def _refuse_full_home(home: Home, locations: Mapping[str, DatabaseLocation]) -> None:
    existing_files = [
        str(location.file) for location in locations.values() if location.file is not None and location.file.exists()
    ]
    folders = (home.root / "spool", home.settings.artifacts, home.settings.snapshots)
    existing_files += [str(folder) for folder in folders if folder.is_dir() and any(_files(folder))]
    if existing_files:
        text = f"there is something already: {', '.join(existing_files)}; restore into an empty home (INCUMBENT_HOME)"
        spool = home.root / "spool"
        if str(spool) in existing_files:
            text += (
                f". {spool} may hold answers that are not in the backup: move it away, restore, and put it "
                "back over the restored one before anything is started, then: incumbent db repair"
            )
        raise FlowRefused(text)
    # Asked before anything is copied: the spool comes first, and a home with a spool is no empty one any more.
    used_databases = [
        f"{location.name} ({location.shown()})" for location in locations.values() if location.holds_tables()
    ]
    if used_databases:
        raise FlowRefused(f"there are tables already: {', '.join(used_databases)}; restore into empty databases")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _manifest(home: Home, folder: Path, locations: Mapping[str, DatabaseLocation]) -> dict[str, Any]:
    from importlib.metadata import version

    digests = {str(path.relative_to(folder)): sha256_file(path) for path in sorted(_files(folder))}
    parts: dict[str, Any] = {}
    for name in digests:
        part = name.split("/")[0].split(".")[0]
        kind = locations[part].kind if part in locations else "files"
        entry = parts.setdefault(part, {"kind": kind, "files": 0, "bytes": 0})
        entry["files"] += 1
        entry["bytes"] += (folder / name).stat().st_size
    remote = [location.name for location in locations.values() if location.kind == "remote"]
    return {
        "format": _FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "program": version("incumbent"),
        "env": home.settings.env,
        "home": str(home.root),
        "parts": parts,
        "not_included": remote,
        "digests": digests,
    }
