"""What all sub-commands share: arguments, replies, the errors that need no traceback."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from monitoring.core.text_table import table

if TYPE_CHECKING:
    from bentos.settings import Settings
    from bentos.usecase.definition import UseCase
    from flows.workspace.installation import Home
    from flows.workspace.outcome import FlowOutcome


@dataclass(frozen=True)
class CommandResult:
    """What a command found.

    Attributes:
        data: the answer for machines, plain JSON.
        text: the answer for people; the data itself where nothing else is given.
        code: exit code: 0 done, 1 refused with a reason.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    code: int = 0


def common_arguments(parser: argparse.ArgumentParser, *, as_of: bool = False, several: bool = False) -> None:
    """Arguments of every command: the use case (or ``several``, as a list), JSON output, tracebacks."""
    parser.add_argument(
        "--usecase", metavar="NAME|FILE", action="append" if several else "store",
        help=f"a built-in use case or a TOML file (INCUMBENT_USECASE){'; may be given again' if several else ''}",
    )  # fmt: skip
    if as_of:
        parser.add_argument(
            "--as-of", metavar="TIME", help="business time of the run: ISO date or time; now by default"
        )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def source_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that choose where events are read."""
    parser.add_argument("--source", choices=("simulator", "csv", "parquet", "sql", "log"), help="kind of source")
    parser.add_argument("--path", help="file, folder or URL of a csv or parquet source")
    parser.add_argument("--url", help="SQLAlchemy URL of a sql source")
    parser.add_argument("--table", help="table or view of a sql source")


def run_flow(args: argparse.Namespace, module: str, title: str, **parameters: object) -> CommandResult:
    """Run one flow in this process, with a bar, and turn what it found into a reply.

    Args:
        args: holds ``usecase``.
        module: module and flow have the same name, for example ``drift``.
        title: of the bar.
        parameters: of the flow; ``usecase`` is added.
    """
    import importlib

    enter_home(args)
    from flows.runs.run_record import call
    from flows.workspace.progress import progress

    flow = getattr(importlib.import_module(f"flows.{module}"), module)
    with progress(title):
        outcome = call(flow, usecase=args.usecase, **parameters)
    return CommandResult(outcome.to_json(), format_outcome(outcome), 1 if outcome.status == "refused" else 0)


def enter_home(args: argparse.Namespace) -> Home:
    """Move this process into ``INCUMBENT_HOME`` before any library looks for its own home."""
    from flows.workspace.roster import open_named_home

    home = open_named_home(args.usecase, tell=print_notice)
    args.usecase = home.settings.usecase if args.usecase else args.usecase
    home.enter()
    ensure_hash_key(home.settings)
    return home


def home_of(args: argparse.Namespace) -> Home:
    """The home that a command is about, entered: one's own, or the demo's."""
    from flows.stack.local_stack import demo_home
    from flows.workspace.installation import open_home

    if not args.demo:
        return enter_home(args)
    home = demo_home(open_home(**({"usecase": args.usecase} if args.usecase else {})))
    home.enter()
    return home


def print_notice(sentence: str) -> None:
    """Write a sentence for people on standard error."""
    sys.stderr.write(f"{sentence}\n")


def ensure_hash_key(settings: Settings) -> None:
    """Make the key of hashed ids where the use case needs one and there is none; says so on standard error."""
    from bentos.errors import UseCaseError
    from bentos.schema.id_hashing import make_hash_key
    from bentos.usecase.loading import load_usecase

    try:
        needs_key = load_usecase(settings.usecase).privacy.hashed
    except UseCaseError:
        return  # whoever needs the use case says what is wrong with it
    if needs_key and (key_file := make_hash_key(settings)) is not None:
        sys.stderr.write(f"made {key_file}: every process needs this key, and without it history matches nobody\n")


def format_outcome(outcome: FlowOutcome) -> str:
    """An outcome as lines of text: the sentence, the figures, the checks."""
    parts = [outcome.summary]
    if outcome.figures:
        parts.append(table([(name, value) for name, value in outcome.figures]))
    if outcome.checks:
        rows = [(c.name, c.value, c.threshold, c.status, c.detail) for c in outcome.checks]
        parts.append(table(rows, ("check", "value", "limit", "status", "detail")))
    if outcome.appendix:
        parts.append(
            "appendix: not used in the decision\n" + table([(name, value) for name, value in outcome.appendix])
        )
    if outcome.report is not None:
        parts.append(f"report: {outcome.report}")
    return "\n\n".join(parts)


def usecase_of(args: argparse.Namespace) -> UseCase:
    """The use case that is meant: ``--usecase``, else ``INCUMBENT_USECASE``."""
    from bentos.settings import read_settings
    from bentos.usecase.loading import load_usecase

    return load_usecase(args.usecase or read_settings().usecase)


def expected_errors() -> tuple[type[Exception], ...]:
    """The bases of the rooms' error trees: refusals with a text that is safe to show."""
    from bentos.errors import IncumbentError
    from flows.errors import FlowError
    from monitoring.errors import MonitoringError

    return (FlowError, IncumbentError, MonitoringError, UsageRefused)


class UsageRefused(Exception):
    """An argument has a value that cannot be used; the text says what is allowed."""


def print_reply(reply: CommandResult, *, as_json: bool) -> None:
    """Print a reply on standard output, for people or as one JSON object."""
    if as_json or not reply.text:
        text = json.dumps(reply.data, indent=None if as_json else 2, default=str, ensure_ascii=False, allow_nan=False)
    else:
        text = reply.text
    try:
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has enough (| head): what Python flushes at its end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse_instant(text: str | None, usecase: UseCase) -> datetime | None:
    """An ISO time; a plain date is the first instant of that business day.

    Raises:
        UsageRefused: for anything else.
    """
    if text is None:
        return None
    try:
        if len(text) == len("2026-01-01"):
            return usecase.calendar.start_of(date.fromisoformat(text))
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UsageRefused(f"{text!r} is no ISO date or time, such as 2026-03-01 or 2026-03-01T12:00:00Z") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=usecase.zone)
