"""What the exporter tells of matters that people must hear of: what acted by itself, what waits, what is dead.

Beside the notices (:mod:`flows.notify`), and from the same tables: so the alerts fire too where nobody is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from monitoring.exporter.catalogue import Sample, sample, samples
from monitoring.exporter.dependencies import probe_all
from monitoring.metrics.exposition import ALL
from monitoring.store import Decision, Store

_MAX_DECISIONS: Final = 200
_PART_RETIRED_AFTER: Final = timedelta(days=7)
"""A part that has been silent for so long is no part any more: the use case was retired, or moved."""
_ROLLBACKS: Final = ("rollback.champion_set", "rollback.pinned", "rollback.external")
_ACT_BY_ACTOR: Final = {"watch": "rollback", "expiry": "emergency_end"}
"""Who rolls back by itself, and what that is: written by ``bentos.release.watch`` and ``bentos.release.expiry``; a test
compares.
"""


def attention_samples(store: Store, usecase: str, now: datetime) -> Iterator[Sample]:
    """Every figure of one use case at machine time ``now``."""
    yield from _automatic_actions(store, usecase)
    yield from _approvals(store, usecase, now)
    yield from _killed_flows(store, usecase)
    yield from _conditions(store, usecase, usecase, now)
    for part, (_, age) in store.heartbeats.seen(usecase).items():
        if age < _PART_RETIRED_AFTER.total_seconds():
            yield from sample("heartbeat_age_seconds", usecase, age, part)


def environment_samples(store: Store, now: datetime) -> Iterator[Sample]:
    """What concerns every use case of the environment."""
    yield from _conditions(store, "", ALL, now)
    for target, count, since, _ in store.notices.problems():
        yield from sample("notices_undelivered", ALL, count, target)
        yield from sample("notice_undelivered_seconds", ALL, (now - since).total_seconds(), target)


def dependency_samples(**urls: Any) -> Iterator[Sample]:
    """Whether each service that has an address answers; see :func:`monitoring.exporter.dependencies.probe_all`."""
    for dependency in probe_all(**urls):
        yield from sample("dependency_up", ALL, int(dependency.up), dependency.name)


def _automatic_actions(store: Store, usecase: str) -> Iterator[Sample]:
    """When something last acted by itself."""
    newest_by_kind: dict[str, datetime] = {}
    for kinds in (_ROLLBACKS, ("routing",)):  # a ramp of many steps must not push a rollback out
        for decision in store.decisions.list(usecase, kinds, limit=_MAX_DECISIONS):
            if act_kind := _automatic_kind(decision):
                newest_by_kind[act_kind] = decision.recorded_at
    rows = [((act_kind,), at.timestamp()) for act_kind, at in sorted(newest_by_kind.items())]
    yield from samples("automatic_timestamp_seconds", usecase, rows)


def _automatic_kind(decision: Decision) -> str | None:
    if decision.kind in _ROLLBACKS:
        return _ACT_BY_ACTOR.get(decision.actor)
    return "ramp_return" if decision.payload.get("event") == "ramp.returned" else None


def _approvals(store: Store, usecase: str, now: datetime) -> Iterator[Sample]:
    """Age of the promotion that waits for a person longest; none while none waits."""
    approval_decisions = store.decisions.list(
        usecase, ("approval.requested", "approval.granted", "approval.rejected"), limit=_MAX_DECISIONS
    )
    answered_requests = {
        int(decision.payload["request"]) for decision in approval_decisions if decision.kind != "approval.requested"
    }
    waiting_since = [
        decision.recorded_at
        for decision in approval_decisions
        if decision.kind == "approval.requested"
        and decision.seq not in answered_requests
        and datetime.fromisoformat(str(decision.payload["due"])) > now
    ]
    age = None if not waiting_since else (now - min(waiting_since)).total_seconds()
    yield from sample("approval_waiting_seconds", usecase, age)


def _killed_flows(store: Store, usecase: str) -> Iterator[Sample]:
    """Whether the last finished run of each flow was killed, however long ago it ended."""
    ended_runs = store.runs.last_ended(usecase)
    newest_runs = {run.flow: run for run in sorted(ended_runs, key=lambda run: run.ended_at or run.started_at)}
    rows = [((flow,), int(run.state == "killed")) for flow, run in newest_runs.items()]
    yield from samples("flow_killed", usecase, sorted(rows))


def _conditions(store: Store, stored_usecase: str, usecase: str, now: datetime) -> Iterator[Sample]:
    """Age of what the notifier has found and told, and not seen end yet."""
    for condition in store.notices.standing(stored_usecase):
        if condition.told_at is not None and condition.cleared_at is None:
            age = (now - condition.since).total_seconds()
            yield from sample("condition_seconds", usecase, age, condition.watch, condition.subject)
