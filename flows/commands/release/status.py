"""``status``, ``alerts``, ``report``: what is, what is open, and what a month was."""

from __future__ import annotations

import argparse
from datetime import date, datetime
from typing import TYPE_CHECKING

from flows.commands.common import Reply, UsageRefused, common_arguments, enter_home, instant
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.workspace import House


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


def run(args: argparse.Namespace) -> Reply:
    """Run one command."""
    if getattr(args, "deep", False):
        return _deep(args)
    enter_home(args)
    from flows.workspace.workspace import open_house

    house = open_house(args.usecase)
    if hasattr(args, "html"):
        return _status(house, args)
    return _alerts(house, args) if hasattr(args, "limit") else _report(house, args)


def _status(house: House, args: argparse.Namespace) -> Reply:
    from flows.steps.operations.dead_runs import close_dead_runs
    from flows.steps.reports.overview import overview, text_of, write_overview
    from flows.steps.reports.status import present
    from flows.workspace.clock import machine_now

    close_dead_runs(house.store, house.usecase.name, machine_now())
    as_of = _as_of(house, args)
    found = overview(house, as_of if args.as_of else present(house.store, house.usecase, house.model, as_of))
    data = found.to_json()
    text = text_of(found)
    if args.html:
        page = write_overview(house.settings.reports / "status.html", found)
        data, text = data | {"html": str(page)}, f"{text}\n\npage: {page}"
    if house.name != house.usecase.name:
        data |= {"name": house.name}
        text = f"{house.name}: models, log, deployments and metrics carry its id, {house.usecase.name}\n\n{text}"
    if (since := _retired_since(house)) is not None:
        data |= {"retired": since.isoformat()}
        text = (
            f"{house.usecase.name} retired on {since:%Y-%m-%d %H:%M} UTC: schedules off, service stopped, data kept; "
            f"`incumbent usecase add {house.reference}` brings it back\n\n{text}"
        )
    return Reply(data, text)


def _deep(args: argparse.Namespace) -> Reply:
    from flows.health.status import deep_status, text_of

    if args.html or args.as_of:
        raise UsageRefused("--deep looks at the present and writes nothing; leave --html and --as-of away")
    found = deep_status(args.usecase)
    failed = [name for name, finding in found.items() if finding.state == "wrong"]
    data = {"well": not failed, "failed": failed, "checks": {name: one.to_json() for name, one in found.items()}}
    return Reply(data, text_of(found), 1 if failed else 0)


def _retired_since(house: House) -> datetime | None:
    from flows.workspace.installation import Home
    from flows.workspace.roster import read_roster

    return read_roster(Home(house.settings)).retired.get(house.usecase.name)


def _alerts(house: House, args: argparse.Namespace) -> Reply:
    from bentos.usecase.definition import stakes_of

    if args.limit < 1:
        raise UsageRefused(f"--limit is at least 1, not {args.limit}")
    store, usecase = house.store, house.usecase
    store.alerts.price(usecase.name, *stakes_of(usecase))
    found = store.alerts.open(usecase.name, args.limit)
    count, loss = store.alerts.total(usecase.name)
    data = {"open": count, "expected_loss": loss, "currency": usecase.cost.currency}
    data |= {"capacity": usecase.capacity.alerts_per_day, "alerts": [alert.to_json() for alert in found]}
    rows = [
        (a.place, a.event_id, f"{a.event_time:%Y-%m-%d %H:%M}", a.model, round(a.score, 4), round(a.expected_loss, 2))
        for a in found
    ]
    head = ("", "event", "time", "flagged by", "score", f"expected loss, {usecase.cost.currency}")
    line = f"{count} alerts of the latest 24 hours are open, expected loss {loss:,.2f} {usecase.cost.currency}"
    return Reply(data, "\n\n".join([line, *([table(rows, head)] if rows else [])]))


def _report(house: House, args: argparse.Namespace) -> Reply:
    from flows.steps.reports.month import month_report

    as_of = _as_of(house, args)
    month = house.usecase.calendar.day_of(as_of) if args.month is None else _month(args.month)
    found = month_report(house.store, house.usecase, month, as_of)
    head = (f"{house.usecase.name}, {found.month:%Y-%m}", "final", "provisional")
    notes = ["final: days whose labels have matured; provisional: young days, by the labels known so far"]
    if found.unlabelled:
        notes.append(f"{found.unlabelled:,} events of young days have no label yet and are not counted")
    return Reply(found.to_json(), "\n\n".join([table(found.rows(), head), *notes]))


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007  # a month has no zone
    except ValueError as exc:
        raise UsageRefused(f"--month is a year and a month such as 2026-03, not {text!r}") from exc


def _as_of(house: House, args: argparse.Namespace) -> datetime:
    from flows.workspace.clock import business_time

    return business_time(instant(args.as_of, house.usecase))
