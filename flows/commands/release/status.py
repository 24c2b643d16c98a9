"""``status``, ``alerts``, ``report``: what is, what is open, and what a month was."""

from __future__ import annotations

import argparse
from datetime import date, datetime
from typing import TYPE_CHECKING

from flows.commands.common import CommandResult, UsageRefused, common_arguments, enter_home, parse_instant
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    common_arguments(parser, as_of=name != "alerts")
    if name == "status":
        parser.add_argument("--html", action="store_true", help="also write the page status.html among the reports")
        parser.add_argument(
            "--deep", action="store_true", help="whether every part is well, seen from outside; no change"
        )
    elif name == "alerts":
        parser.add_argument("--limit", type=int, default=20, metavar="N", help="how many are shown (20)")
    else:
        parser.add_argument("--month", metavar="YYYY-MM", help="which month; the one of --as-of by default")


def run(args: argparse.Namespace) -> CommandResult:
    """Run one command."""
    if getattr(args, "deep", False):
        return _deep(args)
    enter_home(args)
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(args.usecase)
    if hasattr(args, "html"):
        return _status(workspace, args)
    return _alerts(workspace, args) if hasattr(args, "limit") else _report(workspace, args)


def _status(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from flows.steps.operations.dead_runs import close_dead_runs
    from flows.steps.reports.overview import build_overview, text_of, write_overview
    from flows.steps.reports.status import business_now
    from flows.workspace.clock import machine_now

    close_dead_runs(workspace.store, workspace.usecase.name, machine_now())
    as_of = _as_of(workspace, args)
    summary = build_overview(
        workspace, as_of if args.as_of else business_now(workspace.store, workspace.usecase, workspace.model, as_of)
    )
    data = summary.to_json()
    text = text_of(summary)
    if args.html:
        page = write_overview(workspace.settings.reports / "status.html", summary)
        data, text = data | {"html": str(page)}, f"{text}\n\npage: {page}"
    if workspace.name != workspace.usecase.name:
        data |= {"name": workspace.name}
        text = (
            f"{workspace.name}: models, log, deployments and metrics carry its id, {workspace.usecase.name}\n\n{text}"
        )
    if (since := _retired_since(workspace)) is not None:
        data |= {"retired": since.isoformat()}
        text = (
            f"{workspace.usecase.name} retired on {since:%Y-%m-%d %H:%M} UTC: schedules off, service stopped, "
            "data kept; "
            f"`incumbent usecase add {workspace.reference}` brings it back\n\n{text}"
        )
    return CommandResult(data, text)


def _deep(args: argparse.Namespace) -> CommandResult:
    from flows.health.status import deep_status, text_of

    if args.html or args.as_of:
        raise UsageRefused("--deep looks at the present and writes nothing; leave --html and --as-of away")
    checks = deep_status(args.usecase)
    failed = [name for name, finding in checks.items() if finding.state == "wrong"]
    data = {"well": not failed, "failed": failed, "checks": {name: check.to_json() for name, check in checks.items()}}
    return CommandResult(data, text_of(checks), 1 if failed else 0)


def _retired_since(workspace: Workspace) -> datetime | None:
    from flows.workspace.installation import Home
    from flows.workspace.roster import read_roster

    return read_roster(Home(workspace.settings)).retired.get(workspace.usecase.name)


def _alerts(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from bentos.usecase.definition import miss_cost_of

    if args.limit < 1:
        raise UsageRefused(f"--limit is at least 1, not {args.limit}")
    store, usecase = workspace.store, workspace.usecase
    store.alerts.price(usecase.name, *miss_cost_of(usecase))
    alerts = store.alerts.open(usecase.name, args.limit)
    count, loss = store.alerts.total(usecase.name)
    data = {"open": count, "expected_loss": loss, "currency": usecase.cost.currency}
    data |= {"capacity": usecase.capacity.alerts_per_day, "alerts": [alert.to_json() for alert in alerts]}
    rows = [
        (a.place, a.event_id, f"{a.event_time:%Y-%m-%d %H:%M}", a.model, round(a.score, 4), round(a.expected_loss, 2))
        for a in alerts
    ]
    head = ("", "event", "time", "flagged by", "score", f"expected loss, {usecase.cost.currency}")
    line = f"{count} alerts of the latest 24 hours are open, expected loss {loss:,.2f} {usecase.cost.currency}"
    return CommandResult(data, "\n\n".join([line, *([table(rows, head)] if rows else [])]))


def _report(workspace: Workspace, args: argparse.Namespace) -> CommandResult:
    from flows.steps.reports.month import build_month_report

    as_of = _as_of(workspace, args)
    month = workspace.usecase.calendar.day_of(as_of) if args.month is None else _month(args.month)
    report = build_month_report(workspace.store, workspace.usecase, month, as_of)
    head = (f"{workspace.usecase.name}, {report.month:%Y-%m}", "final", "provisional")
    notes = ["final: days whose labels have matured; provisional: young days, by the labels known so far"]
    if report.unlabelled:
        notes.append(f"{report.unlabelled:,} events of young days have no label yet and are not counted")
    return CommandResult(report.to_json(), "\n\n".join([table(report.rows(), head), *notes]))


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007  # a month has no zone
    except ValueError as exc:
        raise UsageRefused(f"--month is a year and a month such as 2026-03, not {text!r}") from exc


def _as_of(workspace: Workspace, args: argparse.Namespace) -> datetime:
    from flows.workspace.clock import business_time

    return business_time(parse_instant(args.as_of, workspace.usecase))
