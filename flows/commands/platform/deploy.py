"""``deploy``: the deployments of ``prefect.yaml`` on a Prefect server."""

from __future__ import annotations

import argparse
import os

from flows.commands.common import CommandResult, common_arguments
from monitoring.core.text_table import table


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser)


def run(args: argparse.Namespace) -> CommandResult:
    """Deploy, and say what became of each deployment."""
    from flows.workspace.installation import open_home

    home = open_home(**({"usecase": args.usecase} if args.usecase else {}))
    os.environ["INCUMBENT_USECASE"] = home.settings.usecase
    if home.live_addresses():  # else the home is perhaps a path of another machine: nothing is made in it
        home.enter()
    from flows.stack.deployments import deploy

    results = deploy()
    return CommandResult(results, table(list(results.items()), ("deployment", "")))
