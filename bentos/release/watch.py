"""The watch after a promotion: looks at a new champion's answers and rolls it back when a guard fails.

It needs the database and the registry only, and runs beside the scribe. What is watched is a *term*: the
latest change of ``@champion``, if it was a promotion within the period. A version that the watch took out of
office once is left alone when people put it back in an emergency.

Machine time rules the guards on answers, business time the cost: the days of the period are judged as they
mature, and the log's own newest event says how far business time has come.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import numpy as np

from bentos.errors import StaleDecision
from bentos.promotion.comparison_plans import champion_label
from bentos.promotion.promote import Outcome, rollback
from bentos.promotion.state_machine import Check as Verification
from bentos.registry.ports import ModelRef, ModelRegistry
from bentos.registry.routing_policy import EXTERNAL
from bentos.usecase.definition import UseCase
from monitoring.core.calendar import TimeWindow
from monitoring.core.verdict import Check
from monitoring.performance.cost import prices_of
from monitoring.rollout.post_promotion_watch import (
    Alerts,
    Answers,
    Scores,
    breaches,
    judge_alerts,
    judge_answers,
    judge_harm,
    judge_scores,
)
from monitoring.store import Decision, Store
from monitoring.store.predictions.recent_pairs import Pairs, newest_event, pairs_before, pairs_since

log = logging.getLogger("incumbent.watch")

ACTOR = "watch"
KIND = "watch.breached"
_PROMOTED = "promotion.champion_set"
_DAY = timedelta(days=1)
_ENOUGH_ALERTS = 20
"""Alerts of each version below which nothing is expected of their ratio."""


@dataclass(frozen=True)
class Term:
    """A promotion that is being watched.

    Attributes:
        seq: its decision.
        old, new: the version that left office, none for an external score, and the one that came.
        since: machine time of the decision.
        at: business time of it.
    """

    seq: int
    old: str | None
    new: str
    since: datetime
    at: datetime


def watched(store: Store, usecase: UseCase, model: str, now: datetime) -> Term | None:
    """The term under watch at machine time ``now``; none after the period, or when no promotion began it.

    The period ends when its last day has matured; its guards on answers end earlier.
    """
    terms = store.decisions.terms(model, "champion")
    if not terms:
        return None
    version, _, seq = terms[-1]
    lines = store.decisions.list(usecase.name, (_PROMOTED,), after=seq - 1)
    line = next((one for one in lines if one.seq == seq), None)
    if version is None or line is None:
        return None
    old = line.payload["from_version"]
    if old is None and usecase.incumbent is None:
        return None
    length = usecase.watch.period + usecase.label.matures_after + 2 * _DAY
    if now - line.recorded_at > length or _taken_out(store, usecase.name, version, seq):
        return None
    return Term(seq, None if old is None else str(old), version, line.recorded_at, line.at)


def labels_of(usecase: UseCase, model: str, term: Term) -> tuple[str, str]:
    """How the log names who left office and who came."""
    old = champion_label(usecase, model, term.old)
    assert old is not None
    return old, ModelRef(model, term.new).label


class Watch:
    """Looks at whoever was promoted last.

    Args:
        registry, store: where roles, log and journal are.
        usecase: whose ``[watch]`` says what must hold.
        model: name in the registry.
        check: looks at a version's files before it is restored; none loads it in a process apart.
    """

    def __init__(
        self, registry: ModelRegistry, store: Store, usecase: UseCase, model: str, check: Verification | None = None
    ) -> None:
        self._registry = registry
        self._store = store
        self._usecase = usecase
        self._model = model
        self._check = check
        self._before: tuple[int, Pairs] | None = None
        self._harm: tuple[int, datetime, Check] | None = None
        self._told: int | None = None

    def run_once(self, now: datetime) -> Outcome | None:
        """Look once at machine time ``now``, and roll back if a guard fails; none while nothing is wrong.

        Raises:
            ReleaseError, StoreUnavailable: nothing was changed, or what was begun is resumed; look again.
        """
        term = watched(self._store, self._usecase, self._model, now)
        if term is None:
            return None
        checks = self.look(term, now)
        why = breaches(checks)
        if not why:
            return None
        noted = self._note(term, checks, now)
        if not self._usecase.watch.automatic:
            if self._told != term.seq:
                log.error("%s (decision %s); the use case leaves a rollback to people", why[0], noted.id)
                self._told = term.seq
            return None
        reason = f"{why[0]} (decision {noted.id})"
        log.error("rolling back version %s: %s", term.new, reason)
        done = rollback(
            self._registry, self._store, self._model, self._usecase, ACTOR, reason, now,
            wait_seconds=10.0, check=self._check, still=lambda: self._require(term, now),
        )  # fmt: skip
        # Another process was quicker: what follows from the rollback is its to do.
        return None if done.repeated else done

    def _require(self, term: Term, now: datetime) -> None:
        """Asked under the lease: somebody may have rolled back meanwhile, or put another version into office."""
        if watched(self._store, self._usecase, self._model, now) != term:
            raise StaleDecision(f"version {term.new} is not under watch any more: the office changed meanwhile")

    def look(self, term: Term, now: datetime) -> tuple[Check, ...]:
        """Every guard on a term: those on answers within the period, matured cost always."""
        harm = self._matured_harm(term, now)
        policy = self._usecase.watch
        if now - term.since > policy.period:
            return (harm,)
        old, new = labels_of(self._usecase, self._model, term)
        pairs = pairs_since(self._store.database, self._usecase.name, new, old, term.since)
        before = self._pairs_before(term, old, new)
        scores = judge_scores(policy, Scores(pairs.ours, before.theirs), Scores(pairs.theirs, before.ours))
        return (
            *judge_answers(policy, self._answers(term)),
            *judge_alerts(policy, _alerts(pairs, before)),
            scores,
            harm,
        )

    def _answers(self, term: Term) -> Answers:
        """What the replicas say of their own latest answers, those that serve the new version."""
        told = [
            json.loads(replica.detail).get("answers", {})
            for replica in self._store.serving.live(self._usecase.name)
            if replica.model == self._model and replica.version == term.new
        ]
        few = self._usecase.watch.min_events
        slow = [one["p99_ms"] for one in told if one.get("p99_ms") is not None and one["requests"] >= few]
        requests, failed = (sum(int(one.get(name, 0)) for one in told) for name in ("requests", "failed"))
        return Answers(requests, failed, max(slow, default=None))

    def _pairs_before(self, term: Term, old: str, new: str) -> Pairs:
        """Both versions on the newest events before the promotion, read once for each term."""
        if self._before is None or self._before[0] != term.seq:
            found = pairs_before(self._store.database, self._usecase.name, old, new, term.at, term.since)
            self._before = (term.seq, found)
        return self._before[1]

    def _matured_harm(self, term: Term, now: datetime) -> Check:
        """Matured cost of the term's days, read again when another day has matured."""
        usecase = self._usecase
        # Where a day is over in two seconds, as in a replay, machine time says nothing of what has matured.
        reached = min(now, newest_event(self._store.database, usecase.name) or now)
        until = usecase.calendar.matured_until(reached, usecase.label.matures_after)
        if self._harm is None or self._harm[:2] != (term.seq, until):
            harm = daily_harm(self._store, usecase, self._model, term, reached)
            self._harm = (term.seq, until, judge_harm(usecase.watch, harm, usecase.cost.currency))
        return self._harm[2]

    def _note(self, term: Term, checks: Sequence[Check], now: datetime) -> Decision:
        """Write the evidence into the chain, once for each term."""
        for line in self._store.decisions.list(self._usecase.name, (KIND,), after=term.seq):
            if line.payload["term"] == term.seq:
                return line
        payload = {
            "model": self._model, "term": term.seq, "version": term.new, "restored": term.old or EXTERNAL,
            "since": term.since.isoformat(), "until": now.isoformat(), "checks": [asdict(one) for one in checks],
        }  # fmt: skip
        return self._store.decisions.append(self._usecase.name, KIND, payload, ACTOR, now)


def daily_harm(store: Store, usecase: UseCase, model: str, term: Term, as_of: datetime) -> np.ndarray:
    """Cost of the new version less that of the old one on each whole, matured day of the period, oldest first.

    Amounts are capped as in the comparison that led to the promotion. Where flagged events are blocked, rows
    stand for others by their weights; where nobody stands for some of them, nothing is known: the frauds that only
    the new version blocked would be missing, and a better one would look worse.
    """
    calendar, policy = usecase.calendar, usecase.watch
    first = calendar.day_of(term.at) + _DAY
    start = calendar.start_of(first)
    end = min(as_of, calendar.start_of(first + _DAY * max(1, policy.period // _DAY)))
    if end <= start:
        return np.zeros(0)
    old, new = labels_of(usecase, model, term)
    money = usecase.cost.false_negative
    wanted = {money: usecase.column(money).type} if isinstance(money, str) else {}
    blocks = usecase.intervention.blocks_flagged
    window = TimeWindow(start, end)
    rows = store.log.paired(usecase.name, old, new, window, as_of, usecase.label, calendar, wanted, blocks)
    if "unseen" in rows and float(rows["unseen"].sum()) > 0.0:
        return np.zeros(0)
    prices = prices_of(usecase.cost, rows, _cap(store, usecase.name, old, new))
    harm = prices.of_rows(rows["y"], rows["flag_b"]) - prices.of_rows(rows["y"], rows["flag_a"])
    if "weight" in rows:
        harm = harm * rows["weight"].to_numpy()
    return rows.assign(harm=harm).groupby("day", sort=True)["harm"].sum().to_numpy(dtype=float)


def _cap(store: Store, usecase: str, old: str, new: str) -> float | None:
    plans = [one.plan for one in store.comparisons.list(usecase)]
    return next((p.cost_cap for p in reversed(plans) if (p.champion, p.challenger) == (old, new)), None)


def _alerts(pairs: Pairs, before: Pairs) -> Alerts:
    """Alerts on the same events, and the ratio that both had before the promotion."""
    ours, theirs = int(before.their_alerts.sum()), int(before.our_alerts.sum())
    expected = ours / theirs if min(ours, theirs) >= _ENOUGH_ALERTS else 1.0
    events = len(pairs)
    return Alerts(events, int(pairs.our_alerts.sum()), events, int(pairs.their_alerts.sum()), expected)


def _taken_out(store: Store, usecase: str, version: str, seq: int) -> bool:
    """Whether the watch took this version out before, and an emergency put it back without new evidence."""
    before = [one for one in store.decisions.list(usecase, (KIND,)) if one.seq < seq]
    if not any(one.payload["version"] == version for one in before):
        return False
    planned = [one for one in store.decisions.list(usecase, ("promotion.planned",)) if one.seq < seq]
    return bool(planned) and "emergency" in planned[-1].payload
