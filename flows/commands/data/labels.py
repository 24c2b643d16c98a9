"""``labels``: import late labels, and see what of each day is still open."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flows.commands.common import CommandResult, common_arguments, enter_home, parse_instant, run_flow
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.steps.reports.label_status import LabelStatus
    from monitoring.performance.label_maturity import LedgerDay


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    action = actions.add_parser("import", help="import labels from .csv or .parquet files")
    action.add_argument("path", nargs="?", help="a file or a folder; inbox/labels in INCUMBENT_HOME by default")
    common_arguments(action)
    action = actions.add_parser("status", help="expected and observed labels by day, and what is open")
    common_arguments(action, as_of=True)
    action.add_argument("--days", type=int, help="how many business days are listed (30, or two weeks of matured ones)")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen command."""
    if args.action == "import":
        return run_flow(args, "labels", "label import", path=args.path)
    enter_home(args)
    from flows.steps.reports.label_status import read_label_status
    from flows.workspace.clock import business_time
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(args.usecase)
    as_of = business_time(parse_instant(args.as_of, workspace.usecase))
    status = read_label_status(
        workspace.store, workspace.usecase, as_of, None if args.days is None else max(1, args.days)
    )
    return CommandResult(status.to_json(), _text(status))


def _text(status: LabelStatus) -> str:
    headers = ("day", "events", "expected", "observed", "positive", "immature", "unknown", "late", "conflict", "amount")
    parts = [_curve(status)]
    if status.days:
        parts.append(table([_row(day) for day in status.days], headers))
    for name, cost in (("final (matured days)", status.final), ("provisional (known so far)", status.provisional)):
        parts.append(
            f"cost, {name}: {cost.cost:,.2f} {status.currency} on {cost.days} days: {cost.missed} missed, "
            f"{cost.false_alarms} false alarms, {cost.labelled} of {cost.answered} answers judged"
        )
    revised = sum(day.revised for day in status.days)
    parts.append(f"{revised} labels turned round by a stronger source; {status.parked} labels wait for their event")
    return "\n\n".join([*parts, *status.warnings])


def _curve(status: LabelStatus) -> str:
    curve = status.curve
    if curve.point_days is None or curve.share is None:
        return f"no day is old enough to tell how labels arrive; matures_after {status.matures_after_days:g} days"
    return (
        f"95 % of labels are there after {curve.point_days:.1f} days ({curve.basis}, {curve.labels} labels of "
        f"{curve.events} old events); matures_after {status.matures_after_days:g} days"
    )


def _row(day: LedgerDay) -> tuple[object, ...]:
    expected = None if day.expected_share is None else f"{day.expected_share:.2%}"
    return (
        day.day, day.events, expected, f"{day.observed_share:.2%}", day.positives, day.immature, day.unknown, day.late,
        day.conflicting, day.conflicting_amount,
    )  # fmt: skip
