"""The database of one environment: one protocol for each aggregate, opened by :func:`open_store`.

It takes names and policies, never a use case. Read ``records.py`` for what it stores and each
module for what it promises.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.store.database.engine import MEMORY_URL, Database
from monitoring.store.database.migrate import upgrade_database
from monitoring.store.database.records import (
    ActionRecord,
    AppendResult,
    LabelRecord,
    LabelResult,
    Origin,
    PlanRecord,
    ScoreRecord,
    ShadowRecord,
    StoredEvent,
    StoredLabel,
    model_label,
    split_label,
)
from monitoring.store.decisions.comparisons import Comparisons, StoredComparison
from monitoring.store.decisions.decisions import Decision, Decisions, RoleChange
from monitoring.store.decisions.journal import Journal, Lease, Operation
from monitoring.store.decisions.overrides import Orders, Overrides, Pin, ThresholdOrder
from monitoring.store.operations.heartbeats import Heartbeats
from monitoring.store.operations.notices import NoticeEntry, Notices, StandingCondition, WaitingNotice
from monitoring.store.operations.open_alerts import OpenAlert, OpenAlerts
from monitoring.store.operations.replicas import Replica, Serving
from monitoring.store.operations.reports import Report, ReportKind, Reports
from monitoring.store.operations.runs import Run, Runs
from monitoring.store.predictions.actions import Actions
from monitoring.store.predictions.arm_counts import Arms
from monitoring.store.predictions.labels import Labels
from monitoring.store.predictions.log import PredictionLog
from monitoring.store.predictions.paired import PairedCounts
from monitoring.store.predictions.shadow_scores import ShadowLog, ShadowProgress
from monitoring.store.predictions.spool_ledger import Accounting, SpoolLedger


@dataclass(frozen=True)
class Store:
    """Every aggregate on one database. Safe to share between threads; close it when done."""

    log: PredictionLog
    shadow: ShadowLog
    labels: Labels
    ledger: SpoolLedger
    decisions: Decisions
    journal: Journal
    reports: Reports
    runs: Runs
    serving: Serving
    orders: Orders
    database: Database
    comparisons: Comparisons
    arms: Arms
    actions: Actions
    alerts: OpenAlerts
    notices: Notices
    heartbeats: Heartbeats

    def close(self) -> None:
        """Close all connections."""
        self.database.dispose()


def open_store(url: str, busy_seconds: float = 5.0) -> Store:
    """Open a database and bring it to the present tables.

    Args:
        url: ``sqlite:////abs/log.db``, ``postgresql://...`` or ``memory://`` (gone when closed).
        busy_seconds: how long SQLite waits for another writer before ``StoreUnavailable``.

    Raises:
        StoreUnavailable: it cannot be reached or stays locked.
        StoreError: the URL is of another kind, or a newer version made the database.
    """
    database = Database(url, int(busy_seconds * 1000))
    try:
        upgrade_database(database)
    except BaseException:
        database.dispose()
        raise
    return Store(
        log=PredictionLog(database),
        shadow=ShadowLog(database),
        labels=Labels(database),
        ledger=SpoolLedger(database),
        decisions=Decisions(database),
        journal=Journal(database),
        reports=Reports(database),
        runs=Runs(database),
        serving=Serving(database),
        orders=Orders(database),
        database=database,
        comparisons=Comparisons(database),
        arms=Arms(database),
        actions=Actions(database),
        alerts=OpenAlerts(database),
        notices=Notices(database),
        heartbeats=Heartbeats(database),
    )


def memory_store() -> Store:
    """A store in memory: SQLite's own, so that it keeps every rule of the real one."""
    return open_store(MEMORY_URL)


__all__ = [
    "Accounting",
    "ActionRecord",
    "Actions",
    "AppendResult",
    "Arms",
    "Comparisons",
    "Database",
    "Decision",
    "Decisions",
    "Heartbeats",
    "Journal",
    "LabelRecord",
    "LabelResult",
    "Labels",
    "Lease",
    "NoticeEntry",
    "Notices",
    "OpenAlert",
    "OpenAlerts",
    "Operation",
    "Orders",
    "Origin",
    "Overrides",
    "PairedCounts",
    "Pin",
    "PlanRecord",
    "PredictionLog",
    "Replica",
    "Report",
    "ReportKind",
    "Reports",
    "RoleChange",
    "Run",
    "Runs",
    "ScoreRecord",
    "Serving",
    "ShadowLog",
    "ShadowProgress",
    "ShadowRecord",
    "SpoolLedger",
    "StandingCondition",
    "Store",
    "StoredComparison",
    "StoredEvent",
    "StoredLabel",
    "ThresholdOrder",
    "WaitingNotice",
    "memory_store",
    "model_label",
    "open_store",
    "split_label",
]
