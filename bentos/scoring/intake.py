"""What every event passes on its way to the windows and the log, whether it is scored or only kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bentos.schema.event import Event
from bentos.scoring.active_models import ActiveModels
from bentos.scoring.future_bound import FutureGuard
from bentos.scoring.ports import Spool
from bentos.scoring.recent_times import RecentTimes


class Tap(Protocol):
    """Hears of every event that was added to the windows, while a new state is being built."""

    def heard(self, events: Sequence[Event], answers: Sequence[bytes | Exception], now_us: int) -> None:
        """Called after each batch with what was scored and answered."""
        ...


def machine_time_us() -> int:
    """Machine time in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Intake:
    """The way in of one use case.

    Attributes:
        usecase: name written to the log.
        active_models: who answers now, with the windows, or none.
        spool: the durable log's first stop.
        tap: hears of events while a new window state is being built.
        clock: machine time in microseconds.
        recent: is told the event times.
        guard: refuses events of the future; none lets every time pass.
    """

    usecase: str
    active_models: Callable[[], ActiveModels | None]
    spool: Spool
    tap: Tap | None = None
    clock: Callable[[], int] = machine_time_us
    recent: RecentTimes = field(default_factory=RecentTimes)
    guard: FutureGuard | None = None
