"""``drill``: faults on purpose, in a home of their own; exit code 1 when anything was lost, doubled or mixed."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from flows.commands.common import CommandResult, common_arguments, enter_home
from monitoring.core.text_table import table

_FAULTS = {
    "promotion": ("violations",),
    "log": ("lost", "duplicated", "wrong"),
    "outage": ("lost", "duplicated", "wrong", "failed"),
    "swap": ("failed", "mixed"),
    "rollback": ("failed_otherwise",),
}

GUARDS = ("alert_rate", "errors", "latency", "score_distribution")
"""Guards of the watch that a drill breaks; those of the answers, which must act within a minute."""
SLOWEST_ROLLBACK = 60.0
"""Seconds from a promotion to the first answer by the restored version."""
SLOWEST_SWAP = 2.0
"""Seconds from a change of the alias to the first answer by the new version."""
MANY_FLIPS, UNSEEN_SWAPS = 100, 20
"""From so many changes on, so many must be to versions that the worker has never served."""


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of each drill."""
    names = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    log = names.add_parser("log", help="kill worker and scribe under load; every answered event must be stored once")
    log.add_argument(
        "--database",
        metavar="KIND|URL",
        help="sqlite (default), postgresql for a new server of its own, or the URL of an empty database",
    )
    outage = names.add_parser(
        "outage", help="take the database away under load; answers must go on and nothing be lost"
    )
    outage.add_argument(
        "--database", choices=("sqlite", "postgresql"), default="sqlite", help="locked (default), or a server stopped"
    )
    outage.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long it is away (default 60)")
    swap = names.add_parser("swap", help="change the champion under load; every answer must be by the version it names")
    swap.add_argument("--flips", type=int, default=100, metavar="N", help="role changes (default 100)")
    release = names.add_parser("promotion", help="kill releases after every write, let them meet in every order")
    release.add_argument("--interleavings", type=int, default=1000, metavar="N", help="orders to try (default 1000)")
    release.add_argument("--memory-only", action="store_true", help="leave the MLflow registry out")
    back = names.add_parser("rollback", help="promote a version that harms; the watch must roll it back by itself")
    back.add_argument(
        "--guard",
        choices=(*GUARDS, "all"),
        default=GUARDS[0],
        help=f"what the version breaks: {', '.join(GUARDS)}, or all in turn (default {GUARDS[0]})",
    )
    for subparser in (log, outage, swap, release, back):
        common_arguments(subparser)


def run(args: argparse.Namespace) -> CommandResult:
    """Run one drill; progress goes to standard error."""
    from flows.workspace.processes import end_by_exception
    from flows.workspace.progress import progress

    root = enter_home(args).root / "drills" / args.name
    with contextlib.redirect_stdout(sys.stderr), end_by_exception(), progress(f"drill {args.name}") as bar:
        figures = _drill(args, root, bar.tell)
    faults, missed_limits = sum(figures[name] for name in _FAULTS[args.name]), shortfalls(args.name, figures)
    plain = [(name, value) for name, value in figures.items() if not isinstance(value, dict)]
    return CommandResult(
        figures, "\n".join([table(plain), *_guard_lines(figures), *missed_limits]), 1 if faults or missed_limits else 0
    )


def _guard_lines(figures: dict[str, Any]) -> list[str]:
    """A line for each guard that was drilled."""
    if "guards" not in figures:
        return []
    keys = ("seconds", "seconds_from_harm", "requests", "harmed", "failed_requests", "failed_otherwise")
    rows = [
        (name, ", ".join(guard_figures["fired"]), *(guard_figures[key] for key in keys))
        for name, guard_figures in figures["guards"].items()
    ]
    heads = ("guard", "acted on", "s from promotion", "s from harm", "requests", "harmed", "failed", "otherwise")
    return ["", table(rows, heads)]


def shortfalls(name: str, figures: dict[str, Any]) -> list[str]:
    """What a drill without a lost or mixed answer still fell short of, in sentences."""
    if name == "rollback":
        return [
            f"{guard}: {guard_figures['seconds']} s to the restored version, over {SLOWEST_ROLLBACK:g} s"
            for guard, guard_figures in figures["guards"].items()
            if guard_figures["seconds"] > SLOWEST_ROLLBACK
        ]
    if name != "swap":
        return []
    sentences = []
    if figures["slowest_s"] > SLOWEST_SWAP:
        sentences.append(
            f"the slowest change took {figures['slowest_s']} s, over the {SLOWEST_SWAP} s of the default poll"
        )
    if figures["flips"] >= MANY_FLIPS and figures["unseen"] < UNSEEN_SWAPS:
        sentences.append(f"only {figures['unseen']} changes were to versions that the worker had never served")
    return sentences


def _drill(args: argparse.Namespace, root: Any, tell: Any) -> dict[str, Any]:
    if args.name == "promotion":
        from flows.drills.promotion import drill_promotion

        return drill_promotion(root, tell, interleavings=args.interleavings, mlflow=not args.memory_only)
    if args.name == "rollback":
        from flows.drills.rollback import drill_rollback

        return drill_rollback(root, tell, guards=GUARDS if args.guard == "all" else (args.guard,))
    if args.name == "log":
        from flows.drills.load.temporary_postgresql import open_database
        from flows.drills.prediction_log import drill_log

        with open_database(args.database) as url:
            return drill_log(root, tell, database_url=url)
    if args.name == "outage":
        from flows.drills.outage import drill_outage

        return drill_outage(root, tell, seconds=args.seconds, postgresql=args.database == "postgresql")
    from flows.drills.swap import drill_swap

    return drill_swap(root, tell, flips=args.flips)
