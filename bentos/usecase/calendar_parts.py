"""Local calendar parts of event times, by whole-number arithmetic.

The same functions take one time (``int``) or many (``int64`` array), microseconds since 1970 UTC, so
that a served value and a trained one cannot differ.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

_SECOND = 1_000_000
_DAY = 86_400
_BUCKET = 900
"""Clock changes fall on quarter hours, almost without exception since 1970; the exceptions are looked up singly."""


def local_seconds(times_us: Any, timezone: str) -> Any:
    """Local wall time in seconds since 1970-01-01 00:00 local, for one time or an array.

    Examples:
        >>> local_seconds(0, "Europe/Paris")
        3600
    """
    seconds = times_us // _SECOND
    if timezone == "UTC":
        return seconds
    if isinstance(seconds, np.ndarray):
        return seconds + _offsets(seconds, timezone)
    return seconds + _offset(seconds, timezone)


def part_of(part: str, local: Any, night: tuple[int, int]) -> Any:
    """One calendar part of local seconds; ``night`` is start and end in minutes after midnight.

    hour 0..23, weekday 0 (Monday) ..6, weekend and night 0 or 1, month 1..12, day_of_month 1..31.
    """
    if part == "hour":
        return local // 3600 % 24
    if part == "weekday":
        return _weekday(local)
    if part == "weekend":
        return (_weekday(local) >= 5) * 1
    if part == "night":
        return _is_night(local // 60 % 1440, night) * 1
    return _date_part(part, local)


def _weekday(local: Any) -> Any:
    # 1970-01-01 was a Thursday.
    return (local // _DAY + 3) % 7


def _is_night(minute: Any, night: tuple[int, int]) -> Any:
    start, end = night
    if start <= end:
        return (minute >= start) & (minute < end)
    return (minute >= start) | (minute < end)


def _date_part(part: str, local: Any) -> Any:
    if isinstance(local, np.ndarray):
        days = (local // _DAY).astype("M8[D]")
        months = days.astype("M8[M]")
        return months.astype(np.int64) % 12 + 1 if part == "month" else (days - months).astype(np.int64) + 1
    date = datetime.fromtimestamp(local, UTC)
    return date.month if part == "month" else date.day


def _offsets(seconds: np.ndarray[Any, Any], timezone: str) -> np.ndarray[Any, Any]:
    buckets, bucket_indices = np.unique(seconds // _BUCKET, return_inverse=True)
    first_offsets = np.array([_offset(b * _BUCKET, timezone) for b in buckets.tolist()], dtype=np.int64)
    last_offsets = np.array([_offset(b * _BUCKET + _BUCKET - 1, timezone) for b in buckets.tolist()], dtype=np.int64)
    offsets = first_offsets[bucket_indices]
    mixed = np.flatnonzero((first_offsets != last_offsets)[bucket_indices])
    offsets[mixed] = [_offset(s, timezone) for s in seconds[mixed].tolist()]
    return offsets


def _offset(second: int, timezone: str) -> int:
    offset = datetime.fromtimestamp(second, ZoneInfo(timezone)).utcoffset()
    assert offset is not None
    return offset // timedelta(seconds=1)
