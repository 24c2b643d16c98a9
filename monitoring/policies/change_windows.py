"""When a promotion may happen: hours, weekdays, and days on which everything is frozen.

All three are local to the use case's time zone. They hold promotions; nothing holds a rollback.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from monitoring.core.durations import clock_time
from monitoring.policies.promotion import PromotionPolicy

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SEARCH_DAYS = 3 * 366
"""Days that are searched for an opening; a policy without one for so long has none."""


def is_open(policy: PromotionPolicy, zone: ZoneInfo, at: datetime) -> bool:
    """Whether a promotion may happen at an aware instant."""
    local = at.astimezone(zone)
    begin, end = _hours(policy)
    inside = begin <= local.time().replace(tzinfo=None) and (end is None or local.time().replace(tzinfo=None) < end)
    return inside and _open_day(policy, local.date())


def next_opening(policy: PromotionPolicy, zone: ZoneInfo, at: datetime) -> datetime | None:
    """The first instant from ``at`` on at which a promotion may happen; none within three years."""
    if is_open(policy, zone, at):
        return at
    begin, _ = _hours(policy)
    today = at.astimezone(zone).date()
    for days in range(_SEARCH_DAYS):
        day = today + timedelta(days=days)
        start = datetime.combine(day, begin, tzinfo=zone)
        # Compared as instants: a start inside a skipped hour lies later than its wall time says.
        if start.astimezone(ZoneInfo("UTC")) > at and _open_day(policy, day):
            return start
    return None


def hold_reason(policy: PromotionPolicy, zone: ZoneInfo, at: datetime) -> str | None:
    """Why a promotion may not happen at ``at``, with the next time at which it may; ``None`` when it may."""
    if is_open(policy, zone, at):
        return None
    local = at.astimezone(zone)
    opening = next_opening(policy, zone, at)
    opening_text = (
        "no time within three years is allowed"
        if opening is None
        else f"the next allowed time is {_format_moment(opening)}"
    )
    return f"promotions are held now ({_closed_because(policy, local)}); the verdict stays open and {opening_text}"


def _closed_because(policy: PromotionPolicy, local: datetime) -> str:
    for first, last in policy.freeze:
        if first <= local.date() <= last:
            return f"frozen from {first} to {last}"
    if policy.allowed_weekdays is not None and _WEEKDAYS[local.weekday()] not in policy.allowed_weekdays:
        return f"allowed on {', '.join(policy.allowed_weekdays)}, today is {_WEEKDAYS[local.weekday()]}"
    begin, end = policy.allowed_hours or ("", "")
    return f"allowed from {begin} to {end}, it is {local:%H:%M} {local.tzname()}"


def _format_moment(moment: datetime) -> str:
    return f"{moment:%A %Y-%m-%d %H:%M} {moment.tzname()}"


def _hours(policy: PromotionPolicy) -> tuple[time, time | None]:
    if policy.allowed_hours is None:
        return time(0, 0), None
    return clock_time(policy.allowed_hours[0]), clock_time(policy.allowed_hours[1])


def _open_day(policy: PromotionPolicy, day: date) -> bool:
    if any(first <= day <= last for first, last in policy.freeze):
        return False
    return policy.allowed_weekdays is None or _WEEKDAYS[day.weekday()] in policy.allowed_weekdays
