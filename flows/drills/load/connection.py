"""One keep-alive connection of the load generator, and as much of HTTP as its answers need."""

from __future__ import annotations

import asyncio
from typing import Protocol


class RequestSource(Protocol):
    """Who owns the connections."""

    def next_request(self) -> tuple[bytes, bytes]:
        """The bytes of a new request and its first event id."""
        ...

    def answered(self, connection: Connection, status: bytes, body: bytes) -> None:
        """An answer is complete."""
        ...

    def lost(self, connection: Connection) -> None:
        """The connection broke."""
        ...


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, client: RequestSource) -> None:
        self.since = 0.0
        self.id = b""
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's own class
        self._data = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """It broke, or was closed."""
        self._client.lost(self)

    def ask(self, since: float) -> None:
        """Send the next request; its time counts from ``since``."""
        request, self.id = self._client.next_request()
        self.since = since
        assert self._transport is not None
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived: an answer, or a part of one."""
        if self._data:
            data = self._data + data
        end = data.find(b"\r\n\r\n")
        if end < 0 or not _complete(data, end):
            self._data = data
            return
        self._data = b""
        self._client.answered(self, data[9:12], data[end + 4 :])


def _complete(data: bytes, end: int) -> bool:
    """Whether the answer whose headers end at ``end`` is all there."""
    head = data[:end].lower()
    start = head.find(b"content-length:")
    if start < 0:
        return b"transfer-encoding: chunked" not in head or data.endswith(b"0\r\n\r\n")
    line_end = head.find(b"\r", start)
    return len(data) - end - 4 >= int(head[start + 15 : line_end if line_end > 0 else end])
