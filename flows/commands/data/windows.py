"""``windows load``: events and labels that come in by other roads than HTTP."""

from __future__ import annotations

import argparse

from flows.commands.common import Reply, common_arguments, enter_home, instant, source_arguments


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    action = actions.add_parser("load", help="import events and labels of a source into the log as history")
    common_arguments(action, as_of=True)
    source_arguments(action)
    action.add_argument("--start", metavar="TIME", help="first event time; the start of the source by default")
    action.add_argument("--end", metavar="TIME", help="event time to stop before; the end of the source by default")


def run(args: argparse.Namespace) -> Reply:
    """Run the chosen command."""
    home = enter_home(args)
    from flows.sources import open_source
    from flows.stack.occupants import services_in
    from flows.steps.data.import_history import load_history
    from flows.workspace.progress import progress
    from flows.workspace.workspace import declared_bound, open_house
    from monitoring.core.calendar import TimeWindow

    house = open_house(args.usecase)
    place = {"path": args.path, "url": args.url, "table": args.table}
    source = open_source(house.usecase, args.source, store=house.store, **place)
    extent = source.extent()
    start, end = instant(args.start, house.usecase), instant(args.end, house.usecase)
    window = TimeWindow(start or extent.start, end or extent.end)
    with progress("history") as bar:
        done = load_history(
            source, window, house.store, house.usecase, instant(args.as_of, house.usecase), progress=bar,
            bound=declared_bound(house),
        )  # fmt: skip
    data = {"events": done.events, "repeated": done.repeated, "labels": done.labels, "quarantined": done.quarantined}
    data |= {"future": done.future}
    text = f"{done.events} events and {done.labels} labels are new in the log; {done.quarantined} rows were refused"
    if done.future:
        text += f", {done.future} of them because they are dated in the future"
    for holder in services_in(home):
        text += f"\n{holder} filled its windows when it started and counts none of this yet: start it again"
    return Reply(data | {"start": window.start, "end": window.end}, text)
