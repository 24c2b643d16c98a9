"""``windows load``: events and labels that come in by other roads than HTTP."""

from __future__ import annotations

import argparse

from flows.commands.common import CommandResult, common_arguments, enter_home, parse_instant, source_arguments


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    action = actions.add_parser("load", help="import events and labels of a source into the log as history")
    common_arguments(action, as_of=True)
    source_arguments(action)
    action.add_argument("--start", metavar="TIME", help="first event time; the start of the source by default")
    action.add_argument("--end", metavar="TIME", help="event time to stop before; the end of the source by default")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen command."""
    home = enter_home(args)
    from flows.sources import open_source
    from flows.stack.occupants import services_in
    from flows.steps.data.import_history import load_history
    from flows.workspace.progress import progress
    from flows.workspace.workspace import declared_bound, open_workspace
    from monitoring.core.calendar import TimeWindow

    workspace = open_workspace(args.usecase)
    location = {"path": args.path, "url": args.url, "table": args.table}
    source = open_source(workspace.usecase, args.source, store=workspace.store, **location)
    extent = source.extent()
    start, end = parse_instant(args.start, workspace.usecase), parse_instant(args.end, workspace.usecase)
    window = TimeWindow(start or extent.start, end or extent.end)
    with progress("history") as bar:
        counts = load_history(
            source,
            window,
            workspace.store,
            workspace.usecase,
            parse_instant(args.as_of, workspace.usecase),
            progress=bar,
            bound=declared_bound(workspace),
        )
    data = {
        "events": counts.events,
        "repeated": counts.repeated,
        "labels": counts.labels,
        "quarantined": counts.quarantined,
    }
    data |= {"future": counts.future}
    text = (
        f"{counts.events} events and {counts.labels} labels are new in the log; {counts.quarantined} rows were refused"
    )
    if counts.future:
        text += f", {counts.future} of them because they are dated in the future"
    for holder in services_in(home):
        text += f"\n{holder} filled its windows when it started and counts none of this yet: start it again"
    return CommandResult(data | {"start": window.start, "end": window.end}, text)
