"""``serve``, ``scribe`` and ``exporter``: the processes of the image, in the foreground."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from flows.commands.common import CommandResult, UsageRefused, common_arguments, enter_home


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one command."""
    common_arguments(parser)
    if name in ("serve", "exporter"):
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument(
            "--port", type=int, default={"serve": 3000, "exporter": 9109}[name], help="port to listen on"
        )


def run(args: argparse.Namespace) -> CommandResult:
    """Replace this process by the one that is meant, so that signals reach it directly."""
    from flows.stack.local_stack import SERVICE, program
    from flows.workspace.installation import PROJECT

    home = enter_home(args)
    environment = home.environment()
    if args.command == "scribe":
        os.execve(sys.executable, [sys.executable, "-m", "bentos.scribe"], environment)  # noqa: S606
    if args.command == "exporter":
        address = ["--host", args.host, "--port", str(args.port)]
        os.execve(sys.executable, [sys.executable, "-m", "monitoring.exporter", *address], environment)  # noqa: S606
    require_free(args.host, args.port)
    words = ["serve", SERVICE, "--host", args.host, "--port", str(args.port), "--working-dir", str(PROJECT)]
    os.execve(program("bentoml"), ["bentoml", *words], environment)  # noqa: S606


def require_free(host: str, port: int) -> None:
    """Say it in a sentence where another process listens on the port; BentoML would show a traceback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            reason = os.strerror(exc.errno) if exc.errno else str(exc)
            raise UsageRefused(f"cannot listen on {host}:{port}: {reason}; choose another port with --port") from exc
