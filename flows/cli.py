"""The ``incumbent`` command.

Each sub-command lives in ``flows/commands`` and is imported only when it is called, so that help
answers at once. Exit codes: 0 done, 1 refused with a reason, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from flows.commands.catalogue import COMMANDS
from flows.commands.parser import CommandParser, make_parser, sub_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        return _complete()
    parser = _parser(words)
    args = parser.parse(words)
    if args.command is None:
        parser.print_help()
        return 0
    return _run(args)


def _parser(words: Sequence[str]) -> CommandParser:
    parser = make_parser(_Version())
    command_name = next((word for word in words if not word.startswith("-")), "")
    if command_name in COMMANDS:
        _import_command(COMMANDS[command_name].module).configure(command_name, sub_parser(parser, command_name))
    return parser


def _complete() -> int:
    """Answer a shell that asks which words may follow; see the command ``completion``."""
    import argcomplete

    words = os.environ.get("COMP_LINE", "").split()[1:]
    argcomplete.autocomplete(_parser(words), always_complete_options="long")
    return 0


def _run(args: argparse.Namespace) -> int:
    from flows.commands.common import CommandResult, UsageRefused, expected_errors, print_reply

    try:
        reply: CommandResult = _import_command(COMMANDS[args.command].module).run(args)
    except expected_errors() as exc:
        if args.debug:
            raise
        print(" ".join([f"incumbent {args.command}: {exc}", *getattr(exc, "__notes__", ())]), file=sys.stderr)
        return 2 if isinstance(exc, UsageRefused) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print_reply(reply, as_json=args.json)
    return reply.code


def _import_command(name: str) -> Any:
    return importlib.import_module(f"flows.commands.{name}")


class _Version(str):
    """Looks the version up only when it is printed."""

    __slots__ = ()

    def __mod__(self, _: object) -> str:
        from importlib.metadata import version

        return f"incumbent {version('incumbent')}"


if __name__ == "__main__":
    sys.exit(main())
