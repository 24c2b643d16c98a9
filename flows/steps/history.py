"""Import a history into the prediction log (``incumbent windows load``): warm windows on day one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from bentos.usecase import UseCase
from flows.sources.base import EventSource
from monitoring.calendar import TimeWindow

if TYPE_CHECKING:
    from monitoring.store import Store

Progress = Callable[[int, int], None]
"""Called with (days done, days in all)."""


@dataclass(frozen=True)
class HistoryResult:
    """What an import did.

    Attributes:
        window: what was read.
        events: rows that are new in the log.
        repeated: rows that the log already held.
        labels: label revisions that are new.
        quarantined: rows that were refused.
    """

    window: TimeWindow
    events: int
    repeated: int
    labels: int
    quarantined: int


def load_history(
    source: EventSource,
    window: TimeWindow,
    store: Store,
    usecase: UseCase,
    as_of: datetime | None = None,
    progress: Progress | None = None,
) -> HistoryResult:
    """Read a window day by day and store it with ``origin=history``; repeating it changes nothing."""
    raise NotImplementedError
