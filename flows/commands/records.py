"""``status`` and ``audit``: what is, and how it came about."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from flows.commands.common import Reply, common_arguments, enter_home, instant, table

if TYPE_CHECKING:
    from flows.house import House


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    if name == "status":
        common_arguments(parser, as_of=True)
        return
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, line in (("show", "list the decisions, oldest first"), ("verify", "recompute the chain of decisions")):
        sub = actions.add_parser(action, help=line)
        common_arguments(sub)
        if action == "show":
            sub.add_argument("--limit", type=int, default=50, help="newest rows to show; 50 by default")


def run(args: argparse.Namespace) -> Reply:
    """Run the chosen command."""
    enter_home(args)
    from flows.house import open_house

    house = open_house(args.usecase)
    if args.command == "status":
        return _status(house, args)
    return _verify(house) if args.action == "verify" else _show(house, args.limit)


def _status(house: House, args: argparse.Namespace) -> Reply:
    from flows.house import business_time
    from flows.steps.standing import standing

    found = standing(house.store, house.registry, house.usecase, house.model, business_time(_as_of(house, args)))
    return Reply(found.to_json(), table(found.lines()))


def _as_of(house: House, args: argparse.Namespace) -> Any:
    return instant(args.as_of, house.usecase)


def _show(house: House, limit: int) -> Reply:
    decisions = house.store.decisions.list(house.usecase.name, limit=10_000)[-limit:]
    data = [
        {"seq": d.seq, "id": d.id, "kind": d.kind, "actor": d.actor, "at": d.at, "recorded_at": d.recorded_at,
         "payload": d.payload}
        for d in decisions
    ]  # fmt: skip
    rows = [(d.seq, d.id, f"{d.at:%Y-%m-%d %H:%M}", d.kind, d.actor, _short(d.payload)) for d in decisions]
    return Reply(
        {"decisions": data}, table(rows, ("seq", "id", "business time", "kind", "actor", "what")) or "none yet"
    )


def _verify(house: House) -> Reply:
    problems = house.store.decisions.verify()
    text = "\n".join(problems) if problems else "every row is as it was written"
    return Reply({"problems": problems}, text, 1 if problems else 0)


def _short(payload: Any) -> str:
    words = [
        f"{key}={payload[key]}"
        for key in ("role", "version", "from_version", "to_version", "state", "reason")
        if payload.get(key)
    ]
    return " ".join(words)[:80]
