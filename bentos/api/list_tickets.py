"""Rows on their way through BentoML's adaptive batching.

The front door has decoded them strictly already. What passes through the framework is a list of
numbers; the rows wait here and are fetched when a batch is put together. So no row is decoded twice,
a bad one never joins a batch, and the framework never sees a value that it could log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Final

from bentos import http_errors
from bentos.http_errors import Message, Receive, Scope, Send, problem
from bentos.schema.event import Event
from monitoring.metrics import serving as metrics


class Tickets:
    """Where rows wait: a number goes through the framework's JSON, the row stays."""

    def __init__(self) -> None:
        self._rows: dict[int, Event] = {}
        self._numbers = count()

    def issue(self, events: Sequence[Event]) -> list[int]:
        """Keep the events and return a number for each."""
        numbers = [next(self._numbers) for _ in events]
        self._rows.update(zip(numbers, events, strict=True))
        return numbers

    def redeem(self, number: int) -> Event:
        """The event of a number, once; raises ``KeyError`` for a number that was not issued."""
        return self._rows.pop(number)

    def void(self, numbers: Sequence[int]) -> None:
        """Forget numbers that were not redeemed, because the request ended before."""
        for number in numbers:
            self._rows.pop(number, None)

    def __len__(self) -> int:
        return len(self._rows)


def with_json_body(scope: Scope) -> Scope:
    """The same request without the old body's length."""
    body_headers = (b"content-length", b"transfer-encoding", b"content-type")
    headers = [(name, value) for name, value in scope["headers"] if name not in body_headers]
    return {**scope, "headers": [*headers, (b"content-type", http_errors.JSON)]}


def replay(body: bytes) -> Receive:
    """A ``receive`` that gives one body and then waits for ever, as a connected client does."""
    is_sent = False

    async def receive() -> Message:
        nonlocal is_sent
        if is_sent:
            await asyncio.Event().wait()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


_FRAMEWORK_ERRORS: Final = {
    429: http_errors.BUSY,
    503: http_errors.NOT_READY,
    504: http_errors.TIMEOUT,
}


def own_errors(send: Send, path: str) -> Send:
    """A ``send`` that replaces the body of a framework's error by ours."""
    is_replaced = False

    async def replacing(message: Message) -> None:
        nonlocal is_replaced
        if message["type"] == "http.response.start" and message["status"] >= 400:
            is_replaced = True
            kind = _FRAMEWORK_ERRORS.get(message["status"], http_errors.INTERNAL)
            metrics.REFUSED_REQUESTS.labels(path, kind.code).inc()
            await http_errors.reply(send, *http_errors.refusal(problem(kind)))
        elif not is_replaced:
            await send(message)

    return replacing
