"""``mlflow``: MLflow's own pages on the models and runs of a home."""

from __future__ import annotations

import argparse
import os
import sys

from flows.commands.common import CommandResult, common_arguments, home_of


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    common_arguments(parser)
    parser.add_argument("--demo", action="store_true", help="the demo's home instead of your own")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on")


def run(args: argparse.Namespace) -> CommandResult:
    """Replace this process by the server, so that signals reach it directly."""
    from flows.commands.platform.serve import require_free
    from flows.workspace.logins import make_logins

    home = home_of(args)
    make_logins(home.root)
    require_free(args.host, args.port)
    sys.stderr.write(f"MLflow: http://{args.host}:{args.port}  (its login: incumbent login{' --demo' * args.demo})\n")
    argv = [sys.executable, "-m", "flows.workspace.mlflow_server", "--host", args.host, "--port", str(args.port)]
    os.execve(sys.executable, argv, home.environment())  # noqa: S606
