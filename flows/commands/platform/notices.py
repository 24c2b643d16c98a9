"""``notify``: tell people what happened since the last look, go on telling, or try every target."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

from flows.commands.common import CommandResult, UsageRefused, common_arguments, enter_home
from monitoring.core.text_table import table

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace


_QUIET_S = 60.0


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--follow", action="store_true", help="go on until stopped; `incumbent up` starts one")
    how.add_argument("--test", action="store_true", help="send a test notice to every target, and say what happened")
    how.add_argument("--alive", action="store_true", help="whether one that goes on has looked in the last minute")
    parser.add_argument("--every", type=float, default=5.0, metavar="S", help="seconds between two looks (5)")


def run(args: argparse.Namespace) -> CommandResult:
    """Run the command."""
    if args.every <= 0:
        raise UsageRefused(f"--every is longer than nothing, not {args.every:g}")
    enter_home(args)
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(args.usecase)
    if args.test or args.alive:
        return _test(workspace) if args.test else _alive(workspace)
    return _follow(workspace, args.every) if args.follow else _once(workspace)


def _follow(workspace: Workspace, every: float) -> CommandResult:
    from flows.notify.notifier import Notifier

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for logger_name in ("alembic", "httpx", "httpcore"):
        logging.getLogger(logger_name).setLevel(logging.WARNING)
    stop = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.set())
    Notifier(workspace).follow(stop, every)
    return CommandResult({"stopped": True}, "stopped")


def _alive(workspace: Workspace) -> CommandResult:
    from flows.notify.notifier import PART

    beat = workspace.store.heartbeats.seen(workspace.usecase.name).get(PART)
    if beat is None:
        return CommandResult({"alive": False}, "no notifier has ever looked here", 1)
    alive = beat[1] <= _QUIET_S
    text = f"the notifier looked {beat[1]:.0f} s ago"
    return CommandResult({"alive": alive, "seen_at": beat[0].isoformat()}, text, 0 if alive else 1)


def _once(workspace: Workspace) -> CommandResult:
    from flows.notify.notifier import Notifier

    deliveries = Notifier(workspace).run_once()
    notices = [
        {
            "id": delivery.notice.id,
            "kind": delivery.notice.kind,
            "target": delivery.target,
            "text": delivery.notice.text,
            "problem": delivery.problem,
        }
        for delivery in deliveries
    ]
    failed = sum(1 for delivery in deliveries if delivery.problem)
    rows = [
        (delivery["kind"], delivery["target"], delivery["problem"] or "delivered", delivery["text"])
        for delivery in notices
    ]
    text = table(rows, ("kind", "target", "what happened", "notice")) if rows else "nothing new to tell"
    return CommandResult({"notices": notices, "failed": failed}, text, 1 if failed else 0)


def _test(workspace: Workspace) -> CommandResult:
    from flows.notify.notice import Notice, with_id
    from flows.notify.senders import send
    from flows.notify.targets import all_targets
    from flows.workspace.clock import machine_now

    now = machine_now().isoformat()
    scope = (workspace.settings.env, workspace.usecase.name, workspace.model)
    text = "This is a test: whoever reads it will be told when something happens."
    notice = with_id(Notice("test", *scope, "test", text, now, title="A test notice", since=now), now)
    results: list[dict[str, Any]] = []
    for target in all_targets(workspace.settings, workspace.usecase):
        is_routed = any(route.to == target.name for route in workspace.usecase.notify.routes)
        if not target.configured and not is_routed:
            continue
        results.append({"target": target.name, "variable": target.variable, "problem": send(notice, target)})
    failed = [result for result in results if result["problem"]]
    if not results:
        text = "nobody is told: INCUMBENT_NOTIFY_URL is not set and the use case has no routes; the log alone tells"
        return CommandResult({"targets": [], "failed": 0}, text, 1)
    rows = [(result["target"], result["variable"], result["problem"] or "delivered") for result in results]
    return CommandResult(
        {"targets": results, "failed": len(failed)},
        table(rows, ("target", "variable", "what happened")),
        1 if failed else 0,
    )
