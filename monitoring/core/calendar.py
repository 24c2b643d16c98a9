"""Business days: which day an instant belongs to, and which days have matured labels.

A use case names its time zone and the local time at which its day starts. Every daily figure
(capacity, recall a day, matured days of a comparison) uses these days, so a day has 23 or 25
hours when the clocks change.

A day holds ``start <= instant < end``; comparing wall times would misplace instants where a clock change skips or
repeats the boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TimeWindow:
    """A span of UTC time: ``start`` belongs to it, ``end`` does not. Both are aware datetimes."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a time window needs aware datetimes; add a zone, for example +00:00")
        if self.end <= self.start:
            raise ValueError(f"a time window must end after it starts: {self.start} .. {self.end}")

    @property
    def length(self) -> timedelta:
        """Elapsed time from start to end."""
        return self.end - self.start


@dataclass(frozen=True)
class BusinessCalendar:
    """Days of a use case.

    Attributes:
        timezone: an IANA zone name, for example ``Europe/Paris``.
        day_starts_at: local wall time at which a new day begins.
    """

    timezone: str = "UTC"
    day_starts_at: time = time(0, 0)

    @property
    def zone(self) -> ZoneInfo:
        """The zone as an object."""
        return ZoneInfo(self.timezone)

    def start_of(self, day: date) -> datetime:
        """The UTC instant at which ``day`` starts (a start inside a skipped hour moves forward)."""
        local = datetime.combine(day, self.day_starts_at, tzinfo=self.zone)
        return local.astimezone(ZoneInfo("UTC"))

    def end_of(self, day: date) -> datetime:
        """The UTC instant at which ``day`` ends; it is the start of the next day."""
        return self.start_of(day + timedelta(days=1))

    def day_of(self, instant: datetime) -> date:
        """The business day that holds an aware instant: ``start_of(day) <= instant < end_of(day)``."""
        local = instant.astimezone(self.zone)
        day = local.date() - timedelta(days=1 if local.time() < self.day_starts_at else 0)
        # Wall time misleads where the boundary lies in an hour that a clock change skips or repeats.
        if instant < self.start_of(day):
            return day - timedelta(days=1)
        return day + timedelta(days=1) if instant >= self.end_of(day) else day

    def days_of(self, times: pd.Series) -> pd.Series:
        """The business day of each UTC time, as timezone-free midnight timestamps (vectorised)."""
        import numpy as np
        import pandas as pd

        valid_times = times.dropna()
        if valid_times.empty:
            return pd.Series(pd.NaT, index=times.index, name=times.name, dtype="datetime64[ns]")
        days = self.day_range(self.day_of(valid_times.min()), self.day_of(valid_times.max()))
        starts = np.array([self.start_of(d).replace(tzinfo=None) for d in days], dtype="datetime64[us]")
        positions = np.searchsorted(starts, times.to_numpy("datetime64[us]"), side="right") - 1
        business_days = pd.Series(np.array(days, dtype="datetime64[ns]")[positions], index=times.index, name=times.name)
        return business_days.mask(times.isna())

    def local(self, times: pd.Series) -> pd.Series:
        """UTC times as timezone-free local wall times."""
        local: pd.Series = times.dt.tz_convert(self.zone).dt.tz_localize(None)
        return local

    def matured_until(self, as_of: datetime, matures_after: timedelta) -> datetime:
        """The end of the last day whose every event is at least ``matures_after`` old at ``as_of``.

        Events before this instant are matured for a daily series: no day is ever half matured.
        """
        day = self.day_of(as_of - matures_after)
        return self.start_of(day)

    def day_range(self, first: date, last: date) -> list[date]:
        """All days from ``first`` to ``last``, both included."""
        import numpy as np

        return [first + timedelta(days=int(n)) for n in np.arange((last - first).days + 1)]
