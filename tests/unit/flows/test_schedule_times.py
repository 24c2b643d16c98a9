"""The nightly times of ``prefect.yaml`` on the days on which clocks change, by the server's own schedule code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest
import yaml
from prefect.server.schemas.schedules import CronSchedule

FILE = Path(__file__).resolve().parents[3] / "prefect.yaml"
NIGHTLY = ("scoring", "drift", "comparison", "retraining", "promotion")
"""In the order in which a night needs them."""
FIRST, LAST = datetime(2026, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)


@cache
def crons() -> dict[str, str]:
    found = {}
    for deployment in yaml.safe_load(FILE.read_text())["deployments"]:
        for schedule in deployment.get("schedules", []):
            found[deployment["entrypoint"].rpartition(".")[2]] = schedule["cron"]
    return found


def runs(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """When the server would start runs."""
    return asyncio.run(CronSchedule(cron=cron, timezone=zone).get_dates(start=start, end=end))


def night(zone: str, day: date) -> list[datetime]:
    """Every nightly run of one local day, in the order of :data:`NIGHTLY`; each must be there once."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=1)
    found = []
    for flow in NIGHTLY:
        due = runs(crons()[flow], zone, start, start + timedelta(days=3))
        ours = [at for at in due if at.astimezone(ZoneInfo(zone)).date() == day]
        assert len(ours) == 1, (zone, day, flow, ours)
        found.append(ours[0].astimezone(UTC))
    return found


def changes(zone: str) -> Iterator[tuple[date, object]]:
    """Local days on which the zone's clock changes, with what tells this change from others: offsets and local time."""
    place, at, step = ZoneInfo(zone), FIRST, timedelta(days=1)
    while at < LAST:
        before, after = at.astimezone(place), (at + step).astimezone(place)
        if before.utcoffset() != after.utcoffset():
            low, high = at, at + step
            while high - low > timedelta(seconds=60):
                middle = low + (high - low) / 2
                low, high = (
                    (middle, high) if middle.astimezone(place).utcoffset() == before.utcoffset() else (low, middle)
                )
            local = high.astimezone(place)
            quarter = (local.hour * 60 + local.minute) // 15
            yield local.date(), (quarter, before.utcoffset(), after.utcoffset())
        at += step


@pytest.mark.parametrize("day", [date(2027, 3, 28), date(2027, 10, 31)])
def test_both_clock_changes_in_berlin_keep_the_order_of_the_night(day: date) -> None:
    found = night("Europe/Berlin", day)
    assert found == sorted(found)
    assert len(set(found)) == len(NIGHTLY)


def test_no_zone_of_the_world_skips_repeats_or_reorders_a_nightly_run() -> None:
    seen: set[object] = set()
    for zone in sorted(available_timezones()):
        for day, change in changes(zone):
            if change in seen:
                continue  # another zone, or another year, with the same change
            seen.add(change)
            found = night(zone, day)
            assert found == sorted(found), (zone, day)
    assert len(seen) > 30


def test_an_hour_that_a_zone_skips_or_repeats_would_have_been_noticed() -> None:
    """Times such as 02:00 do run twice or not on their day: the hours above are no accident."""
    spring = runs(
        "0 2 * * *", "Europe/Berlin", datetime(2027, 3, 27, 12, tzinfo=UTC), datetime(2027, 3, 29, tzinfo=UTC)
    )
    local = [at.astimezone(ZoneInfo("Europe/Berlin")) for at in spring]
    assert all(at.hour != 2 for at in local if at.date() == date(2027, 3, 28))
