"""Paths and URLs that hold secrets: filled from the environment, shown without them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

from flows.errors import SourceOptionsError

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
    filled = [_variable(name) for name in _VARIABLE.findall(text)]
    value = _VARIABLE.sub(lambda match: _variable(match.group(1)), text)
    secrets = (
        {s for s in filled if s} | {m[1] for m in _USER_INFO.findall(value)} | {m[1] for m in _QUERY.findall(value)}
    )
    # A driver may report the decoded form.
    secrets |= {unquote(s) for s in secrets} | {unquote_plus(s) for s in secrets}
    shown = _USER_INFO.sub(rf"://\1:{HIDDEN}@", text)
    shown = _QUERY.sub(lambda m: m.group(0)[: m.start(2) - m.start(0)] + HIDDEN, shown)
    return Address(value, shown, tuple(sorted(secrets - {""}, key=len, reverse=True)))


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise SourceOptionsError(f"the environment variable {name} is not set; the address of the source uses it")
    return value
