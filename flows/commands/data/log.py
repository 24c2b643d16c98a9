"""``log``: the prediction log itself: what is old goes, and what lies in the future."""

from __future__ import annotations

import argparse

from flows.commands.common import CommandResult, UsageRefused, common_arguments, enter_home, parse_instant
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


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen action."""
    return _repair(args) if args.action == "repair" else _prune(args)


def _repair(args: argparse.Namespace) -> CommandResult:
    enter_home(args)
    from flows.steps.operations.future_rows import repair_log
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(args.usecase)
    repair = repair_log(workspace, parse_instant(args.after, workspace.usecase), args.reason.strip())
    rows = [
        (group.kind, group.rows, f"{group.first:%Y-%m-%d %H:%M}", f"{group.last:%Y-%m-%d %H:%M}")
        for group in repair.found
    ]
    parts = [table(rows, ("kind", "rows", "first", "last")) if rows else "the log holds no row of the future"]
    rows_after = f"rows after {repair.after:%Y-%m-%d %H:%M:%S} UTC"
    if repair.decision is not None:
        parts.append(f"{rows_after} lie in quarantine now; decision {repair.decision} records it")
    elif rows:
        parts.append(f"{rows_after} would move into quarantine; with --reason TEXT they do")
    if repair.spooled:
        parts.append(f"{repair.spooled} more events lie in the spool: let the scribe ship them, then repair again")
    return CommandResult(repair.to_json(), "\n\n".join([*parts, *([repair.next_step] if repair.next_step else [])]))


def _prune(args: argparse.Namespace) -> CommandResult:
    from monitoring.core.durations import parse_duration

    enter_home(args)
    from flows.steps.operations.retention import prune_log
    from flows.workspace.clock import business_time
    from flows.workspace.workspace import open_workspace

    try:
        age = parse_duration(args.older_than)
    except ValueError as exc:
        raise UsageRefused(f"--older-than: {exc}") from exc
    workspace = open_workspace(args.usecase)
    tables = PRUNABLE if args.table == "all" else (args.table,)
    result = prune_log(
        workspace, tables, age, business_time(parse_instant(args.as_of, workspace.usecase)), args.dry_run
    )
    data = result.to_json()
    rows = [(d["table"], d["day"], d["rows"], d["bytes"]) for d in data["days"]]
    phrase = "would go" if args.dry_run else f"went; decision {result.decision} records it"
    text = table(rows, ("table", "day", "rows", "bytes")) or "no row is that old"
    reports_note = f"\n{result.kept_reports} old reports stay: decisions rest on them" if result.kept_reports else ""
    return CommandResult(
        data, f"{text}\n\nrows before {result.before:%Y-%m-%d}: {sum(r[2] for r in rows)} {phrase}{reports_note}"
    )
