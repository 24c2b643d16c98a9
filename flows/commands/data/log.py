"""``log``: the prediction log itself: what is old goes, and what lies in the future."""

from __future__ import annotations

import argparse

from flows.commands.common import Reply, UsageRefused, common_arguments, enter_home, instant
from monitoring.core.text_table import table

PRUNABLE = ("predictions", "shadow", "labels", "actions", "quarantine", "reports")
"""Names of the tables; stands here so that help needs no database library."""


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of each action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    prune = actions.add_parser("prune", help="remove rows older than an age, whole UTC days, table by table")
    prune.add_argument("--older-than", required=True, metavar="AGE", help="for example 400d")
    prune.add_argument("--table", choices=(*PRUNABLE, "all"), default="all", help="one table; all of them by default")
    prune.add_argument("--dry-run", action="store_true", help="show rows and bytes by table and day, remove nothing")
    common_arguments(prune, as_of=True)
    repair = actions.add_parser("repair", help="move rows dated in the future into quarantine; shows them by default")
    repair.add_argument("--after", metavar="TIME", help="rows of later times; INCUMBENT_MAX_FUTURE from now by default")
    repair.add_argument("--reason", default="", help="why, in a few words; without it nothing is moved")
    common_arguments(repair)


def run(args: argparse.Namespace) -> Reply:
    """Run the chosen action."""
    return _repair(args) if args.action == "repair" else _prune(args)


def _repair(args: argparse.Namespace) -> Reply:
    enter_home(args)
    from flows.steps.operations.future_rows import repair_log
    from flows.workspace.workspace import open_house

    house = open_house(args.usecase)
    done = repair_log(house, instant(args.after, house.usecase), args.reason.strip())
    rows = [(one.kind, one.rows, f"{one.first:%Y-%m-%d %H:%M}", f"{one.last:%Y-%m-%d %H:%M}") for one in done.found]
    parts = [table(rows, ("kind", "rows", "first", "last")) if rows else "the log holds no row of the future"]
    after = f"rows after {done.after:%Y-%m-%d %H:%M:%S} UTC"
    if done.decision is not None:
        parts.append(f"{after} lie in quarantine now; decision {done.decision} records it")
    elif rows:
        parts.append(f"{after} would move into quarantine; with --reason TEXT they do")
    if done.spooled:
        parts.append(f"{done.spooled} more events lie in the spool: let the scribe ship them, then repair again")
    return Reply(done.to_json(), "\n\n".join([*parts, *([done.next_step] if done.next_step else [])]))


def _prune(args: argparse.Namespace) -> Reply:
    from monitoring.core.durations import parse_duration

    enter_home(args)
    from flows.steps.operations.retention import prune_log
    from flows.workspace.clock import business_time
    from flows.workspace.workspace import open_house

    try:
        age = parse_duration(args.older_than)
    except ValueError as exc:
        raise UsageRefused(f"--older-than: {exc}") from exc
    house = open_house(args.usecase)
    tables = PRUNABLE if args.table == "all" else (args.table,)
    found = prune_log(house, tables, age, business_time(instant(args.as_of, house.usecase)), args.dry_run)
    data = found.to_json()
    rows = [(d["table"], d["day"], d["rows"], d["bytes"]) for d in data["days"]]
    said = "would go" if args.dry_run else f"went; decision {found.decision} records it"
    text = table(rows, ("table", "day", "rows", "bytes")) or "no row is that old"
    kept = f"\n{found.kept_reports} old reports stay: decisions rest on them" if found.kept_reports else ""
    return Reply(data, f"{text}\n\nrows before {found.before:%Y-%m-%d}: {sum(r[2] for r in rows)} {said}{kept}")
