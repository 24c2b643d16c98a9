"""Keeps the window state: builds it from the log, follows the labels, swaps in a larger one.

The log is the source of truth: at a start, and whenever a model with other windows gets a role, a
new state is filled in the background. What happens meanwhile is heard and repeated on the new
state, and the last of it on the thread that scores, so no event and no label falls between the two.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from bentos.errors import WindowsUnavailable
from bentos.features.plan import FeaturePlan
from bentos.schema.event import Event
from bentos.scoring.answers import NO_ANSWER
from bentos.windows.aggregates import needs_labels
from bentos.windows.memory import MemoryWindows
from bentos.windows.state import WindowInput, WindowState
from monitoring.errors import MonitoringError
from monitoring.metrics import serving as metrics
from monitoring.store.database.records import StoredLabel

log = logging.getLogger("incumbent.windows")

_RETRY_SECONDS = 2.0
_JOIN_SECONDS = 0.2
_TEND_SECONDS = 0.5
_SMALL = 200
"""Steps that may be repeated on the scoring thread without anybody noticing."""

Step = Callable[[FeaturePlan, WindowState], None]
Make = Callable[[FeaturePlan], WindowState]


def make_memory_windows(plan: FeaturePlan) -> WindowState:
    """Windows of this process alone."""
    return MemoryWindows(plan.specs)


class WindowHistory(Protocol):
    """Where a state is filled from; see :class:`bentos.serving.window_history.LogHistory`."""

    def fill(self, plan: FeaturePlan, state: WindowState) -> int:
        """Add everything that is known; returns the id of the last label read."""
        ...

    def unshipped(self, plan: FeaturePlan, state: WindowState) -> list[WindowInput]:
        """Events of this replica that are not in the database yet."""
        ...


class WindowKeeper:
    """Owner of the window state of one use case.

    Args:
        history: fills a state from the log.
        ranks: label sources, strongest first; others are ignored.
        post: runs a function on the thread that scores, soon.
        ready: called there with each new state, once it is complete.
        make: gives an empty state with a plan's windows.
    """

    def __init__(
        self,
        history: WindowHistory,
        ranks: Sequence[str],
        post: Callable[[Callable[[], None]], None],
        ready: Callable[[WindowState], None],
        make: Make = make_memory_windows,
    ) -> None:
        self.state: WindowState | None = None
        self.label_cursor = 0
        self._plan: FeaturePlan | None = None
        self._history = history
        self._ranks = {source: rank for rank, source in enumerate(ranks)}
        self._post = post
        self._ready = ready
        self._make = make
        self._tap: deque[Step] | None = None
        self._building: threading.Thread | None = None
        self._tending: threading.Thread | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to keep a shared state in step while nothing is scored, and to look for a server that was away."""
        self._tending = threading.Thread(target=self._maintain, name="windows-tender", daemon=True)
        self._tending.start()

    @property
    def available(self) -> bool:
        """Whether the windows can be read now."""
        return self.state is not None and self.state.available

    def want(self, plan: FeaturePlan) -> None:
        """Build a state with the windows of a plan (and those in use) unless that is done or under way."""
        if self.state is not None and not self.state.lost and set(self.state.specs).issuperset(plan.specs):
            return
        if self._building is not None and self._building.is_alive():
            return
        # A plan of its own: plans remember the state they were last used with.
        union = FeaturePlan.union([plan] if self._plan is None else [self._plan, plan]).ranked(list(self._ranks))
        if plan.sources != union.sources and any(needs_labels(spec) for spec in plan.specs):
            # One state serves every plan, so there is one ranking: the use case's of today.
            log.warning("a model was trained with other label sources or another ranking of them; train it again")
        self._building = threading.Thread(target=self._build, args=(union,), name="windows", daemon=True)
        self._building.start()

    def stop(self) -> None:
        """Give up a build that is waiting for the database, and let go of a shared state."""
        self._stopped.set()
        if self._tending is not None:
            self._tending.join(timeout=2.0)
        if self.state is not None:
            self.state.close()

    def heard(self, events: Sequence[Event], answers: Sequence[bytes | Exception], now_us: int) -> None:
        """Called on the scoring thread after each batch, see :class:`bentos.scoring.scorer.Tap`."""
        # Where states are shared, the new one learns of events by the order that the replicas keep.
        if self._tap is not None and not (self.state is not None and self.state.shared):
            self._tap.append(lambda plan, state: _repeat(plan, state, events, answers, now_us))

    def label(self, statements: Iterable[StoredLabel]) -> None:
        """Feed labels to the windows; called on the scoring thread."""
        ranked_labels = [
            (s.event_id, s.y, s.observed_at, self._ranks[s.source]) for s in statements if s.source in self._ranks
        ]

        def step(state: WindowState) -> None:
            for event_id, y, observed_at, rank in ranked_labels:
                state.label(event_id, y, observed_at, rank)

        if self.state is not None:
            step(self.state)
            _follow(self.state)
        if self._tap is not None:
            self._tap.append(lambda plan, state: step(state))
        metrics.APPLIED_LABELS.inc(len(ranked_labels))

    def forget_answers(self, before_us: int) -> None:
        """Forget answers given before a machine time; called on the scoring thread."""
        if self.state is not None:
            self.state.forget_answers(before_us)

    def _build(self, plan: FeaturePlan) -> None:
        start = time.monotonic()
        # Listening starts before the log is read: what is in neither was in no answer.
        tap: deque[Step] = deque()
        self._tap = tap
        filled_state = self._filled_state(plan)
        if filled_state is None:
            return
        state, cursor = filled_state
        while len(tap) > _SMALL:
            tap.popleft()(plan, state)
        if not self._join_replicas(plan, state):
            return
        metrics.WINDOW_REBUILDS.labels("built").inc()
        metrics.WINDOW_REBUILD_SECONDS.set(time.monotonic() - start)
        self._post(lambda: self._finish(plan, state, tap, cursor))

    def _filled_state(self, plan: FeaturePlan) -> tuple[WindowState, int] | None:
        """A state filled from the log, as soon as the log can be read."""
        while not self._stopped.is_set():
            state = self._make(plan)
            try:
                return state, self._history.fill(plan, state)
            except MonitoringError as exc:
                log.warning("the log cannot be read (%s); the windows wait for it", type(exc).__name__)
            except Exception as exc:  # a fault here must be seen, and may pass
                log.error("the windows cannot be built: %s", type(exc).__name__)
            metrics.WINDOW_REBUILDS.labels("failed").inc()
            self._stopped.wait(_RETRY_SECONDS)
        return None

    def _join_replicas(self, plan: FeaturePlan, state: WindowState) -> bool:
        """Take part in what other replicas do, as soon as that is possible; says whether it was."""
        while not self._stopped.is_set():
            try:
                state.join(self._history.unshipped(plan, state) if state.shared else ())
            except WindowsUnavailable as exc:
                log.info("the windows wait: %s", exc)
                self._stopped.wait(_JOIN_SECONDS)
            else:
                return True
        return False

    def _maintain(self) -> None:
        while not self._stopped.wait(_TEND_SECONDS):
            state = self.state
            if state is None or not state.shared:
                continue
            try:
                state.mend()
            except WindowsUnavailable:
                continue
            self._post(lambda state=state: _follow(state))  # type: ignore[misc]  # binds this round's state

    def _finish(self, plan: FeaturePlan, state: WindowState, tap: deque[Step], cursor: int) -> None:
        """On the scoring thread: repeat the rest, then hand the state over."""
        while tap:
            tap.popleft()(plan, state)
        if self.state is None:
            self.label_cursor = cursor
        old = self.state
        self._plan, self.state, self._tap = plan, state, None
        self._ready(state)
        if old is not None:
            old.close()


def _follow(state: WindowState) -> None:
    with contextlib.suppress(WindowsUnavailable):  # it is told by /readyz, and mended in the background
        state.follow()


def _repeat(
    plan: FeaturePlan,
    state: WindowState,
    events: Sequence[Event],
    answers: Sequence[bytes | Exception],
    now_us: int,
) -> None:
    plan.add(events, state)
    for event, answer in zip(events, answers, strict=True):
        stored_answer = answer if isinstance(answer, bytes) else NO_ANSWER
        state.remember(event.event_id, event.body_hash, stored_answer, now_us)
