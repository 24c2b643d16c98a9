"""``log``: the prediction log itself: what is old goes."""

from __future__ import annotations

import argparse

from flows.commands.common import Reply, UsageRefused, common_arguments, enter_home, instant, table


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of each action."""
    from monitoring.store.pruning import TABLES

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    prune = actions.add_parser("prune", help="remove rows older than an age, whole UTC days, table by table")
    prune.add_argument("--older-than", required=True, metavar="AGE", help="for example 400d")
    prune.add_argument("--table", choices=(*TABLES, "all"), default="all", help="one table; all of them by default")
    prune.add_argument("--dry-run", action="store_true", help="show rows and bytes by table and day, remove nothing")
    common_arguments(prune, as_of=True)


def run(args: argparse.Namespace) -> Reply:
    """Prune, or show what would go."""
    from monitoring.durations import parse_duration
    from monitoring.store.pruning import TABLES

    enter_home(args)
    from flows.house import business_time, open_house
    from flows.steps.retention import prune_log

    try:
        age = parse_duration(args.older_than)
    except ValueError as exc:
        raise UsageRefused(f"--older-than: {exc}") from exc
    house = open_house(args.usecase)
    tables = tuple(TABLES) if args.table == "all" else (args.table,)
    found = prune_log(house, tables, age, business_time(instant(args.as_of, house.usecase)), args.dry_run)
    data = found.to_json()
    rows = [(d["table"], d["day"], d["rows"], d["bytes"]) for d in data["days"]]
    said = "would go" if args.dry_run else f"went; decision {found.decision} records it"
    text = table(rows, ("table", "day", "rows", "bytes")) or "no row is that old"
    kept = f"\n{found.kept_reports} old reports stay: decisions rest on them" if found.kept_reports else ""
    return Reply(data, f"{text}\n\nrows before {found.before:%Y-%m-%d}: {sum(r[2] for r in rows)} {said}{kept}")
