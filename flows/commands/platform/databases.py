"""``db``, ``backup`` and ``restore``: the databases, and everything that an installation has to remember."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.common import Reply, UsageRefused, common_arguments, enter_home
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
    repair = actions.add_parser("repair", help="make registry, journal and spool agree after a restore")
    repair.add_argument("--dry-run", action="store_true", help="only say what disagrees")
    for one in (status, upgrade, repair):
        common_arguments(one)


def run(args: argparse.Namespace) -> Reply:
    """Run the chosen command."""
    home = enter_home(args)
    if args.command == "backup":
        return _backup(home, args)
    if args.command == "restore":
        return _restore(home, args)
    if args.action == "status":
        return Reply(data := _status(home), _status_text(data))
    return _upgrade(home, args) if args.action == "upgrade" else _repair(args)


def _status(home: Home) -> dict[str, Any]:
    from flows.steps.operations.databases import places
    from monitoring.store.database.engine import Database
    from monitoring.store.database.migrate import HEAD, look

    database = Database(home.settings.log_url)
    try:
        schema = look(database)
    finally:
        database.dispose()
    shown = [{"name": p.name, "kind": p.kind, "address": p.shown(), "exists": p.exists} for p in places(home)]
    return {
        "state": schema.state,
        "revision": schema.revision,
        "program": HEAD,
        "oldest_code": schema.oldest_code,
        "databases": shown,
    }


def _status_text(data: dict[str, Any]) -> str:
    rows = [(d["name"], d["kind"], "there" if d["exists"] else "missing", d["address"]) for d in data["databases"]]
    line = f"log: {data['state']}; revision {data['revision'] or 'none'}, this program knows {data['program']}"
    return f"{line}\n\n{table(rows, ('database', 'kind', 'state', 'address'))}"


def _upgrade(home: Home, args: argparse.Namespace) -> Reply:
    from flows.steps.operations.databases import copy_database, places
    from monitoring.store import open_store
    from monitoring.store.database.migrate import HEAD

    before = _status(home)
    copies: list[str] = []
    if before["state"] == "behind" and not args.no_backup:
        folder = home.root / "backups" / f"before-{HEAD}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        folder.mkdir(parents=True)
        copies = [str(copy) for place in places(home) if (copy := copy_database(place, folder)) is not None]
    open_store(home.settings.log_url).close()
    after = _status(home)
    data = {"from": before["revision"], "to": after["revision"], "state": after["state"], "backup": copies}
    if before["state"] != "behind":
        return Reply(data, f"nothing to upgrade: the database is at {after['revision']} ({after['state']})")
    kept = f"copies: {', '.join(copies)}" if copies else "no backup was made"
    return Reply(data, f"upgraded from {data['from']} to {data['to']}; {kept}")


def _backup(home: Home, args: argparse.Namespace) -> Reply:
    from flows.steps.operations.backups import back_up

    made = back_up(home, args.to.absolute(), args.with_keys)
    rows = [(part, entry["kind"], entry["files"], entry["bytes"]) for part, entry in made.manifest["parts"].items()]
    left = made.manifest["not_included"]
    note = f"\nnot included: {', '.join(left)}, which a server keeps" if left else ""
    text = f"{made.folder}\n\n{table(rows, ('part', 'kind', 'files', 'bytes'))}{note}"
    return Reply(made.to_json(), text)


def _restore(home: Home, args: argparse.Namespace) -> Reply:
    from flows.steps.operations.backups import restore

    other = {}
    for word in args.part:
        part, sign, folder = word.partition("=")
        if not sign or not folder:
            raise UsageRefused(f"--part is PART=DIR, for example log=/backups/monday; found {word!r}")
        other[part] = Path(folder).absolute()
    done = restore(home, args.source.absolute(), other)
    text = f"{table(sorted(done.items()), ('part', 'backed up at'))}\n\n"
    if args.no_repair:
        return Reply({"restored": done}, f"{text}not repaired; run: incumbent db repair")
    repaired = _repair(args)
    return Reply({"restored": done, **repaired.data}, text + repaired.text)


def _repair(args: argparse.Namespace) -> Reply:
    from flows.steps.operations.repairs import repair
    from flows.workspace.workspace import open_house

    found = repair(open_house(args.usecase), dry_run=getattr(args, "dry_run", False))
    rows = [(f.name, f.subject, "repaired" if f.repaired else "named", f.text) for f in found]
    text = table(rows, ("finding", "where", "state", "what")) or "registry, journal and spool agree"
    return Reply({"findings": [f.to_json() for f in found]}, text)
