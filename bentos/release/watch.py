"""The watch after a promotion: looks at a new champion's answers and rolls it back when a guard fails.

It needs the database and the registry only, and runs beside the scribe. What is watched is a *term*: the
latest change of ``@champion``, if it was a promotion within the period. A version that the watch took out of
the role once is left alone when people put it back in an emergency.

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
from bentos.promotion.context import ReleaseContext
from bentos.promotion.promote import ReleaseOutcome, Request, rollback
from bentos.registry.ports import ModelRef
from bentos.registry.routing_policy import EXTERNAL
from bentos.usecase.definition import UseCase
from monitoring.core.calendar import TimeWindow
from monitoring.core.verdict import Check
from monitoring.performance.cost import prices_of
from monitoring.policies.label_rules import LabelRules
from monitoring.rollout.post_promotion_watch import (
    AlertCounts,
    Answers,
    ScorePair,
    breaches,
    judge_alerts,
    judge_answers,
    judge_harm,
    judge_scores,
)
from monitoring.store import Decision, Store
from monitoring.store.predictions.recent_pairs import Pairs, newest_event, read_pairs_before, read_pairs_since

log = logging.getLogger("incumbent.watch")

ACTOR = "watch"
KIND = "watch.breached"
_PROMOTION_KIND = "promotion.champion_set"
_DAY = timedelta(days=1)
_ENOUGH_ALERTS = 20
"""Alerts of each version below which nothing is expected of their ratio."""


@dataclass(frozen=True)
class WatchTerm:
    """A promotion that is being watched.

    Attributes:
        seq: its decision.
        old, new: the version that was replaced, none for an external score, and the one that came.
        since: machine time of the decision.
        at: business time of it.
    """

    seq: int
    old: str | None
    new: str
    since: datetime
    at: datetime


def watched_term(store: Store, usecase: UseCase, model: str, now: datetime) -> WatchTerm | None:
    """The term under watch at machine time ``now``; none after the period, or when no promotion began it.

    The period ends when its last day has matured; its guards on answers end earlier.
    """
    terms = store.decisions.terms(model, "champion")
    if not terms:
        return None
    version, _, seq = terms[-1]
    line = store.decisions.numbered(seq)
    if version is None or line is None or (line.usecase, line.kind) != (usecase.name, _PROMOTION_KIND):
        return None
    from_version = line.payload["from_version"]
    if from_version is None and usecase.incumbent is None:
        return None
    length = usecase.watch.period + usecase.label.matures_after + 2 * _DAY
    if now - line.recorded_at > length or _was_taken_out(store, usecase.name, version, seq):
        return None
    return WatchTerm(seq, None if from_version is None else str(from_version), version, line.recorded_at, line.at)


def labels_of(usecase: UseCase, model: str, term: WatchTerm) -> tuple[str, str]:
    """How the log names who was replaced and who came."""
    old_label = champion_label(usecase, model, term.old)
    assert old_label is not None
    return old_label, ModelRef(model, term.new).label


class Watch:
    """Looks at whoever was promoted last.

    Args:
        context: where roles, log and journal are; the use case's ``[watch]`` says what must hold.
    """

    def __init__(self, context: ReleaseContext) -> None:
        self._context = context
        self._store = context.store
        self._usecase = context.usecase
        self._model = context.model
        self._before: tuple[int, Pairs] | None = None
        self._harm: tuple[int, datetime, Check] | None = None
        self._reported_term: int | None = None

    def run_once(self, now: datetime) -> ReleaseOutcome | None:
        """Look once at machine time ``now``, and roll back if a guard fails; none while nothing is wrong.

        Raises:
            ReleaseError, StoreUnavailable: nothing was changed, or what was begun is resumed; look again.
        """
        term = watched_term(self._store, self._usecase, self._model, now)
        if term is None:
            return None
        checks = self.look(term, now)
        reasons = breaches(checks)
        if not reasons:
            return None
        decision = self._note(term, checks, now)
        if not self._usecase.watch.automatic:
            if self._reported_term != term.seq:
                log.error("%s (decision %s); the use case leaves a rollback to people", reasons[0], decision.id)
                self._reported_term = term.seq
            return None
        reason = f"{reasons[0]} (decision {decision.id})"
        log.error("rolling back version %s: %s", term.new, reason)
        outcome = rollback(self._context, Request(ACTOR, reason, now), recheck=lambda: self._require(term, now))
        # Another process was quicker: what follows from the rollback is its to do.
        return None if outcome.repeated else outcome

    def _require(self, term: WatchTerm, now: datetime) -> None:
        """Asked under the lease: somebody may have rolled back meanwhile, or promoted another version."""
        if watched_term(self._store, self._usecase, self._model, now) != term:
            raise StaleDecision(f"version {term.new} is not under watch any more: the champion changed meanwhile")

    def look(self, term: WatchTerm, now: datetime) -> tuple[Check, ...]:
        """Every guard on a term: those on answers within the period, matured cost always."""
        harm = self._matured_harm(term, now)
        policy = self._usecase.watch
        if now - term.since > policy.period:
            return (harm,)
        old_label, new_label = labels_of(self._usecase, self._model, term)
        pairs = read_pairs_since(self._store.database, self._usecase.name, new_label, old_label, term.since)
        earlier_pairs = self._pairs_before(term, old_label, new_label)
        scores = judge_scores(
            policy, ScorePair(pairs.ours, earlier_pairs.theirs), ScorePair(pairs.theirs, earlier_pairs.ours)
        )
        return (
            *judge_answers(policy, self._answers(term)),
            *judge_alerts(policy, _alerts(pairs, earlier_pairs)),
            scores,
            harm,
        )

    def _answers(self, term: WatchTerm) -> Answers:
        """What the replicas say of their own latest answers, those that serve the new version."""
        replica_answers = [
            json.loads(replica.detail).get("answers", {})
            for replica in self._store.serving.live(self._usecase.name)
            if replica.model == self._model and replica.version == term.new
        ]
        min_events = self._usecase.watch.min_events
        p99_values = [
            entry["p99_ms"]
            for entry in replica_answers
            if entry.get("p99_ms") is not None and entry["requests"] >= min_events
        ]
        requests, failed = (
            sum(int(entry.get(name, 0)) for entry in replica_answers) for name in ("requests", "failed")
        )
        return Answers(requests, failed, max(p99_values, default=None))

    def _pairs_before(self, term: WatchTerm, old_label: str, new_label: str) -> Pairs:
        """Both versions on the newest events before the promotion, read once for each term."""
        if self._before is None or self._before[0] != term.seq:
            pairs = read_pairs_before(
                self._store.database, self._usecase.name, old_label, new_label, term.at, term.since
            )
            self._before = (term.seq, pairs)
        return self._before[1]

    def _matured_harm(self, term: WatchTerm, now: datetime) -> Check:
        """Matured cost of the term's days, read again when another day has matured."""
        usecase = self._usecase
        # Where a day is over in two seconds, as in a replay, machine time says nothing of what has matured.
        as_of = min(now, newest_event(self._store.database, usecase.name) or now)
        until = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
        if self._harm is None or self._harm[:2] != (term.seq, until):
            harm = daily_harm(self._store, usecase, self._model, term, as_of)
            self._harm = (term.seq, until, judge_harm(usecase.watch, harm, usecase.cost.currency))
        return self._harm[2]

    def _note(self, term: WatchTerm, checks: Sequence[Check], now: datetime) -> Decision:
        """Write the evidence into the chain, once for each term."""
        for line in self._store.decisions.list(self._usecase.name, (KIND,), after=term.seq):
            if line.payload["term"] == term.seq:
                return line
        payload = {
            "model": self._model, "term": term.seq, "version": term.new, "restored": term.old or EXTERNAL,
            "since": term.since.isoformat(), "until": now.isoformat(), "checks": [asdict(check) for check in checks],
        }  # fmt: skip
        return self._store.decisions.append(self._usecase.name, KIND, payload, ACTOR, now)


def daily_harm(store: Store, usecase: UseCase, model: str, term: WatchTerm, as_of: datetime) -> np.ndarray:
    """Cost of the new version less that of the old one on each whole, matured day of the period, oldest first.

    Amounts are capped as in the comparison that led to the promotion. Where flagged events are blocked, rows
    stand for others by their weights; where nobody stands for some of them, nothing is known: the frauds that only
    the new version blocked would be missing, and a better one would look worse.
    """
    calendar, policy = usecase.calendar, usecase.watch
    first_day = calendar.day_of(term.at) + _DAY
    start = calendar.start_of(first_day)
    end = min(as_of, calendar.start_of(first_day + _DAY * max(1, policy.period // _DAY)))
    if end <= start:
        return np.zeros(0)
    old_label, new_label = labels_of(usecase, model, term)
    money = usecase.cost.false_negative
    columns = {money: usecase.column(money).type} if isinstance(money, str) else {}
    window = TimeWindow(start, end)
    rules = LabelRules(usecase.label, calendar, usecase.intervention.blocks_flagged)
    rows = store.log.paired(usecase.name, (old_label, new_label), window, as_of, rules, columns)
    if "unseen" in rows and float(rows["unseen"].sum()) > 0.0:
        return np.zeros(0)
    prices = prices_of(usecase.cost, rows, _cap(store, usecase.name, old_label, new_label))
    harm = prices.of_rows(rows["y"], rows["flag_b"]) - prices.of_rows(rows["y"], rows["flag_a"])
    if "weight" in rows:
        harm = harm * rows["weight"].to_numpy()
    return rows.assign(harm=harm).groupby("day", sort=True)["harm"].sum().to_numpy(dtype=float)


def _cap(store: Store, usecase: str, old_label: str, new_label: str) -> float | None:
    plans = [comparison.plan for comparison in store.comparisons.list(usecase)]
    return next((p.cost_cap for p in reversed(plans) if (p.champion, p.challenger) == (old_label, new_label)), None)


def _alerts(pairs: Pairs, earlier_pairs: Pairs) -> AlertCounts:
    """Alerts on the same events, and the ratio that both had before the promotion."""
    ours, theirs = int(earlier_pairs.their_alerts.sum()), int(earlier_pairs.our_alerts.sum())
    expected = ours / theirs if min(ours, theirs) >= _ENOUGH_ALERTS else 1.0
    events = len(pairs)
    return AlertCounts(events, int(pairs.our_alerts.sum()), events, int(pairs.their_alerts.sum()), expected)


def _was_taken_out(store: Store, usecase: str, version: str, seq: int) -> bool:
    """Whether the watch took this version out before, and an emergency put it back without new evidence."""
    earlier_breaches = [line for line in store.decisions.list(usecase, (KIND,)) if line.seq < seq]
    if not any(line.payload["version"] == version for line in earlier_breaches):
        return False
    planned_lines = [line for line in store.decisions.list(usecase, ("promotion.planned",)) if line.seq < seq]
    return bool(planned_lines) and "emergency" in planned_lines[-1].payload
