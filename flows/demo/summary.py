"""The figures that the demo ends with, read from the database; only what reached the client is its own word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from bentos.usecase.definition import UseCase
from flows.steps.operations.replay_events import ReplayTally
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from monitoring.store import Decision, Store

_DAY = timedelta(days=1)
_SIDES = ("champion", "challenger")
_GATE_FIGURES = ("auc_roc", "average_precision", "profit_per_customer", "profit_above_everybody")


@dataclass(frozen=True)
class Swap:
    """A change of champion: from which version to which, and how long until the first answer by the new one."""

    from_version: str | None
    to_version: str
    seconds: float | None


def find_swaps(store: Store, usecase: UseCase, model: str, window: TimeWindow) -> dict[str, Swap]:
    """The latest promotion and rollback.

    The time runs from the journal's row that follows the alias write to the first answer that arrived
    later and names the new version.
    """
    answers = store.log.answers(usecase.name, window)
    by_kind: dict[str, Swap] = {}
    for decision in store.decisions.list(usecase.name, limit=100_000):
        kind, version = _champion_change(decision, model)
        if kind is None or version is None:
            continue
        since = answers[(answers["version"] == version) & (answers["received_at"] >= decision.recorded_at)]
        seconds = None if since.empty else (since["received_at"].min() - decision.recorded_at).total_seconds()
        by_kind[kind] = Swap(decision.payload.get("from_version"), version, seconds)
    return by_kind


def summarise(
    store: Store, usecase: UseCase, model: str, live: TimeWindow, shift_day: int, client: ReplayTally
) -> dict[str, Any]:
    """What ``summary.json`` holds.

    Args:
        store: the demo's database.
        usecase: name and calendar.
        model: name in the registry.
        live: event times of the replayed traffic.
        shift_day: live day on which the world changed, counted from 0.
        client: what the client counted: answers that it got, and requests that failed and left no row.
    """
    answers = store.log.answers(usecase.name, live)
    changes = find_swaps(store, usecase, model, live)
    verdict = _last_promoting(store, usecase)
    promotion, rollback = changes.get("promotion"), changes.get("rollback")
    return {
        "rows_scored": client.answered,
        "rows_logged": store.log.count(usecase.name, live),
        "failed_requests": client.failed,
        "days": int(answers["event_time"].dt.floor("D").nunique()),
        "shift_day": shift_day,
        "noticed_day": _day_noticed(store, usecase, live, shift_day),
        "champion_version": promotion.from_version if promotion else None,
        "challenger_version": promotion.to_version if promotion else None,
        "champion": _role_figures(verdict, "champion"),
        "challenger": _role_figures(verdict, "challenger"),
        "gates": {verdict[role]: _gate_metrics(store, usecase, verdict[role]) for role in _SIDES if role in verdict},
        "matured_days": verdict.get("days"),
        "currency": verdict.get("currency"),
        "promotion_seconds": promotion.seconds if promotion else None,
        "rollback_seconds": rollback.seconds if rollback else None,
    }


def _champion_change(decision: Decision, model: str) -> tuple[str | None, str | None]:
    """Kind and new champion, if this row says that ``@champion`` moved."""
    for change in decision.payload.get("roles", ()):
        if change["model"] == model and change["role"] == "champion" and change["version"] is not None:
            return decision.kind.partition(".")[0], str(change["version"])
    return None, None


def _day_noticed(store: Store, usecase: UseCase, live: TimeWindow, shift_day: int) -> int | None:
    """The last live day that the first alarm after the shift had seen."""
    for report in store.reports.list(usecase.name, "drift", since=live.start + shift_day * _DAY):
        if report.outcome in ("warning", "severe"):
            return _day_before(report.as_of, live)
    return None


def _day_before(as_of: datetime, live: TimeWindow) -> int:
    return (as_of - live.start - timedelta(microseconds=1)) // _DAY


def _last_promoting(store: Store, usecase: UseCase) -> Mapping[str, Any]:
    for report in reversed(store.reports.list(usecase.name, "comparison")):
        if report.outcome == "promote":
            result: Mapping[str, Any] = report.payload["result"]
            return result
    return {}


def _gate_metrics(store: Store, usecase: UseCase, label: str) -> dict[str, Any]:
    """What the gates saw of a version when it was trained, with intervals."""
    report = store.reports.latest(usecase.name, "training", challenger=label)
    if report is None:
        return {}
    metrics = report.payload["evidence"]["metrics"]
    return {name: metrics[name] for name in _GATE_FIGURES if name in metrics}


def _role_figures(result: Mapping[str, Any], role: str) -> dict[str, Any]:
    return {"version": result.get(role), "recall": result.get(f"recall_{role}"), "cost": result.get(f"cost_{role}")}
