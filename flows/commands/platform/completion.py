"""``completion``: what makes bash, zsh or fish complete the words of ``incumbent``."""

from __future__ import annotations

import argparse

from flows.commands.common import CommandResult, common_arguments


def configure(_: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that reads it")
    common_arguments(parser)


def run(args: argparse.Namespace) -> CommandResult:
    """Print the lines that a shell reads at its start."""
    from argcomplete.shell_integration import shellcode

    script = shellcode(["incumbent"], shell=args.shell)
    return CommandResult({"shell": args.shell, "script": script}, script)
