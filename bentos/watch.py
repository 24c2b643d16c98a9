"""The watch after a promotion: looks at a new champion's answers and rolls it back when a guard fails.

It needs the database and the registry only. What is watched is a *term*: the latest change of ``@champion``,
if it was a promotion within the period. A version that the watch took out of office once is left alone when
people put it back in an emergency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import and_, func, select

from bentos.release import Outcome, rollback
from bentos.release_steps import Check as Verification
from bentos.roles import ModelRegistry
from bentos.usecase import UseCase
from monitoring.gates import Check
from monitoring.store import Decision, Store
from monitoring.store.tables import predictions, shadow
from monitoring.watch import Alerts, WatchPolicy, breaches, judge_alerts

ACTOR = "watch"
KIND = "watch.breached"
_PROMOTED = "promotion.champion_set"
_NEWEST = 5_000


@dataclass(frozen=True)
class Term:
    """A promotion that is being watched: its decision, who left and who came, and since when (machine time)."""

    seq: int
    old: str
    new: str
    since: datetime


def watched(store: Store, usecase: str, model: str, policy: WatchPolicy, now: datetime) -> Term | None:
    """The term under watch at machine time ``now``; none after the period, or when no promotion began it."""
    terms = store.decisions.terms(model, "champion")
    if not terms:
        return None
    version, _, seq = terms[-1]
    lines = store.decisions.list(usecase, (_PROMOTED,), after=seq - 1)
    line = next((one for one in lines if one.seq == seq), None)
    if version is None or line is None or line.payload["from_version"] is None:
        return None
    if now - line.recorded_at > policy.period or _taken_out(store, usecase, version, seq):
        return None
    return Term(seq, str(line.payload["from_version"]), version, line.recorded_at)


def look_at(store: Store, usecase: str, model: str, term: Term, policy: WatchPolicy) -> tuple[Check, ...]:
    """The guards on the newest answers of a term that the old version has scored in reverse shadow."""
    return judge_alerts(policy, paired_alerts(store, usecase, model, term))


def paired_alerts(store: Store, usecase: str, model: str, term: Term) -> Alerts:
    """Alerts of both versions on the newest 5,000 events of the term that both have judged."""
    p, s = predictions.c, shadow.c
    same = and_(s.usecase == p.usecase, s.model == model, s.version == term.old, s.event_id == p.event_id)
    since = int(term.since.timestamp() * 1e6)
    rows = select(p.decision.label("ours"), s.decision.label("theirs")).select_from(predictions.join(shadow, same))
    rows = rows.where(p.usecase == usecase, p.model == model, p.version == term.new, p.origin == "live")
    rows = rows.where(p.received_at >= since, s.error.is_(None)).order_by(p.row_id.desc()).limit(_NEWEST)
    newest = rows.subquery()
    query = select(func.count(), func.sum(newest.c.ours), func.sum(newest.c.theirs)).select_from(newest)
    with store.database.read() as connection:
        events, ours, theirs = connection.execute(query).one()
    return Alerts(int(events), int(ours or 0), int(events), int(theirs or 0))


def run_once(
    registry: ModelRegistry,
    store: Store,
    usecase: UseCase,
    model: str,
    policy: WatchPolicy,
    now: datetime,
    check: Verification | None = None,
) -> Outcome | None:
    """Look once, and roll back if a guard fails; none while nothing is wrong.

    Raises:
        ReleaseError, StoreUnavailable: nothing was changed, or what was begun is resumed; look again.
    """
    term = watched(store, usecase.name, model, policy, now)
    if term is None:
        return None
    checks = look_at(store, usecase.name, model, term, policy)
    why = breaches(checks)
    if not why:
        return None
    noted = _note(store, usecase.name, model, term, checks, now)
    reason = f"{why[0]} (decision {noted.id})"
    return rollback(registry, store, model, usecase, ACTOR, reason, now, wait_seconds=10.0, check=check)


def _note(store: Store, usecase: str, model: str, term: Term, checks: Sequence[Check], now: datetime) -> Decision:
    """Write the evidence into the chain, once for each term."""
    for line in store.decisions.list(usecase, (KIND,), after=term.seq):
        if line.payload["term"] == term.seq:
            return line
    payload = {
        "model": model, "term": term.seq, "version": term.new, "restored": term.old,
        "since": term.since.isoformat(), "until": now.isoformat(), "checks": [asdict(one) for one in checks],
    }  # fmt: skip
    return store.decisions.append(usecase, KIND, payload, ACTOR, now)


def _taken_out(store: Store, usecase: str, version: str, seq: int) -> bool:
    """Whether the watch took this version out before, and an emergency put it back without new evidence."""
    before = [one for one in store.decisions.list(usecase, (KIND,)) if one.seq < seq]
    if not any(one.payload["version"] == version for one in before):
        return False
    planned = [one for one in store.decisions.list(usecase, ("promotion.planned",)) if one.seq < seq]
    return bool(planned) and "emergency" in planned[-1].payload
