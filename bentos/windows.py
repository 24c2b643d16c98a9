"""Window state: what one event needs to know of the events before it.

For an event at time t the window of a :class:`WindowSpec` is ``(t - delay - over, t - delay]``; with
no delay it holds strictly earlier events, and the event itself where declared. Reading never depends
on whether the event was added before: its own row is counted from its own values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import pandas as pd

from bentos.usecase import Aggregation


@dataclass(frozen=True)
class WindowSpec:
    """One window aggregate, complete: two features with equal specs have equal values.

    ``over`` and ``delay`` are microseconds; ``own`` says whether the event's own row is counted.
    ``column`` and ``decimals`` are set for ``sum`` and ``mean`` only.
    """

    entity: str
    agg: Aggregation
    column: str | None
    decimals: int
    over: int
    delay: int
    own: bool


class WindowInput(NamedTuple):
    """One event as the window state sees it.

    ``entities`` follows the state's ``entities`` (``None`` where the event has none), ``amounts``
    follows its ``amounts``: whole numbers scaled by 10**decimals, ``None`` where missing.
    """

    event_id: str
    time_us: int
    entities: tuple[str | None, ...]
    amounts: tuple[int | None, ...]


class WindowState(Protocol):
    """Window state for the union of several plans; embedded now, Redis behind the same protocol later."""

    specs: tuple[WindowSpec, ...]
    entities: tuple[str, ...]
    amounts: tuple[tuple[str, int], ...]

    def read_add(self, batch: Sequence[WindowInput]) -> list[list[float]]:
        """In order, each event reads and then adds; values of ``specs`` for each. A known id adds nothing."""

    def add(self, batch: Iterable[WindowInput]) -> int:
        """Add events without reading (history, ``POST /events``); says how many were new."""

    def label(self, event_id: str, y: int, observed_at_us: int, rank: int) -> None:
        """A label became known; rank 0 is the strongest source. Repeats change nothing; unknown ids are parked."""

    def load(self, events: pd.DataFrame, labels: pd.DataFrame, sources: Sequence[str]) -> int:
        """Add an events frame and its labels frame in bulk; ``sources`` are ranked strongest first."""

    def answered(self, event_id: str) -> tuple[str, bytes] | None:
        """Body hash and answer of an id that was answered, within the caller's horizon."""

    def remember(self, event_id: str, body_hash: str, answer: bytes, at_us: int) -> None:
        """Keep an answer; ``at_us`` is machine time."""

    def forget_answers(self, before_us: int) -> int:
        """Drop answers given before a machine time; says how many."""


class MemoryWindows:
    """Embedded window state. (Being written: the protocol stands.)"""

    def __init__(self, specs: Iterable[WindowSpec], lateness_us: int = 86_400_000_000) -> None:
        self.specs: tuple[WindowSpec, ...] = tuple(dict.fromkeys(specs))
