"""The two clocks: machine time, and the business time of a run."""

from __future__ import annotations

from datetime import UTC, datetime

from bentos.scoring.future_bound import FutureBound
from bentos.scoring.intake import machine_time_us
from bentos.settings import read_settings
from flows.errors import FlowRefused
from monitoring.store.database.frames import to_us


def machine_now() -> datetime:
    """Machine time, for journals and records."""
    return datetime.now(UTC)


def business_time(as_of: datetime | None) -> datetime:
    """The business time of a run: as given (UTC where it names no zone), else now.

    Raises:
        FlowRefused: it lies in the future by the machine's clock; cooldowns, plans and retention count from it.
    """
    if as_of is None:
        return machine_now()
    time = as_of if as_of.tzinfo is not None else as_of.replace(tzinfo=UTC)
    settings = read_settings()
    bound = FutureBound(settings, machine_time_us)
    if bound.machine and (time_us := to_us(time)) > bound.latest_us():
        raise FlowRefused(f"{bound.sentence('as_of', time_us)}; a replay declares INCUMBENT_CLOCK=stream")
    return time
