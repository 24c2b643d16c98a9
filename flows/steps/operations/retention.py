"""Which part of the log is still needed, by whom, and what goes when the rest is pruned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows.errors import FlowRefused
from monitoring.store.database.frames import to_us
from monitoring.store.predictions.retention import TABLES, OldDay, kept_reports, old_days, prune_table

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace

_EVIDENCE = ("predictions", "shadow", "labels", "actions")
_WINDOWS = ("predictions", "labels")


@dataclass(frozen=True)
class Need:
    """Rows from ``since`` (business time) on are needed in these tables, for this reason."""

    since: datetime
    tables: Sequence[str]
    reason: str


@dataclass(frozen=True)
class PruneResult:
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
            "tables": sum_by_table(self.days),
            "days": [{"table": d.table, "day": day_text(d.day), "rows": d.rows, "bytes": d.bytes} for d in self.days],
            "removed": self.removed,
            "kept_reports": self.kept_reports,
            "decision": self.decision,
        }


def prune_log(
    workspace: Workspace, tables: Sequence[str], age: timedelta, as_of: datetime, dry_run: bool
) -> PruneResult:
    """Remove rows older than ``age`` before ``as_of``, in whole UTC days, and record that in the chain.

    Raises:
        FlowRefused: something still needs such rows; the message names it and the longest age that is free.
    """
    start = datetime.combine((as_of - age).astimezone(UTC).date(), datetime.min.time(), UTC)
    require_unneeded(list_needs(workspace), tables, start)
    database, usecase, before_us = workspace.store.database, workspace.usecase.name, to_us(start)
    days = [day for table in tables for day in old_days(database, usecase, table, before_us)]
    report_count = kept_reports(database, usecase, before_us) if "reports" in tables else 0
    if dry_run:
        return PruneResult(start, days, {}, report_count, None)
    # Written before the first row goes: whoever misses rows after a crash finds the reason.
    payload = {"model": workspace.model, "before": start.isoformat(), "tables": sum_by_table(days)}
    decision = workspace.store.decisions.append(usecase, "log.pruned", payload, workspace.actor, as_of)
    removed = {table: prune_table(database, usecase, table, before_us) for table in tables}
    return PruneResult(start, days, removed, report_count, decision.seq)


def require_unneeded(all_needs: Sequence[Need], tables: Sequence[str], before: datetime) -> None:
    """Raise :class:`FlowRefused` when a row before the limit is needed."""
    violated = [need for need in all_needs if need.since < before and set(need.tables) & set(tables)]
    if not violated:
        return
    first = min(need.since for need in violated)
    sentence = "; ".join(
        f"{need.reason} needs {', '.join(need.tables)} from {need.since:%Y-%m-%d} on" for need in violated
    )
    raise FlowRefused(f"nothing was pruned: {sentence}. Rows before {first:%Y-%m-%d} may go: choose a greater age")


def list_needs(workspace: Workspace) -> list[Need]:
    """Open comparisons, and the longest window of the use case and of every model in a role."""
    all_needs = [
        Need(
            workspace.usecase.calendar.start_of(comparison.plan.first_day),
            _EVIDENCE,
            f"the comparison {comparison.id} of {comparison.plan.challenger} with {comparison.plan.champion}, "
            "which is under way,",
        )
        for comparison in workspace.store.comparisons.list(workspace.usecase.name)
        if comparison.closed_at is None
    ]
    span, reach = workspace.store.log.span(workspace.usecase.name), _reach(workspace)
    if span is not None and reach:
        newest = min(span[2], datetime.now(UTC))
        all_needs.append(Need(newest - reach - timedelta(days=1), _WINDOWS, f"the longest window ({reach.days} days)"))
    return all_needs


def _reach(workspace: Workspace) -> timedelta:
    from bentos.features.plan import FeaturePlan

    plans = [FeaturePlan.of(workspace.usecase)]
    plans += [workspace.load(ref).plan for ref in workspace.registry.roles(workspace.model).values()]
    longest = max((spec.over + spec.delay for plan in plans for spec in plan.specs), default=0)
    return timedelta(microseconds=longest)


def sum_by_table(days: Sequence[OldDay]) -> dict[str, dict[str, Any]]:
    """Rows, bytes, first and last day of each table."""
    sums: dict[str, dict[str, Any]] = {}
    for table in TABLES:
        table_days = [day for day in days if day.table == table]
        if table_days:
            sums[table] = {
                "rows": sum(day.rows for day in table_days),
                "bytes": sum(day.bytes for day in table_days),
                "first_day": day_text(table_days[0].day),
                "last_day": day_text(table_days[-1].day),
            }
    return sums


def day_text(day: int) -> str:
    """A UTC day since 1970 as ISO text."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()
