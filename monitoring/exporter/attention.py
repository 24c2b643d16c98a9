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

_LIMIT: Final = 200
_RETIRED: Final = timedelta(days=7)
"""A part that has been silent for so long is no part any more: the use case was retired, or moved."""
_ROLLBACKS: Final = ("rollback.champion_set", "rollback.pinned", "rollback.external")
_ACTORS: Final = {"watch": "rollback", "expiry": "emergency_end"}
"""Who rolls back by itself, and what that is: written by ``bentos.release.watch`` and ``bentos.release.expiry``; a test
compares.
"""


def attention(store: Store, usecase: str, now: datetime) -> Iterator[Sample]:
    """Every figure of one use case at machine time ``now``."""
    yield from _acted(store, usecase)
    yield from _approvals(store, usecase, now)
    yield from _killed(store, usecase)
    yield from _conditions(store, usecase, usecase, now)
    for part, (_, age) in store.heartbeats.seen(usecase).items():
        if age < _RETIRED.total_seconds():
            yield from sample("heartbeat_age_seconds", usecase, age, part)


def everywhere(store: Store, now: datetime) -> Iterator[Sample]:
    """What concerns every use case of the environment."""
    yield from _conditions(store, "", ALL, now)
    for target, count, since, _ in store.notices.problems():
        yield from sample("notices_undelivered", ALL, count, target)
        yield from sample("notice_undelivered_seconds", ALL, (now - since).total_seconds(), target)


def dependencies(**urls: Any) -> Iterator[Sample]:
    """Whether each service that has an address answers; see :func:`monitoring.exporter.dependencies.probe_all`."""
    for one in probe_all(**urls):
        yield from sample("dependency_up", ALL, int(one.up), one.name)


def _acted(store: Store, usecase: str) -> Iterator[Sample]:
    """When something last acted by itself."""
    newest: dict[str, datetime] = {}
    for kinds in (_ROLLBACKS, ("routing",)):  # a ramp of many steps must not push a rollback out
        for line in store.decisions.list(usecase, kinds, limit=_LIMIT):
            if act := _act(line):
                newest[act] = line.recorded_at
    rows = [((act,), at.timestamp()) for act, at in sorted(newest.items())]
    yield from samples("automatic_timestamp_seconds", usecase, rows)


def _act(line: Decision) -> str | None:
    if line.kind in _ROLLBACKS:
        return _ACTORS.get(line.actor)
    return "ramp_return" if line.payload.get("event") == "ramp.returned" else None


def _approvals(store: Store, usecase: str, now: datetime) -> Iterator[Sample]:
    """Age of the promotion that waits for a person longest; none while none waits."""
    lines = store.decisions.list(usecase, ("approval.requested", "approval.granted", "approval.rejected"), limit=_LIMIT)
    answered = {int(line.payload["request"]) for line in lines if line.kind != "approval.requested"}
    waiting = [
        line.recorded_at
        for line in lines
        if line.kind == "approval.requested"
        and line.seq not in answered
        and datetime.fromisoformat(str(line.payload["due"])) > now
    ]
    age = None if not waiting else (now - min(waiting)).total_seconds()
    yield from sample("approval_waiting_seconds", usecase, age)


def _killed(store: Store, usecase: str) -> Iterator[Sample]:
    """Whether the last finished run of each flow was killed, however long ago it ended."""
    ended = store.runs.last_ended(usecase)
    newest = {run.flow: run for run in sorted(ended, key=lambda run: run.ended_at or run.started_at)}
    rows = [((flow,), int(run.state == "killed")) for flow, run in newest.items()]
    yield from samples("flow_killed", usecase, sorted(rows))


def _conditions(store: Store, kept_as: str, usecase: str, now: datetime) -> Iterator[Sample]:
    """Age of what the notifier has found and told, and not seen end yet."""
    for one in store.notices.standing(kept_as):
        if one.told_at is not None and one.cleared_at is None:
            age = (now - one.since).total_seconds()
            yield from sample("condition_seconds", usecase, age, one.watch, one.subject)
