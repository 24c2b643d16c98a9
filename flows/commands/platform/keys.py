"""``keys``: make, list and revoke API keys; ``python -m bentos.keys`` is the same inside the image."""

from __future__ import annotations

import argparse

from flows.commands.common import CommandResult, common_arguments


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    from bentos.keys.__main__ import configure as add_commands

    shared = argparse.ArgumentParser(add_help=False)
    common_arguments(shared)
    add_commands(parser, shared)


def run(args: argparse.Namespace) -> CommandResult:
    """Run the chosen command."""
    from datetime import UTC, datetime

    from bentos.keys import __main__ as keys_cli

    result = keys_cli.run(args, datetime.now(UTC))
    return CommandResult(result.data, result.text)
