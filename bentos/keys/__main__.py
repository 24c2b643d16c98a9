"""``python -m bentos.keys add | list | revoke``: works inside the image; ``incumbent keys`` is the same."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bentos.errors import IncumbentError, KeyFileError
from bentos.keys import SCOPES, Key, add_key, read_keys, revoke_key
from monitoring.core.text_table import table


@dataclass(frozen=True)
class CommandOutput:
    """What a command found, for machines and for people."""

    data: dict[str, Any]
    text: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is done, 1 is refused with a reason, 2 is wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m bentos.keys", description="API keys of the service.")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object")
    configure(parser, shared)
    options = parser.parse_args(argv)
    try:
        output = run(options, datetime.now(UTC))
    except IncumbentError as exc:
        print(f"refused: {exc}", file=sys.stderr)  # noqa: T201  # a command talks to people
        return 1
    print(json.dumps(output.data) if options.json else output.text)  # noqa: T201  # a command talks to people
    return 0


def configure(parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """Add the commands; ``shared`` holds the arguments of each."""
    commands = parser.add_subparsers(required=True, metavar="add|list|revoke", dest="keys_command")
    add = commands.add_parser("add", parents=[shared], help="make a key; its secret is shown once")
    add.add_argument("--owner", required=True, help="the person or system that will hold it")
    add.add_argument(
        "--scope", required=True, action="append", choices=SCOPES, metavar="SCOPE", help=f"{', '.join(SCOPES)}; repeat"
    )
    add.add_argument("--expires", metavar="TIME", help="a duration such as 90d, or an ISO time with an offset")
    commands.add_parser("list", parents=[shared], help="show every key, without secrets")
    revoke = commands.add_parser("revoke", parents=[shared], help="refuse a key from now on")
    revoke.add_argument("id", help="the part of the key between inc_ and the next _")


def run(options: argparse.Namespace, now: datetime) -> CommandOutput:
    """Run the chosen command on the file of ``INCUMBENT_KEYS``.

    Raises:
        KeyFileError: refused, with the reason.
    """
    from bentos.settings import read_settings  # pydantic: help answers without it

    path = read_settings().keys_file
    if options.keys_command == "add":
        return _add(path, options, now)
    if options.keys_command == "revoke":
        key = revoke_key(path, options.id, now)
        return CommandOutput(
            _key_row(key, now), f"key {key.id} of {key.owner} is revoked; services refuse it within a second"
        )
    keys = read_keys(path) if path.exists() else []
    rows = [(k.id, k.state(now), ",".join(k.scopes), _day(k.expires), k.owner) for k in keys]
    text = table(rows, ("id", "state", "scopes", "expires", "owner")) if rows else f"{path} holds no key"
    return CommandOutput({"file": str(path), "keys": [_key_row(key, now) for key in keys]}, text)


def _add(path: Path, options: argparse.Namespace, now: datetime) -> CommandOutput:
    key, token = add_key(path, options.owner, options.scope, now, _moment(options.expires, now))
    text = f"{token}\n\nkey {key.id} of {key.owner}, scopes {', '.join(key.scopes)}; it cannot be shown again"
    return CommandOutput({**_key_row(key, now), "key": token, "file": str(path)}, text)


def _key_row(key: Key, now: datetime) -> dict[str, Any]:
    entry = key.to_json()
    del entry["sha256"]
    return entry | {"state": key.state(now)}


def _day(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d}"


def _moment(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    from monitoring.core.durations import parse_duration  # pydantic, as above

    try:
        return now + parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise KeyFileError("expires: a duration such as 90d, or an ISO time with an offset, such as 2027-01-01T00:00Z")
    return moment.astimezone(UTC)


if __name__ == "__main__":
    sys.exit(main())
