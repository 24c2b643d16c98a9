"""The login of a server that is started here, as its requests bear it, and headers for all of its answers."""

from __future__ import annotations

import base64
import hmac
from collections.abc import MutableMapping, Sequence
from typing import Any

from monitoring.core.hosts import Scope, Send


class BasicLogin:
    """Tells requests with the login from others (RFC 7617).

    Args:
        login: ``user:password``.
    """

    def __init__(self, login: str) -> None:
        self._expected = b"basic " + base64.b64encode(login.encode())

    def is_sent(self, scope: Scope) -> bool:
        """Whether a request bears the login, in one ``Authorization`` header."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        word, _, credentials = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        return hmac.compare_digest(word.lower() + b" " + credentials.strip(), self._expected)


def add_headers(send: Send, headers: Sequence[tuple[bytes, bytes]]) -> Send:
    """Return a ``send`` that puts more headers on each answer."""

    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return send_with_headers
