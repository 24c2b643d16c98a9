"""How a person gives a key to a command: a file, the environment, or a prompt. Never an argument of the command."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bentos.errors import KeyMissing

ENVIRONMENT = ("INCUMBENT_KEY", "INCUMBENT_KEY_2")
"""Variables that are looked at where no file is named."""


def tokens(files: Sequence[str], count: int) -> list[str]:
    """So many keys, from the files first, then the environment, then a prompt on a terminal.

    Raises:
        KeyMissing: too few were given, or a file cannot be read.
    """
    keys = [_read(Path(file)) for file in files]
    keys += [value for name in ENVIRONMENT if (value := os.environ.get(name, "").strip())][: count - len(keys)]
    while len(keys) < count and sys.stdin.isatty():
        keys.append(getpass.getpass(f"key of person {len(keys) + 1} of {count}: ").strip())
    if len(keys) < count or not all(keys):
        raise KeyMissing(
            f"{count} key{'s' if count > 1 else ''} of scope 'approve' needed, {len(keys)} given: "
            f"name files with --key-file, or set {' and '.join(ENVIRONMENT[:count])}"
        )
    return keys


def _read(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as exc:
        raise KeyMissing(f"{file}: the key cannot be read ({type(exc).__name__})") from exc
    if len(lines) != 1:
        raise KeyMissing(f"{file}: a key file of a person holds one key and nothing else")
    return lines[0]
