"""Which files a path names: one file, a folder, a pattern, or any of them behind an fsspec URL."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_plus

from flows.errors import NoData, SourceOptionsError, SourceUnavailable


def list_files(address: Address, suffixes: tuple[str, ...]) -> tuple[Any, list[str]]:
    """The fsspec file system and the files of a path, sorted by name.

    A folder gives the files in it (at any depth) that end in one of ``suffixes``, without those whose
    name or folder begins with ``_`` or ``.``, which writers use for their own marks.

    Raises:
        SourceOptionsError: the path does not exist or its URL scheme is unknown.
        NoData: the folder holds no such file.
        SourceUnavailable: the file system cannot be reached.
    """
    import fsspec

    with translate_errors(address):
        try:
            system, path = fsspec.core.url_to_fs(address.value)
        except (ValueError, ImportError) as exc:
            raise SourceOptionsError(f"{address.shown}: no such kind of path ({address.scrub(str(exc))})") from None
        if any(c in path for c in "*?[") and not system.exists(path):
            files = sorted(system.glob(path))
        elif system.isdir(path):
            files = sorted(f for f in system.find(path) if f.endswith(suffixes) and not _is_mark(f[len(path) :]))
        elif system.exists(path):
            return system, [path]
        else:
            raise SourceOptionsError(f"{address.shown}: no such file or folder")
    if not files:
        raise NoData(f"{address.shown}: no file that ends in {' or '.join(suffixes)}")
    return system, files


@contextmanager
def translate_errors(address: Address) -> Iterator[None]:
    """Turn a failing disk or network into ``SourceUnavailable``, without secrets in its text."""
    try:
        yield
    except OSError as exc:
        cause = address.scrub(str(exc))
        has_secret = cause != str(exc)
        raise SourceUnavailable(f"{address.shown}: cannot be read ({cause})") from (None if has_secret else exc)


def _is_mark(relative: str) -> bool:
    return any(part[:1] in ("_", ".") for part in relative.strip("/").split("/"))


HIDDEN = "***"


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


_USER_INFO = re.compile(r"://([^/?#@]*):([^/?#]*)@")


_QUERY = re.compile(r"[?&]([^=&#]*(?:pass|pwd|secret|token|key|sig|credential)[^=&#]*)=([^&#]*)", re.IGNORECASE)


@dataclass(frozen=True, repr=False)
class Address:
    """A path or URL with what must not be shown of it.

    Attributes:
        value: the real text, for the driver only.
        shown: the text with ``${NAME}`` unfilled and passwords hidden, for messages and lineage.
        secrets: texts that no message may hold.
    """

    value: str
    shown: str
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    def scrub(self, text: str) -> str:
        """``text`` without any secret of this address."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        return text


def read_address(text: str) -> Address:
    """Fill ``${NAME}`` from the environment.

    Raises:
        SourceOptionsError: a variable is not set.
    """
    variables = [_variable(name) for name in _VARIABLE.findall(text)]
    value = _VARIABLE.sub(lambda match: _variable(match.group(1)), text)
    secrets = (
        {s for s in variables if s} | {m[1] for m in _USER_INFO.findall(value)} | {m[1] for m in _QUERY.findall(value)}
    )
    # A driver may report the decoded form.
    secrets |= {unquote(s) for s in secrets} | {unquote_plus(s) for s in secrets}
    display = _USER_INFO.sub(rf"://\1:{HIDDEN}@", text)
    display = _QUERY.sub(lambda m: m.group(0)[: m.start(2) - m.start(0)] + HIDDEN, display)
    return Address(value, display, tuple(sorted(secrets - {""}, key=len, reverse=True)))


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise SourceOptionsError(f"the environment variable {name} is not set; the address of the source uses it")
    return value
