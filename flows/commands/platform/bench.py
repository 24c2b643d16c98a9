"""``bench``: says where the benches went; they are part of the source, not of the installed product."""

from __future__ import annotations

import argparse

from flows.commands.common import CommandResult, UsageRefused, common_arguments


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Take whatever the command took before, so that an old line is answered with the new one."""
    common_arguments(parser)
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="NAME", help="name and options of a bench")


def run(args: argparse.Namespace) -> CommandResult:
    """Name the command that measures now."""
    words = " ".join(args.rest) or "NAME --json"
    raise UsageRefused(f"benches run from a checkout of the source; there type: python -m tests.bench {words}")
