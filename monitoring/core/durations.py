"""Durations as people write them in a policy: ``30m``, ``12h``, ``7d``.

A duration is elapsed time, not calendar time: ``7d`` is 7 x 24 hours even across a clock change.
Calendar days are the business of :mod:`monitoring.core.calendar`.
"""

from __future__ import annotations

import re
from datetime import time, timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PATTERN = re.compile(r"([0-9]+)([smhd])")


def parse_duration(value: object) -> timedelta:
    """Read ``30m``, ``12h`` or ``7d``; a ``timedelta`` passes unchanged.

    Raises:
        ValueError: for anything else, with the allowed form in the message.
    """
    if isinstance(value, timedelta):
        return value
    match = _PATTERN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is a whole number and a unit of s, m, h or d, for example '7d'")
    try:
        return timedelta(**{_UNITS[match.group(2)]: int(match.group(1))})
    except (OverflowError, ValueError):
        raise ValueError("a duration may not exceed 999999999 days, for example '7d'") from None


def format_duration(value: timedelta) -> str:
    """Write a duration in the largest unit that divides it: ``timedelta(days=7)`` gives ``7d``."""
    seconds = int(value.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def microseconds(value: timedelta) -> int:
    """The duration as whole microseconds, the resolution of every event time."""
    return value // timedelta(microseconds=1)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+[smhd]$", "examples": ["7d", "12h"]}),
]


def clock_time(value: str) -> time:
    """Read a local time as ``HH:MM``; raises ``ValueError`` for anything else."""
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise ValueError("a local time as HH:MM, for example '06:00'")
    return time.fromisoformat(value)
