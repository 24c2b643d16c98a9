"""The parser of ``incumbent``: groups, examples, and the nearest word for one that does not exist."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from flows.commands.catalogue import COMMANDS, GROUPS, examples_of

_SIMILAR = 0.6
_NEGATIVE = re.compile(r"-\.?\d")


class CommandParser(argparse.ArgumentParser):
    """An argument parser that answers a misspelt word with one sentence and the nearest word there is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def format_help(self) -> str:
        """Help with examples at its end."""
        words = self.prog.split()[1:]
        self.epilog = "\n  ".join(["examples:", *examples_of(" ".join(words))]) if words else self.epilog
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """End with code 2 and one sentence; long usage lines stay in the help."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(choice) for choice in action.choices]
        hint = nearest(str(value), names)
        if not isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(names)}{hint}")
        if self.prog == "incumbent":
            self.error(f"{value}: no such command{hint}")
        self.error(f"{value}: no such action{hint or '; there are ' + ', '.join(names)}")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Read the words of a command line; ends with code 2 where they make no command.

        Unknown options are looked for first: argparse names what is missing, which often is the word that was misspelt.
        """
        chosen = self._chosen(words)
        options, rest = self.parse_known_args(list(words))
        if rest:
            chosen.error(f"{' '.join(rest)}: more than this command takes")
        return options

    def _chosen(self, words: Sequence[str]) -> CommandParser:
        """The parser of the command, or of its action, that some words name; ends at an option that it lacks."""
        parser: CommandParser = self
        for word in words:
            if word == "--" or any(action.nargs == argparse.REMAINDER for action in parser._actions):
                break
            if not word.startswith("-"):
                parser = parser._sub_parser(word) or parser
            elif not parser._has_option(word):
                name = word.partition("=")[0]
                hint = nearest(name, [o for o in parser._option_string_actions if o.startswith("--")])
                parser.error(f"{name}: no such option{hint or parser._options_come_later()}")
        return parser

    def _options_come_later(self) -> str:
        return "; options stand behind the command, as in: incumbent status --json" if self.prog == "incumbent" else ""

    def _sub_parser(self, word: str) -> CommandParser | None:
        subs = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        return subs[0].choices.get(word) if subs else None

    def _has_option(self, word: str) -> bool:
        """Whether a word is an option, the beginning of one, or a value that only looks like one."""
        if word == "-" or " " in word or _NEGATIVE.match(word):
            return True
        name = word.partition("=")[0]
        options = self._option_string_actions
        return any(o.startswith(name) for o in options) or (not name.startswith("--") and name[:2] in options)


def nearest(word: str, words: Iterable[str]) -> str:
    """The end of a sentence that names the nearest of some words; empty where none is near."""
    bare = {name.lstrip("-"): name for name in words}
    similar = get_close_matches(word.lstrip("-").lower(), bare, 1, _SIMILAR)
    return f"; did you mean {bare[similar[0]]}?" if similar else ""


def make_parser(version: str) -> CommandParser:
    """Make the parser of all commands, each still without arguments of its own.

    Args:
        version: printed by ``--version``.

    Returns:
        The parser; the sub-parser of a command is found by :func:`sub_parser`.
    """
    parser = CommandParser(
        prog="incumbent", usage="incumbent [-h] [--version] COMMAND ...", description=_groups(),
        epilog="incumbent COMMAND --help shows its options and examples.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=version)
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(prog="incumbent", dest="command", help=argparse.SUPPRESS)
    for name, command in COMMANDS.items():
        commands.add_parser(name, description=command.line[0].upper() + command.line[1:] + ".")
    return parser


def sub_parser(parser: CommandParser, name: str) -> CommandParser:
    """The parser of one command.

    Raises:
        KeyError: there is no such command.
    """
    found = parser._sub_parser(name)
    if found is None:
        raise KeyError(name)
    return found


def _groups() -> str:
    """The commands, grouped by what people want, in lines that fit the terminal."""
    width = max(40, shutil.get_terminal_size().columns - 2)
    indent = max(map(len, COMMANDS)) + 4
    parts = ["Champion/challenger operations for risk models."]
    for title, commands in GROUPS.items():
        lines = [
            textwrap.fill(command.line, width, initial_indent=f"  {name}".ljust(indent), subsequent_indent=" " * indent)
            for name, command in commands.items()
        ]
        parts.append("\n".join([title, *lines]))
    return "\n\n".join(parts)
