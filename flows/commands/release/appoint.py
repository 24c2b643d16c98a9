"""``appoint`` and ``dismiss``: who is under comparison and who waits, by a person's word, in the chain."""

from __future__ import annotations

import argparse

from flows.commands.common import CommandResult, UsageRefused, common_arguments, enter_home, parse_instant


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    common_arguments(parser, as_of=True)
    parser.add_argument("--role", choices=("challenger", "candidate"), required=True, help="which role")
    parser.add_argument("--reason", required=True, help="why, in a few words; it is kept")
    parser.set_defaults(appoints=name == "appoint")
    if name == "appoint":
        parser.add_argument("version", metavar="VERSION", help="number of a registered version that passed its gates")
        parser.add_argument("--evict", action="store_true", help="also where another version holds the role")


def run(args: argparse.Namespace) -> CommandResult:
    """Run one command."""
    enter_home(args)
    from bentos.promotion.promote import appoint, appoint_next_candidate, dismiss
    from flows.workspace.clock import business_time
    from flows.workspace.workspace import open_workspace

    if not args.reason.strip():
        raise UsageRefused("--reason must say why, in a few words")
    workspace = open_workspace(args.usecase)
    context = workspace.release_context()
    request = workspace.request(args.reason, business_time(parse_instant(args.as_of, workspace.usecase)))
    if args.appoints:
        label = f"{workspace.model}/{args.version}"
        decision = appoint(context, args.version, args.role, request, evict=args.evict)
        text = f"{label} is @{args.role}" if decision is not None else f"{label} was @{args.role} already"
    else:
        decision = dismiss(context, args.role, request)
        text = f"@{args.role} is vacant" if decision is not None else f"nobody was @{args.role}"
        if args.role == "challenger" and appoint_next_candidate(context, request) is not None:
            text += "; the candidate has taken its turn"
    return CommandResult(
        {"done": decision is not None, "decision": None if decision is None else decision.id, "text": text}, text
    )
