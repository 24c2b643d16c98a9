"""A typed client of the service, sync and async: retries that are safe, a deadline that holds, a declared fallback.

    with Client("https://scores.example", key=key, deadline=0.2, fallback=Fallback(False, "let it pass")) as client:
        answer = client.score({"transaction_id": "t-1", ...})

A retry is safe because the service answers an event id once: the same body gets its first answer again.
``deadline`` bounds a whole call, with its retries and pauses. Where no answer came in time and a fallback
is declared, the call returns it (``answer.fallback`` is true), and what was decided is reported to the
service afterwards (``POST /late``) from a queue of bounded length. Without a fallback the call raises.
Nothing of an event, and no key, is ever logged.

httpx is needed here and nowhere else in this room; the image does without it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from bentos.client.async_client import AsyncClient
from bentos.client.common import (
    Accepted,
    Answer,
    Backoff,
    DeadlinePassed,
    Fallback,
    Overloaded,
    Refused,
    RowError,
    ServiceError,
    Unreachable,
)

__all__ = [
    "Accepted", "Answer", "AsyncClient", "Backoff", "Client", "DeadlinePassed", "Fallback", "Overloaded", "Refused",
    "RowError", "ServiceError", "Unreachable",
]  # fmt: skip

Json = Mapping[str, Any]
T = TypeVar("T")


class Client:
    """The same for programs without an event loop; safe to use from several threads.

    It runs an :class:`AsyncClient` on a thread of its own, because only so a deadline bounds a whole call
    and reports go out while nobody calls. Make one in each process: a thread does not survive a fork.

    Args:
        url: the service.
        options: of :class:`AsyncClient`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._pid = os.getpid()
        self._client = AsyncClient(url, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="incumbent-client", daemon=True)
        self._thread.start()

    def score(self, event: Json, *, explain: bool = False, deadline: float | None = None) -> Answer:
        """See :meth:`AsyncClient.score`."""
        return self._run(self._client.score(event, explain=explain, deadline=deadline))

    def score_many(self, events: Sequence[Json], *, deadline: float | None = None) -> list[Answer | RowError]:
        """See :meth:`AsyncClient.score_many`."""
        return self._run(self._client.score_many(events, deadline=deadline))

    def events(self, events: Sequence[Json], *, deadline: float | None = None) -> Accepted:
        """See :meth:`AsyncClient.events`."""
        return self._run(self._client.events(events, deadline=deadline))

    def labels(self, labels: Sequence[Json], *, deadline: float | None = None) -> Accepted:
        """See :meth:`AsyncClient.labels`."""
        return self._run(self._client.labels(labels, deadline=deadline))

    def actions(self, actions: Sequence[Json], *, deadline: float | None = None) -> Accepted:
        """See :meth:`AsyncClient.actions`."""
        return self._run(self._client.actions(actions, deadline=deadline))

    def model(self, *, deadline: float | None = None) -> Json:
        """See :meth:`AsyncClient.model`."""
        return self._run(self._client.model(deadline=deadline))

    def flush(self, deadline: float = 5.0) -> int:
        """See :meth:`AsyncClient.flush`."""
        return self._run(self._client.flush(deadline))

    @property
    def late(self) -> int:
        """Fallback decisions that are not reported yet."""
        return self._client.late

    @property
    def dropped(self) -> int:
        """Fallback decisions that will never be reported."""
        return self._client.dropped

    def close(self, deadline: float = 2.0) -> None:
        """Report what is waiting, as far as the time goes, and end the thread; a second call does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._client.aclose(deadline))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        if os.getpid() != self._pid or self._loop.is_closed():
            call.close()
            raise RuntimeError("this client is closed, or was made in another process; make a new one")
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()
