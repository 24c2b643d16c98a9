"""Several threads that take one step at a time, in an order that a seed decides.

Between two of its calls to :class:`ObservedPart` parts a thread waits for its turn, so a run with the same
seed takes the same steps in the same order.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

CallHook = Callable[[str], None]
"""Called with the name of a method ahead of each call."""


class Killed(BaseException):
    """The process is dead: nothing of it runs any more."""


class ObservedPart:
    """A part as one process sees it: ``before`` is called ahead of each call of its methods."""

    def __init__(self, real: object, before: CallHook) -> None:
        self._real = real
        self._before = before

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(name)
            return attribute(*args, **kwargs)

        return call


class ActorScheduler:
    """Lets actors take one step at a time.

    Args:
        seed: decides whose turn it is.
        quiet: errors that an actor may end with.
    """

    def __init__(self, seed: int, quiet: tuple[type[BaseException], ...]) -> None:
        self.failures: list[str] = []
        self._random = random.Random(seed)  # noqa: S311  # a schedule, not a secret
        self._quiet = quiet
        self._moved = threading.Condition()
        self._waiting: set[int] = set()
        self._running = 0
        self._allowed: int | None = None

    def run(self, acts: Sequence[Callable[[Callable[[], None]], object]]) -> None:
        """Run the acts to their ends; each gets a function that waits for its turn."""
        self._running = len(acts)
        threads = [threading.Thread(target=self._actor, args=(n, act), daemon=True) for n, act in enumerate(acts)]
        for thread in threads:
            thread.start()
        with self._moved:
            while self._running:
                self._moved.wait_for(lambda: self._allowed is None and len(self._waiting) == self._running)
                if self._waiting:
                    self._allowed = self._random.choice(sorted(self._waiting))
                    self._moved.notify_all()
        for thread in threads:
            thread.join()

    def _actor(self, actor: int, act: Callable[[Callable[[], None]], object]) -> None:
        def take_step() -> None:
            with self._moved:
                self._waiting.add(actor)
                self._moved.notify_all()
                self._moved.wait_for(lambda: self._allowed == actor)
                self._waiting.discard(actor)
                self._allowed = None
                self._moved.notify_all()

        try:
            with suppress(*self._quiet):
                act(take_step)
        except Exception as exc:  # a fault of an actor is a finding, not the end of the drill
            self.failures.append(f"{type(exc).__name__}: {exc}")
        finally:
            with self._moved:
                self._running -= 1
                self._moved.notify_all()
