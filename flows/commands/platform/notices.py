"""``notify``: tell people what happened since the last look, go on telling, or try every target."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

from flows.commands.common import Reply, UsageRefused, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.workspace import House


_QUIET_S = 60.0


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--follow", action="store_true", help="go on until stopped; `incumbent up` starts one")
    how.add_argument("--test", action="store_true", help="send a test notice to every target, and say what happened")
    how.add_argument("--alive", action="store_true", help="whether one that goes on has looked in the last minute")
    parser.add_argument("--every", type=float, default=5.0, metavar="S", help="seconds between two looks (5)")


def run(args: argparse.Namespace) -> Reply:
    """Run the command."""
    if args.every <= 0:
        raise UsageRefused(f"--every is longer than nothing, not {args.every:g}")
    enter_home(args)
    from flows.workspace.workspace import open_house

    house = open_house(args.usecase)
    if args.test or args.alive:
        return _test(house) if args.test else _alive(house)
    return _follow(house, args.every) if args.follow else _once(house)


def _follow(house: House, every: float) -> Reply:
    from flows.notify.notifier import Notifier

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for quiet in ("alembic", "httpx", "httpcore"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Notifier(house).follow(stop, every)
    return Reply({"stopped": True}, "stopped")


def _alive(house: House) -> Reply:
    from flows.notify.notifier import PART

    seen = house.store.heartbeats.seen(house.usecase.name).get(PART)
    if seen is None:
        return Reply({"alive": False}, "no notifier has ever looked here", 1)
    alive = seen[1] <= _QUIET_S
    text = f"the notifier looked {seen[1]:.0f} s ago"
    return Reply({"alive": alive, "seen_at": seen[0].isoformat()}, text, 0 if alive else 1)


def _once(house: House) -> Reply:
    from flows.notify.notifier import Notifier

    done = Notifier(house).run_once()
    found = [
        {
            "id": one.notice.id,
            "kind": one.notice.kind,
            "target": one.target,
            "text": one.notice.text,
            "problem": one.problem,
        }
        for one in done
    ]
    failed = sum(1 for one in done if one.problem)
    rows = [(one["kind"], one["target"], one["problem"] or "delivered", one["text"]) for one in found]
    text = table(rows, ("kind", "target", "what happened", "notice")) if rows else "nothing new to tell"
    return Reply({"notices": found, "failed": failed}, text, 1 if failed else 0)


def _test(house: House) -> Reply:
    from flows.notify.notice import Notice, identified
    from flows.notify.senders import send
    from flows.notify.targets import all_targets
    from flows.workspace.clock import machine_now

    now = machine_now().isoformat()
    where = (house.settings.env, house.usecase.name, house.model)
    text = "This is a test: whoever reads it will be told when something happens."
    notice = identified(Notice("test", *where, "test", text, now, title="A test notice", since=now), now)
    found: list[dict[str, Any]] = []
    for target in all_targets(house.settings, house.usecase):
        named = any(route.to == target.name for route in house.usecase.notify.routes)
        if not target.configured and not named:
            continue
        found.append({"target": target.name, "variable": target.variable, "problem": send(notice, target)})
    failed = [one for one in found if one["problem"]]
    if not found:
        text = "nobody is told: INCUMBENT_NOTIFY_URL is not set and the use case has no routes; the log alone tells"
        return Reply({"targets": [], "failed": 0}, text, 1)
    rows = [(one["target"], one["variable"], one["problem"] or "delivered") for one in found]
    return Reply(
        {"targets": found, "failed": len(failed)},
        table(rows, ("target", "variable", "what happened")),
        1 if failed else 0,
    )
