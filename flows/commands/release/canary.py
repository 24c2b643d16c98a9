"""``canary``: who answers what share of the traffic."""

from __future__ import annotations

import argparse
import logging
import sys

from flows.commands.common import (
    CommandResult,
    common_arguments,
    enter_home,
    format_outcome,
    parse_instant,
    run_flow,
    usecase_of,
)


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser, as_of=True)
    parser.add_argument("action", nargs="?", choices=("status",), help="only show how the arms stand")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--share", type=float, metavar="PERCENT", help="share of the entities for the challenger")
    what.add_argument("--arms", metavar="ARMS", help="named arms, for example A=champion:50,B=challenger:50")
    what.add_argument("--ramp", metavar="STEPS", help="percentages to step through, for example 1,5,25,50,100")
    what.add_argument("--off", action="store_true", help="the champion answers all from now on")
    what.add_argument("--look", action="store_true", help="look once after the ramp that runs")
    what.add_argument("--resume", action="store_true", help="stay with the ramp that runs until it is over")
    parser.add_argument("--every", default="30m", metavar="TIME", help="shortest time on a step; 30m by default")
    parser.add_argument("--guard", metavar="CONDITIONS", help="for example error_rate<0.01,alert_rate_ratio<1.5")
    parser.add_argument("--entity", metavar="COLUMN", help="column whose values stay in their arm")
    parser.add_argument("--once", action="store_true", help="begin the ramp and leave; later looks go on with it")
    parser.add_argument("--reason", default="", help="why, in a few words, for the record")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the command."""
    as_of = parse_instant(args.as_of, usecase_of(args))
    routings = (args.share, args.arms, args.ramp)
    if args.action == "status" or not (any(w is not None for w in routings) or args.off or args.look or args.resume):
        return _status(args)
    from monitoring.rollout.ramp_guard import DEFAULT_GUARD

    # A ramp runs for hours: each of its steps is told at once, beside the answer at its end.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("incumbent.ramp").setLevel(logging.INFO)
    return run_flow(
        args, "canary", "canary",
        as_of=as_of, share=args.share, arms=args.arms, ramp=args.ramp, every=args.every,
        guard=DEFAULT_GUARD if args.guard is None else args.guard, off=args.off, entity=args.entity,
        reason=args.reason, stay=args.resume or (args.ramp is not None and not args.once),
    )  # fmt: skip


def _status(args: argparse.Namespace) -> CommandResult:
    enter_home(args)
    from flows.steps.comparison.routing_change import routing_status
    from flows.views.release import canary_view
    from flows.workspace.clock import business_time
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(args.usecase)
    as_of = business_time(parse_instant(args.as_of, workspace.usecase))
    outcome = canary_view(routing_status(workspace, as_of), as_of)
    return CommandResult(outcome.to_json(), format_outcome(outcome))
