"""Lists take turns: with single events, with each other, and within limits of size and time.

One part (128 events, or 4 explained ones) of one list goes in each turn of the loop, so nobody waits for the lists of
others.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from bentos import http_errors
from bentos.http_errors import Receive, problem
from bentos.schema.event_schema import Event

Done = TypeVar("Done")


class Limits(Protocol):
    """What a list has to keep to."""

    list_capacity: int
    """Events of lists that wait at once; a list beyond them is refused with 429."""
    list_timeout_s: float
    """Longest time for a list; then it is given up with 504."""

    def waiting(self) -> int:
        """Single events that are not yet scored."""
        ...


class ListScheduler:
    """Works on lists part by part. Give it one event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._held = 0

    @contextlib.contextmanager
    def hold(self, events: int, limits: Limits) -> Iterator[None]:
        """Count the events of a list as waiting.

        Raises:
            HttpProblem: 429, too many wait already. A list that finds nobody waiting is taken whatever its length.
        """
        if self._held and self._held + events > limits.list_capacity:
            raise problem(http_errors.BUSY, "too many events of lists are waiting; retry", ((b"retry-after", b"1"),))
        self._held += events
        try:
            yield
        finally:
            self._held -= events

    async def run(
        self,
        limits: Limits,
        events: Sequence[Event],
        size: int,
        work: Callable[[Sequence[Event]], Done],
        receive: Receive,
    ) -> list[Done]:
        """What ``work`` says of each part of a list. One part of one list goes in each turn of the loop.

        So no list, and no crowd of lists, holds up those who sent a single event or who want to connect
        (uvloop accepts one connection a turn). Parts that were worked on stay: whoever sends the list again
        gets their first answers.

        Args:
            limits: of size and time.
            events: the list.
            size: events of one part.
            work: what to do with a part.
            receive: of the request, whose body has been read.

        Raises:
            HttpProblem: 429 beyond capacity, 504 beyond the time, 400 when the client went away.
        """
        results: list[Done] = []
        until = time.monotonic() + limits.list_timeout_s
        # A list of one part would not be looked after again.
        watch = _watch_client(receive) if len(events) > size else contextlib.nullcontext(_never)
        with self.hold(len(events), limits), watch as is_gone:
            for start in range(0, len(events), size):
                async with self._lock:
                    if limits.waiting():
                        await asyncio.sleep(0)  # single events first
                    if is_gone():
                        raise problem(http_errors.INVALID, "the client went away")
                    if time.monotonic() > until:
                        raise problem(http_errors.TIMEOUT, "the list took too long; send it again, or shorter ones")
                    results.append(work(events[start : start + size]))
                    await asyncio.sleep(0)  # held to the end of this turn
        return results


def _never() -> bool:
    return False


@contextlib.contextmanager
def _watch_client(receive: Receive) -> Iterator[Callable[[], bool]]:
    """Whether the client of a request has gone."""
    watch: asyncio.Future[Any] = asyncio.ensure_future(receive())

    def is_gone() -> bool:
        return watch.done() and watch.result()["type"] == "http.disconnect"

    try:
        yield is_gone
    finally:
        watch.cancel()
