"""Wait for the answer that another replica is working on, instead of telling the client to come again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic

from bentos.batcher import Answer, Item, MicroBatcher, Waiter
from bentos.errors import AnswerPending

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

        def again(patient: Waiter[Answer]) -> None:
            loop.call_later(_PAUSE_SECONDS, super(PatientBatcher, self).post, item, patient, loop)

        super().post(item, _Patient(waiter, again, loop.time, loop.time() + self._seconds), loop)


class _Patient(Generic[Answer]):
    """A waiter that asks again before it gives up."""

    def __init__(
        self,
        waiter: Waiter[Answer],
        again: Callable[[Waiter[Answer]], None],
        clock: Callable[[], float],
        until: float,
    ) -> None:
        self.done = waiter.done
        self.set_result = waiter.set_result
        self._waiter, self._again, self._clock, self._until = waiter, again, clock, until

    def set_exception(self, exception: Exception, /) -> None:
        """Ask again while another replica is at it, else tell the one who waits."""
        if isinstance(exception, AnswerPending) and self._clock() < self._until:
            self._again(self)
        else:
            self._waiter.set_exception(exception)
