"""``appoint`` and ``dismiss``: who is under comparison and who waits, by a person's word, in the chain."""

from __future__ import annotations

import argparse
from typing import Any

from flows.commands.common import Reply, UsageRefused, common_arguments, enter_home, instant


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    common_arguments(parser, as_of=True)
    parser.add_argument("--role", choices=("challenger", "candidate"), required=True, help="which role")
    parser.add_argument("--reason", required=True, help="why, in a few words; it is kept")
    parser.set_defaults(appoints=name == "appoint")
    if name == "appoint":
        parser.add_argument("version", metavar="VERSION", help="number of a registered version that passed its gates")
        parser.add_argument("--evict", action="store_true", help="also where another version holds the role")


def run(args: argparse.Namespace) -> Reply:
    """Run one command."""
    enter_home(args)
    from bentos.promotion.promote import appoint, dismiss, take_turn
    from bentos.registry.ports import ModelRef
    from flows.workspace.clock import business_time
    from flows.workspace.workspace import open_house

    if not args.reason.strip():
        raise UsageRefused("--reason must say why, in a few words")
    house = open_house(args.usecase)
    now = business_time(instant(args.as_of, house.usecase))
    named: dict[str, Any] = {"usecase": house.usecase, "actor": house.actor, "now": now}
    if args.appoints:
        ref = ModelRef(house.model, args.version)
        done = appoint(
            house.registry, house.store, ref, args.role, reason=args.reason, replace=args.evict, **named
        )  # fmt: skip
        text = f"{ref.label} is @{args.role}" if done is not None else f"{ref.label} was @{args.role} already"
    else:
        done = dismiss(house.registry, house.store, house.model, args.role, reason=args.reason, **named)
        text = f"@{args.role} is vacant" if done is not None else f"nobody was @{args.role}"
        if args.role == "challenger" and take_turn(house.registry, house.store, house.model, **named) is not None:
            text += "; the candidate has taken its turn"
    return Reply({"done": done is not None, "decision": None if done is None else done.id, "text": text}, text)
