"""Who may see the pages: a token of the home, and a cookie that stands for it for a week."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

SESSION_S = 7 * 86_400
"""How long a browser stays logged in."""


@dataclass(frozen=True)
class Sessions:
    """Checks tokens and cookies; nothing is kept, so a restart logs nobody out and another token everybody.

    Attributes:
        token: the secret.
        cookie: name of the cookie. Browsers share cookies between ports, so each server has a name of its own.
    """

    token: str
    cookie: str

    def knows(self, token: str) -> bool:
        """Whether a token is the secret."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def issue(self, now: float) -> str:
        """A cookie's value that is good for a week from ``now``, seconds since the epoch."""
        ends = str(int(now) + SESSION_S)
        return f"{ends}.{self._sign(ends)}"

    def accepts(self, value: str, now: float) -> bool:
        """Whether a cookie's value was issued with this token and has not ended."""
        ends, _, signature = value.partition(".")
        good = hmac.compare_digest(signature.encode(), self._sign(ends).encode())
        return good and ends.isdigit() and now < int(ends)

    def _sign(self, ends: str) -> str:
        return hmac.new(self.token.encode(), f"incumbent console until {ends}".encode(), sha256).hexdigest()


def local_path(target: str) -> str:
    """The path to go to after a login: one of this server, else its first page."""
    parts = urlsplit(target)
    inside = target.startswith("/") and not target.startswith("//") and not parts.scheme and not parts.netloc
    return target if inside and "\\" not in target and target.isprintable() else "/"
