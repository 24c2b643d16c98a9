"""``threshold``: another threshold for a while, by the keys of two people."""

from __future__ import annotations

import argparse

from flows.commands.common import Reply, UsageRefused, common_arguments, enter_home


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser)
    parser.add_argument("--set", type=float, dest="value", metavar="X", help="flag calibrated scores from X on")
    parser.add_argument("--until", metavar="T", help="ISO time with a zone, or a duration such as 4h; then it ends")
    parser.add_argument("--lift", action="store_true", help="end the order now; one key is enough")
    parser.add_argument("--reason", default="", help="why, in a few words; required")
    parser.add_argument(
        "--key-file", action="append", default=[], metavar="FILE", help="a file with one person's key; repeat for two"
    )


def run(args: argparse.Namespace) -> Reply:
    """Order or lift a threshold; without either, say what is in force."""
    enter_home(args)
    from bentos.keys import KeyRing
    from bentos.release_cli import threshold_command
    from flows.house import machine_now, open_house

    house = open_house(args.usecase)
    if args.value is None and not args.lift:
        order = house.store.orders.standing(house.model).threshold
        if order is None or order.until <= machine_now():
            return Reply({"order": None}, "no threshold order is in force")
        told = {"value": order.value, "version": order.version, "until": order.until.isoformat()}
        told |= {"owners": list(order.owners), "reason": order.reason}
        return Reply({"order": told}, f"{order.value} for version {order.version} until {order.until.isoformat()}")
    if args.value is not None and args.until is None:
        raise UsageRefused("--set needs --until: an order without an end is no order")
    made = threshold_command(
        house.store, house.usecase, house.model, KeyRing.load(house.settings.keys_file), value=args.value,
        until=args.until, lift=args.lift, reason=args.reason, files=args.key_file, actor=house.actor,
    )  # fmt: skip
    return Reply(made, f"{made['kind']} for version {made['version']}; decision {made['decision']}")
