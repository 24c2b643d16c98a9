"""Repair a log that holds rows of the future: they move into quarantine, and a line of the chain says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bentos.scoring.future_bound import FutureBound, iso_text
from bentos.scoring.scorer import machine_time_us
from bentos.serving.shared_windows import begin_anew, require_redis, shared_name
from bentos.spool.segments import spooled_records
from bentos.usecase.limits import LATEST_US
from flows.errors import FlowRefused
from flows.workspace.clock import machine_now
from monitoring.store.database.frames import from_us, to_us
from monitoring.store.database.records import ScoreRecord
from monitoring.store.predictions.future_rows import FutureRows, find_future_rows, move_future_rows

if TYPE_CHECKING:
    from flows.workspace.workspace import House

RESTART = "start the service again: its windows are built from the log"
ANEW = "the replicas that share windows build them anew by themselves"


@dataclass(frozen=True)
class LogRepair:
    """What was found beyond a time and, unless it was a preview, moved.

    Attributes:
        after: rows of later times are of the future.
        found: rows by kind.
        spooled: events beyond that time in the spool, which are not in the log yet.
        moved: rows that went into quarantine, by kind; empty for a preview.
        decision: number of the decision that records it; none for a preview, and where nothing was found.
        next_step: what makes the windows right; empty where nothing was moved.
    """

    after: datetime
    found: Sequence[FutureRows]
    spooled: int
    moved: dict[str, int]
    decision: int | None
    next_step: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "after": self.after.isoformat(),
            "found": {one.kind: _span(one) for one in self.found},
            "spooled": self.spooled,
            "moved": self.moved,
            "decision": self.decision,
            "next_step": self.next_step,
        }


def repair_log(house: House, after: datetime | None, reason: str) -> LogRepair:
    """Move rows of the future into quarantine, and record that in the chain; without a reason show them.

    Args:
        house: use case, log and settings.
        after: rows of later times are of the future; none is the declared clock and what it allows.
        reason: why, for the chain; empty is a preview.

    Raises:
        FlowRefused: the time is missing where a stream's clock is declared, or lies in the machine's past.
        StoreUnavailable: what was moved before stays moved; start again.
        WindowsUnavailable: Redis is away, so the shared windows could not be told; nothing was moved.
    """
    limit = _limit(house, after)
    usecase, database = house.usecase.name, house.store.database
    found = find_future_rows(database, usecase, limit)
    waiting = spooled_records(house.settings.spool(usecase))
    spooled = sum(isinstance(one, ScoreRecord) and one.event_time > limit for one in waiting)
    if not reason or not found:
        return LogRepair(from_us(limit), found, spooled, {}, None)
    if house.settings.redis_url:
        require_redis(house.settings.redis_url)
    # Written before the first row goes: whoever misses rows after a crash finds the reason.
    payload = {"model": house.model, "after": iso_text(limit), "rows": {one.kind: _span(one) for one in found}}
    payload["reason"] = reason
    line = house.store.decisions.append(usecase, "log.repaired", payload, house.actor, machine_now())
    moved: Counter[str] = Counter()
    ids: list[str] = []
    for kind, part in move_future_rows(database, usecase, limit):
        moved[kind] += len(part)
        ids += part if kind == "event" else []
    return LogRepair(from_us(limit), found, spooled, dict(moved), line.seq, _rebuild(house, ids))


def _limit(house: House, after: datetime | None) -> int:
    bound = FutureBound(house.settings, machine_time_us)
    latest = bound.latest_us()
    if after is None:
        if latest == LATEST_US:
            raise FlowRefused(
                "INCUMBENT_CLOCK is the stream's, and the log cannot be asked what time it is, as it may hold such "
                "rows: give the time with --after"
            )
        return latest
    if bound.machine and after < machine_now():
        raise FlowRefused("--after: rows up to now are none of the future; give a later time")
    return to_us(after)


def _rebuild(house: House, ids: Sequence[str]) -> str:
    """Make replicas that share windows build them anew; says what else is to be done."""
    if not ids:
        return ""
    if not house.settings.redis_url:
        return RESTART
    begin_anew(house.settings.redis_url, shared_name(house.settings.env, house.usecase.name), ids)
    return ANEW


def _span(one: FutureRows) -> dict[str, Any]:
    return {"rows": one.rows, "first": one.first.isoformat(), "last": one.last.isoformat()}
