"""Zero-wait micro-batching: what is there goes together, and nothing waits for more to come.

While the event loop works on one batch, the requests that arrive meanwhile queue in its sockets. On
its next turn it decodes them all, and only then runs the one callback that the first of them
scheduled. So a lone request is scored at once, and under load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from bentos.errors import AnswerPending

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Answer_contra = TypeVar("Answer_contra", contravariant=True)


class Waiter(Protocol[Answer_contra]):
    """Whoever waits for one answer: a future, or something that writes it straight to a socket."""

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...

    def set_result(self, result: Answer_contra, /) -> None:
        """Here is the answer."""
        ...

    def set_exception(self, exception: Exception, /) -> None:
        """There is none, and why."""
        ...


class MicroBatcher(Generic[Item, Answer]):
    """Collects items of one turn of the event loop and runs them together, in order.

    Args:
        run: takes at most ``max_batch`` items and returns one answer each, in order; an answer that
            is an exception is raised to its own caller only. An exception raised by ``run`` goes to
            every caller of that batch.
        max_batch: items of one run; the rest follows on the next turn, so that sockets are served
            between two runs.
    """

    def __init__(self, run: Callable[[Sequence[Item]], Sequence[Answer | Exception]], max_batch: int = 256) -> None:
        self._run = run
        self._max_batch = max_batch
        self._items: list[Item] = []
        self._waiters: list[Waiter[Answer]] = []

    @property
    def waiting(self) -> int:
        """Items that no run has taken yet."""
        return len(self._items)

    def submit(self, item: Item, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Answer]:
        """Queue one item; the future holds its answer after the loop's next turn."""
        waiter: asyncio.Future[Answer] = loop.create_future()
        self.post(item, waiter, loop)
        return waiter

    def post(self, item: Item, waiter: Waiter[Answer], loop: asyncio.AbstractEventLoop) -> None:
        """Queue one item; ``waiter`` is told its answer."""
        if not self._items:
            loop.call_soon(self._flush, loop)
        self._items.append(item)
        self._waiters.append(waiter)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        items, waiters = self._items[: self._max_batch], self._waiters[: self._max_batch]
        del self._items[: self._max_batch], self._waiters[: self._max_batch]
        if self._items:
            loop.call_soon(self._flush, loop)
        try:
            answers = self._run(items)
        except Exception as exc:  # the caller decides what a failure means to its client
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(exc)
            return
        for waiter, answer in zip(waiters, answers, strict=True):
            if waiter.done():  # its client went away
                continue
            if isinstance(answer, Exception):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)


_PAUSE_SECONDS: Final = 0.01


class PatientBatcher(MicroBatcher[Item, Answer]):
    """A :class:`MicroBatcher` that runs an item again while its answer is pending elsewhere.

    Args:
        run: see :class:`MicroBatcher`; its answer to such an item is :class:`~bentos.errors.AnswerPending`.
        seconds: how long; after that the waiter is told.
    """

    def __init__(self, run: Callable[[Sequence[Item]], Sequence[Answer | Exception]], seconds: float = 4.0) -> None:
        super().__init__(run)
        self._seconds = seconds

    def post(self, item: Item, waiter: Waiter[Answer], loop: asyncio.AbstractEventLoop) -> None:
        """See :class:`MicroBatcher`."""

        def retry(retry_waiter: Waiter[Answer]) -> None:
            loop.call_later(_PAUSE_SECONDS, super(PatientBatcher, self).post, item, retry_waiter, loop)

        super().post(item, _RetryWaiter(waiter, retry, loop.time, loop.time() + self._seconds), loop)


class _RetryWaiter(Generic[Answer]):
    """A waiter that asks again before it gives up."""

    def __init__(
        self,
        waiter: Waiter[Answer],
        retry: Callable[[Waiter[Answer]], None],
        clock: Callable[[], float],
        until: float,
    ) -> None:
        self.done = waiter.done
        self.set_result = waiter.set_result
        self._waiter, self._again, self._clock, self._until = waiter, retry, clock, until

    def set_exception(self, exception: Exception, /) -> None:
        """Ask again while another replica is at it, else tell the one who waits."""
        if isinstance(exception, AnswerPending) and self._clock() < self._until:
            self._again(self)
        else:
            self._waiter.set_exception(exception)
