"""What a window state is: the records that go in, the values that come out, the protocol of both kinds.

:class:`bentos.windows.memory.MemoryWindows` lives in one process; :class:`bentos.windows.redis.RedisWindows`
keeps several replicas in step. One suite of tests holds for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bentos.errors import AnswerPending

AnswerState = tuple[str, bytes] | AnswerPending | None
"""What is known of an id: body hash and answer; that another replica is answering it; or nothing."""

TEXT = -1
"""In the place of decimals: the values are texts."""


@dataclass(frozen=True)
class WindowSpec:
    """One window aggregate, complete: two features with equal specs have equal values.

    ``over`` and ``delay`` are microseconds; ``own`` says whether the event's own row is counted.
    ``column`` and ``decimals`` are set for aggregations of a column only (else ``None`` and 0);
    ``decimals`` is :data:`TEXT` where the column is a text, of which ``distinct`` keeps a hash.
    """

    entity: str
    agg: str
    column: str | None
    decimals: int
    over: int
    delay: int
    own: bool


class WindowInput(NamedTuple):
    """One event as the window state sees it.

    ``entities`` follows the state's ``entities`` (``None`` where the event has none), ``amounts``
    follows its ``amounts``: whole numbers scaled by 10**decimals, ``None`` where missing.
    ``body`` is the event as it is logged, for states that pass it on to other replicas.
    """

    event_id: str
    time_us: int
    entities: tuple[str | None, ...]
    amounts: tuple[int | None, ...]
    body: bytes = b""


@dataclass(frozen=True)
class WindowStats:
    """Size of a window state: ``events`` and ``entities`` held, labels ``parked`` for unknown ids,
    ``answered`` ids, events ``too_late`` to be added, ``newest_us`` (estimate of the newest business
    time) and ``bytes`` of memory, estimated."""

    events: int
    entities: int
    parked: int
    answered: int
    too_late: int
    newest_us: int | None
    bytes: int


class WindowState(Protocol):
    """Window state for the union of several plans.

    A life has two parts. It is filled from the log: ``add``, ``label`` and ``remember`` stay in this
    process. After :meth:`join` it serves, and what it is told, every replica knows.
    """

    @property
    def shared(self) -> bool:
        """Whether other replicas take part; then ids are claimed before they are read."""
        ...

    @property
    def available(self) -> bool:
        """Whether it can be read now."""
        ...

    @property
    def lost(self) -> bool:
        """Whether it must be built again, because what is shared was lost."""
        ...

    @property
    def specs(self) -> tuple[WindowSpec, ...]:
        """The windows it serves, in the order of each result."""
        ...

    @property
    def entities(self) -> tuple[str, ...]:
        """Entity columns that each event must bring."""
        ...

    @property
    def amounts(self) -> tuple[tuple[str, int], ...]:
        """(column, decimals) of the scaled amounts that each event must bring."""
        ...

    def read_add(self, batch: Sequence[WindowInput]) -> list[list[float]]:
        """In order, each event reads and then adds; values of ``specs`` for each. A known id adds nothing."""
        ...

    def add(self, batch: Iterable[WindowInput]) -> int:
        """Add events without reading (history, events not to be scored); says how many were new."""
        ...

    def label(self, event_id: str, y: int, observed_at_us: int, rank: int) -> bool:
        """A label became known; rank 0 is the strongest source. Repeats change nothing, unknown ids wait.

        Returns:
            Whether it was new.
        """
        ...

    def claim(self, batch: Sequence[WindowInput]) -> list[AnswerState]:
        """What is known of each id. Unknown ids belong to the caller now: it reads, scores and remembers them.

        Raises:
            WindowsUnavailable: so do :meth:`read_add`, :meth:`add` and :meth:`answered` of a shared state.
        """
        ...

    def settle(self) -> None:
        """Let other replicas know what was remembered; does not wait for them."""
        ...

    def join(self, unshipped: Sequence[WindowInput]) -> None:
        """Filling is over: begin to serve, in step with the other replicas.

        Args:
            unshipped: events of this replica that the database may not hold yet.

        Raises:
            WindowsUnavailable: try again.
        """
        ...

    def follow(self) -> None:
        """Take in what other replicas did and pass labels on, where nothing is scored for a while."""
        ...

    def mend(self) -> None:
        """Look whether a server that was away is back; the one method for any thread.

        Raises:
            WindowsUnavailable: it is not.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...

    def answered(self, event_id: str) -> tuple[str, bytes] | None:
        """Body hash and answer of an id that was answered, within the caller's horizon."""
        ...

    def remember(self, event_id: str, body_hash: str, answer: bytes, at_us: int) -> None:
        """Keep an answer; ``at_us`` is machine time."""
        ...

    def forget_answers(self, before_us: int) -> int:
        """Drop answers given before a machine time; says how many."""
        ...

    def stats(self) -> WindowStats:
        """How much is held."""
        ...
