"""``status``: what is, and how it goes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from flows.commands.common import Reply, common_arguments, enter_home, instant, table

if TYPE_CHECKING:
    from flows.house import House


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser, as_of=True)


def run(args: argparse.Namespace) -> Reply:
    """Run the command."""
    enter_home(args)
    from flows.house import open_house

    return _status(open_house(args.usecase), args)


def _status(house: House, args: argparse.Namespace) -> Reply:
    from flows.house import business_time
    from flows.steps.standing import standing

    found = standing(house.store, house.registry, house.usecase, house.model, business_time(_as_of(house, args)))
    return Reply(found.to_json(), table(found.lines()))


def _as_of(house: House, args: argparse.Namespace) -> Any:
    return instant(args.as_of, house.usecase)
