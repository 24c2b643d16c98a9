"""Which part of the log is still needed, by whom, and what goes when the rest is pruned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.errors import FlowRefused
from monitoring.store.database.frames import to_us
from monitoring.store.predictions.retention import TABLES, OldDay, kept_reports, old_days, prune

if TYPE_CHECKING:
    from flows.workspace.workspace import House

_EVIDENCE = ("predictions", "shadow", "labels", "actions")
_WINDOWS = ("predictions", "labels")


@dataclass(frozen=True)
class Need:
    """Rows from ``since`` (business time) on are needed in these tables, for this reason."""

    since: datetime
    tables: Sequence[str]
    reason: str


@dataclass(frozen=True)
class Pruning:
    """What was found and, unless it was a dry run, removed.

    Attributes:
        before: the limit: rows of earlier days.
        days: rows and bytes by table and day.
        removed: rows that were removed, by table; empty for a dry run.
        kept_reports: old reports that stay because a decision rests on them.
        decision: number of the decision that records it; none for a dry run.
    """

    before: datetime
    days: Sequence[OldDay]
    removed: dict[str, int]
    kept_reports: int
    decision: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; ``tables`` sums up ``days``."""
        return {
            "before": self.before.isoformat(),
            "dry_run": self.decision is None,
            "tables": totals(self.days),
            "days": [{"table": d.table, "day": day_text(d.day), "rows": d.rows, "bytes": d.bytes} for d in self.days],
            "removed": self.removed,
            "kept_reports": self.kept_reports,
            "decision": self.decision,
        }


def prune_log(house: House, tables: Sequence[str], age: timedelta, as_of: datetime, dry_run: bool) -> Pruning:
    """Remove rows older than ``age`` before ``as_of``, in whole UTC days, and record that in the chain.

    Raises:
        FlowRefused: something still needs such rows; the message names it and the longest age that is free.
    """
    start = datetime.combine((as_of - age).astimezone(UTC).date(), datetime.min.time(), UTC)
    refuse_what_is_needed(needs(house), tables, start)
    database, usecase, before = house.store.database, house.usecase.name, to_us(start)
    days = [day for table in tables for day in old_days(database, usecase, table, before)]
    kept = kept_reports(database, usecase, before) if "reports" in tables else 0
    if dry_run:
        return Pruning(start, days, {}, kept, None)
    # Written before the first row goes: whoever misses rows after a crash finds the reason.
    payload = {"model": house.model, "before": start.isoformat(), "tables": totals(days)}
    made = house.store.decisions.append(usecase, "log.pruned", payload, house.actor, as_of)
    removed = {table: prune(database, usecase, table, before) for table in tables}
    return Pruning(start, days, removed, kept, made.seq)


def refuse_what_is_needed(found: Sequence[Need], tables: Sequence[str], before: datetime) -> None:
    """Raise :class:`FlowRefused` when a row before the limit is needed."""
    broken = [need for need in found if need.since < before and set(need.tables) & set(tables)]
    if not broken:
        return
    first = min(need.since for need in broken)
    said = "; ".join(f"{need.reason} needs {', '.join(need.tables)} from {need.since:%Y-%m-%d} on" for need in broken)
    raise FlowRefused(f"nothing was pruned: {said}. Rows before {first:%Y-%m-%d} may go: choose a greater age")


def needs(house: House) -> list[Need]:
    """Open comparisons, and the longest window of the use case and of every model in a role."""
    found = [
        Need(
            house.usecase.calendar.start_of(one.plan.first_day),
            _EVIDENCE,
            f"the comparison {one.id} of {one.plan.challenger} with {one.plan.champion}, which is under way,",
        )
        for one in house.store.comparisons.list(house.usecase.name)
        if one.closed_at is None
    ]
    span, reach = house.store.log.span(house.usecase.name), _reach(house)
    if span is not None and reach:
        newest = min(span[2], datetime.now(UTC))
        found.append(Need(newest - reach - timedelta(days=1), _WINDOWS, f"the longest window ({reach.days} days)"))
    return found


def _reach(house: House) -> timedelta:
    from bentos.features.plan import FeaturePlan

    plans = [FeaturePlan.of(house.usecase)]
    plans += [house.load(ref).plan for ref in house.registry.roles(house.model).values()]
    longest = max((spec.over + spec.delay for plan in plans for spec in plan.specs), default=0)
    return timedelta(microseconds=longest)


def totals(days: Sequence[OldDay]) -> dict[str, dict[str, Any]]:
    """Rows, bytes, first and last day of each table."""
    found: dict[str, dict[str, Any]] = {}
    for table in TABLES:
        ours = [day for day in days if day.table == table]
        if ours:
            found[table] = {
                "rows": sum(day.rows for day in ours),
                "bytes": sum(day.bytes for day in ours),
                "first_day": day_text(ours[0].day),
                "last_day": day_text(ours[-1].day),
            }
    return found


def day_text(day: int) -> str:
    """A UTC day since 1970 as ISO text."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()
