"""``replay``: send a window of a source through a running service, in event-time order."""

from __future__ import annotations

import argparse
from datetime import timedelta

from flows.commands.common import (
    CommandResult,
    UsageRefused,
    common_arguments,
    enter_home,
    parse_instant,
    source_arguments,
)


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser, as_of=True)
    source_arguments(parser)
    parser.add_argument("--window", metavar="SPAN", help="how much to replay, for example 30d; counts from --start")
    parser.add_argument("--start", metavar="TIME", help="first event time; the start of the source by default")
    parser.add_argument("--end", metavar="TIME", help="event time to stop before; the end of the source by default")
    parser.add_argument("--service", metavar="URL", default="http://127.0.0.1:3000", help="where the service answers")
    parser.add_argument("--batch", type=int, default=100, metavar="N", help="events of one request (100)")
    parser.add_argument("--without-labels", action="store_true", help="send events only")


def run(args: argparse.Namespace) -> CommandResult:
    """Replay; exit code 1 when an event was not answered."""
    if args.window and args.end:
        raise UsageRefused("give --window or --end, not both")
    if args.batch < 1:
        raise UsageRefused("--batch: at least 1 event")
    enter_home(args)
    from flows.sources import open_source
    from flows.steps.operations.replay_days import ReplayOptions, replay_days
    from flows.steps.operations.replay_events import ReplayClient
    from flows.workspace.progress import progress
    from flows.workspace.workspace import open_workspace
    from monitoring.core.calendar import TimeWindow
    from monitoring.core.durations import parse_duration

    workspace = open_workspace(args.usecase)
    usecase = workspace.usecase
    source = open_source(usecase, args.source, store=workspace.store, path=args.path, url=args.url, table=args.table)
    extent = source.extent()
    start = parse_instant(args.start, usecase) or extent.start
    span: timedelta | None = parse_duration(args.window) if args.window else None
    end = start + span if span is not None else parse_instant(args.end, usecase) or extent.end
    with ReplayClient(args.service, usecase) as client, progress("replay") as bar:
        tally = replay_days(
            client, source, TimeWindow(start, end), workspace.store, parse_instant(args.as_of, usecase),
            ReplayOptions(args.batch, not args.without_labels), bar,
        )  # fmt: skip
    text = f"{tally.answered} of {tally.events} events were answered, {tally.labels} labels reported"
    if tally.reasons:
        text += "; failures: " + ", ".join(f"{reason} ({count})" for reason, count in tally.reasons.items())
    return CommandResult(tally.to_json(), text, 0 if tally.answered == tally.events and not tally.refused_labels else 1)
