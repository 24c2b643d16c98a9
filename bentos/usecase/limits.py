"""Limits that every event keeps, whatever a use case declares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from bentos.usecase.declarations import Column

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
EARLIEST_US = 0
LATEST_US = (LATEST - EPOCH) // MICROSECOND
"""Event times lie in ``[1970, 2200)``: later ones are a wrong unit, and nanoseconds must not overflow."""

LARGEST_NUMBER = 1e15
"""No number may be larger, unless its column declares more: sums of scaled integers stay inside 64 bits."""
LARGEST_INTEGER = 2**53 - 1
"""Integers beyond this are not exact in every reader of JSON."""
LARGEST_SCALED = 2**62
"""Largest number times 10**decimals that is summed in a window."""


def bounds(column: Column) -> tuple[float, float]:
    """Smallest and largest allowed number of a numeric column, both included."""
    limit: float = LARGEST_INTEGER if column.type == "integer" else LARGEST_NUMBER
    low = -limit if column.min is None else column.min
    high = limit if column.max is None else column.max
    if column.type == "integer":
        return max(low, -limit), min(high, limit)
    return low, high


HASH_LENGTH: Final = 31
"""Characters of a hash."""
