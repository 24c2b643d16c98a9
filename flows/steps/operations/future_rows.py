"""Repair a log that holds rows of the future: they move into quarantine, and a line of the chain says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bentos.scoring.future_bound import FutureBound, iso_text
from bentos.scoring.intake import machine_time_us
from bentos.serving.shared_windows import require_redis, reset_shared_windows, shared_name
from bentos.spool.segments import spooled_records
from bentos.usecase.limits import LATEST_US
from flows.errors import FlowRefused
from flows.workspace.clock import machine_now
from monitoring.store.database.frames import from_us, to_us
from monitoring.store.database.records import ScoreRecord
from monitoring.store.predictions.future_rows import FutureRows, find_future_rows, move_future_rows

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace

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
            "found": {group.kind: _span(group) for group in self.found},
            "spooled": self.spooled,
            "moved": self.moved,
            "decision": self.decision,
            "next_step": self.next_step,
        }


def repair_log(workspace: Workspace, after: datetime | None, reason: str) -> LogRepair:
    """Move rows of the future into quarantine, and record that in the chain; without a reason show them.

    Args:
        home: use case, log and settings.
        after: rows of later times are of the future; none is the declared clock and what it allows.
        reason: why, for the chain; empty is a preview.

    Raises:
        FlowRefused: the time is missing where a stream's clock is declared, or lies in the machine's past.
        StoreUnavailable: what was moved before stays moved; start again.
        WindowsUnavailable: Redis is away, so the shared windows could not be told; nothing was moved.
    """
    limit_us = _limit_us(workspace, after)
    usecase, database = workspace.usecase.name, workspace.store.database
    future_rows = find_future_rows(database, usecase, limit_us)
    spool_records = spooled_records(workspace.settings.spool(usecase))
    spooled = sum(isinstance(item, ScoreRecord) and item.event_time > limit_us for item in spool_records)
    if not reason or not future_rows:
        return LogRepair(from_us(limit_us), future_rows, spooled, {}, None)
    if workspace.settings.redis_url:
        require_redis(workspace.settings.redis_url)
    # Written before the first row goes: whoever misses rows after a crash finds the reason.
    payload = {
        "model": workspace.model,
        "after": iso_text(limit_us),
        "rows": {item.kind: _span(item) for item in future_rows},
    }
    payload["reason"] = reason
    decision = workspace.store.decisions.append(usecase, "log.repaired", payload, workspace.actor, machine_now())
    moved_counts: Counter[str] = Counter()
    ids: list[str] = []
    for kind, event_ids in move_future_rows(database, usecase, limit_us):
        moved_counts[kind] += len(event_ids)
        ids += event_ids if kind == "event" else []
    return LogRepair(
        from_us(limit_us), future_rows, spooled, dict(moved_counts), decision.seq, _rebuild_windows(workspace, ids)
    )


def _limit_us(workspace: Workspace, after: datetime | None) -> int:
    bound = FutureBound(workspace.settings, machine_time_us)
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


def _rebuild_windows(workspace: Workspace, ids: Sequence[str]) -> str:
    """Make replicas that share windows build them anew; says what else is to be done."""
    if not ids:
        return ""
    if not workspace.settings.redis_url:
        return RESTART
    reset_shared_windows(workspace.settings.redis_url, shared_name(workspace.settings.env, workspace.usecase.name), ids)
    return ANEW


def _span(group: FutureRows) -> dict[str, Any]:
    return {"rows": group.rows, "first": group.first.isoformat(), "last": group.last.isoformat()}
