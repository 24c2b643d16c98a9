"""``db``, ``backup`` and ``restore``: the databases, and everything that an installation has to remember."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.common import CommandResult, UsageRefused, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.installation import Home


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    if name == "backup":
        parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder for the set")
        parser.add_argument("--with-keys", action="store_true", help="include the file of API keys (hashed)")
        common_arguments(parser)
        return
    if name == "restore":
        parser.add_argument("--from", dest="source", type=Path, required=True, metavar="DIR", help="folder of a set")
        parser.add_argument(
            "--part",
            action="append",
            default=[],
            metavar="PART=DIR",
            help="this part from another set; repeatable",
        )
        parser.add_argument("--no-repair", action="store_true", help="do not make the parts agree afterwards")
        common_arguments(parser)
        return
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = actions.add_parser("status", help="where the databases are, and the revision of ours")
    upgrade = actions.add_parser("upgrade", help="back up all three databases, then upgrade ours")
    upgrade.add_argument("--no-backup", action="store_true", help="upgrade without a backup")
    repair_parser = actions.add_parser("repair", help="make registry, journal and spool agree after a restore")
    repair_parser.add_argument("--dry-run", action="store_true", help="only say what disagrees")
    for subparser in (status, upgrade, repair_parser):
        common_arguments(subparser)


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen command."""
    home = enter_home(args)
    if args.command == "backup":
        return _backup(home, args)
    if args.command == "restore":
        return _restore(home, args)
    if args.action == "status":
        return CommandResult(data := _status(home), _status_text(data))
    return _upgrade(home, args) if args.action == "upgrade" else _repair(args)


def _status(home: Home) -> dict[str, Any]:
    from flows.steps.operations.databases import database_locations
    from monitoring.store.database.engine import Database
    from monitoring.store.database.migrate import HEAD, read_schema

    database = Database(home.settings.log_url)
    try:
        schema = read_schema(database)
    finally:
        database.dispose()
    databases = [
        {"name": p.name, "kind": p.kind, "address": p.shown(), "exists": p.exists} for p in database_locations(home)
    ]
    return {
        "state": schema.state,
        "revision": schema.revision,
        "program": HEAD,
        "oldest_code": schema.oldest_code,
        "databases": databases,
    }


def _status_text(data: dict[str, Any]) -> str:
    rows = [(d["name"], d["kind"], "there" if d["exists"] else "missing", d["address"]) for d in data["databases"]]
    line = f"log: {data['state']}; revision {data['revision'] or 'none'}, this program knows {data['program']}"
    return f"{line}\n\n{table(rows, ('database', 'kind', 'state', 'address'))}"


def _upgrade(home: Home, args: argparse.Namespace) -> CommandResult:
    from flows.steps.operations.databases import copy_database, database_locations
    from monitoring.store import open_store
    from monitoring.store.database.migrate import HEAD

    before = _status(home)
    copies: list[str] = []
    if before["state"] == "behind" and not args.no_backup:
        folder = home.root / "backups" / f"before-{HEAD}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        folder.mkdir(parents=True)
        copies = [
            str(copy) for location in database_locations(home) if (copy := copy_database(location, folder)) is not None
        ]
    open_store(home.settings.log_url).close()
    after = _status(home)
    data = {"from": before["revision"], "to": after["revision"], "state": after["state"], "backup": copies}
    if before["state"] != "behind":
        return CommandResult(data, f"nothing to upgrade: the database is at {after['revision']} ({after['state']})")
    backup_note = f"copies: {', '.join(copies)}" if copies else "no backup was made"
    return CommandResult(data, f"upgraded from {data['from']} to {data['to']}; {backup_note}")


def _backup(home: Home, args: argparse.Namespace) -> CommandResult:
    from flows.steps.operations.backups import write_backup

    backup = write_backup(home, args.to.absolute(), args.with_keys)
    rows = [(part, entry["kind"], entry["files"], entry["bytes"]) for part, entry in backup.manifest["parts"].items()]
    excluded_parts = backup.manifest["not_included"]
    note = f"\nnot included: {', '.join(excluded_parts)}, which a server keeps" if excluded_parts else ""
    text = f"{backup.folder}\n\n{table(rows, ('part', 'kind', 'files', 'bytes'))}{note}"
    return CommandResult(backup.to_json(), text)


def _restore(home: Home, args: argparse.Namespace) -> CommandResult:
    from flows.steps.operations.backups import restore_backup

    other_sets = {}
    for word in args.part:
        part, sign, folder = word.partition("=")
        if not sign or not folder:
            raise UsageRefused(f"--part is PART=DIR, for example log=/backups/monday; found {word!r}")
        other_sets[part] = Path(folder).absolute()
    part_times = restore_backup(home, args.source.absolute(), other_sets)
    text = f"{table(sorted(part_times.items()), ('part', 'backed up at'))}\n\n"
    if args.no_repair:
        return CommandResult({"restored": part_times}, f"{text}not repaired; run: incumbent db repair")
    repair_reply = _repair(args)
    return CommandResult({"restored": part_times, **repair_reply.data}, text + repair_reply.text)


def _repair(args: argparse.Namespace) -> CommandResult:
    from flows.steps.operations.repairs import repair_disagreements
    from flows.workspace.workspace import open_workspace

    disagreements = repair_disagreements(open_workspace(args.usecase), dry_run=getattr(args, "dry_run", False))
    rows = [(f.name, f.subject, "repaired" if f.repaired else "named", f.text) for f in disagreements]
    text = table(rows, ("finding", "where", "state", "what")) or "registry, journal and spool agree"
    return CommandResult({"findings": [f.to_json() for f in disagreements]}, text)
