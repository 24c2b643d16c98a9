"""What all sub-commands share: arguments, replies, the errors that need no traceback."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bentos.usecase import UseCase


@dataclass(frozen=True)
class Reply:
    """What a command found.

    Attributes:
        data: the answer for machines, plain JSON.
        text: the answer for people; the data itself where nothing else is given.
        code: exit code: 0 done, 1 refused with a reason.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    code: int = 0


def common_arguments(parser: argparse.ArgumentParser, *, as_of: bool = False) -> None:
    """Arguments of every command: the use case, JSON output, tracebacks."""
    parser.add_argument("--usecase", metavar="NAME|FILE", help="a built-in use case or a TOML file (INCUMBENT_USECASE)")
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


def expected_errors() -> tuple[type[Exception], ...]:
    """The bases of the rooms' error trees: refusals with a text that is safe to show."""
    from bentos.errors import IncumbentError
    from flows.errors import FlowError
    from monitoring.errors import MonitoringError

    return (FlowError, IncumbentError, MonitoringError, UsageRefused)


class UsageRefused(Exception):
    """An argument has a value that cannot be used; the text says what is allowed."""


def show(reply: Reply, *, as_json: bool) -> None:
    """Print a reply on standard output, for people or as one JSON object."""
    if as_json or not reply.text:
        text = json.dumps(reply.data, indent=None if as_json else 2, default=str, ensure_ascii=False, allow_nan=False)
    else:
        text = reply.text
    sys.stdout.write(text.rstrip("\n") + "\n")


def instant(text: str | None, usecase: UseCase) -> datetime | None:
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


def table(rows: Sequence[Sequence[object]], headers: Sequence[str] = ()) -> str:
    """Columns of text, aligned; numbers to the right."""
    lines = [[_cell(value) for value in row] for row in rows]
    texts = ([list(headers)] if headers else []) + lines
    if not texts:
        return ""
    widths = [max(len(row[i]) for row in texts) for i in range(len(texts[0]))]
    numeric = [bool(rows) and all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(widths))]
    shown = ["  ".join(_pad(c, w, n) for c, w, n in zip(row, widths, numeric, strict=True)).rstrip() for row in texts]
    if headers:
        shown.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(shown)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _pad(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
