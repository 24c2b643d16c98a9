"""Tables without a time: where their rows stand on the time axis that everything else has.

A row of such a table gets a time made from its id: a minute in one of fifty days of the year 2000. So
the same table gives the same rows everywhere, and a part of the days is a random part of the rows.
An event that is scored live gets the UTC day of its arrival.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from bentos.schema.column_types import hash_of

FIRST = datetime(2000, 1, 1, tzinfo=UTC)
"""Where the made-up days start."""
DAYS = 50
LAST = FIRST + timedelta(days=DAYS)
_MINUTES = DAYS * 1440
_DAY_S = 86_400


def times_of(ids: pd.Series[Any]) -> pd.Series[Any]:
    """The made-up time of each row, from its id."""
    minutes = [hash_of(str(value).strip()) % _MINUTES for value in ids.tolist()]
    stamps = np.datetime64("2000-01-01", "us") + np.array(minutes, dtype="m8[m]")
    return pd.Series(stamps.astype("M8[us]")).dt.tz_localize("UTC")


def is_made_up(times: pd.Series[Any]) -> pd.Series[bool]:
    """Which rows stand in the made-up days: those of a table, whose labels are known; all others came live."""
    return times < LAST


def today_us() -> int:
    """Start of the present UTC day in microseconds: a request sent twice on one day is the same event."""
    return int(time.time()) // _DAY_S * _DAY_S * 1_000_000
