"""Champion against challenger on the log: who they are, since when, what the evidence says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.errors import RoleVacant
from bentos.roles import ModelRegistry
from bentos.usecase import UseCase
from flows.errors import FlowRefused
from flows.sources.base import empty_labels
from flows.steps.snapshot import SnapshotStore
from monitoring.calendar import BusinessCalendar, TimeWindow
from monitoring.comparison import judge_comparison
from monitoring.gates import Verdict
from monitoring.paired import PairedResult, compare_paired

if TYPE_CHECKING:
    from monitoring.store import Store


@dataclass(frozen=True)
class Duel:
    """Two versions under comparison: their labels, and the business time at which it began."""

    champion: str
    challenger: str
    since: datetime


@dataclass(frozen=True)
class Comparison:
    """A comparison with its verdict and the digest of the exact rows behind it; none where there were no rows."""

    result: PairedResult
    verdict: Verdict
    evidence: str | None
    shadow_days: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "verdict": self.verdict.to_json(),
            "result": self.result.to_json(),
            "evidence_snapshot": self.evidence,
            "shadow_days": self.shadow_days,
        }


def contestants(store: Store, registry: ModelRegistry, usecase: UseCase, model: str, as_of: datetime) -> Duel:
    """Who is compared with whom at ``as_of``, and since when.

    Roles are those of the journal at that time, so that a past day can be judged again. Where no model
    of ours is in office and the use case declares an external incumbent, that is the champion.

    Raises:
        FlowRefused: nobody was in office, or nobody was under comparison.
    """
    champion = _holder(store, registry, model, "champion", as_of)
    challenger = _holder(store, registry, model, "challenger", as_of)
    outsider = usecase.incumbent
    if champion is None and outsider is None:
        raise FlowRefused(f"nobody holds office for {model}; train a first model")
    if challenger is None:
        raise FlowRefused(f"no version of {model} is under comparison; train one, or wait for retraining")
    since = max(at for _, at in _terms(store, model, "challenger", challenger, as_of))
    held = f"{model}/{champion}" if champion is not None or outsider is None else f"{outsider.column}/0"
    return Duel(held, f"{model}/{challenger}", since)


def compare(store: Store, usecase: UseCase, snapshots: SnapshotStore, duel: Duel, as_of: datetime) -> Comparison:
    """Compare on all whole days since the challenger entered shadow, and keep the rows by content."""
    start = first_whole_day(usecase.calendar, duel.since)
    window = TimeWindow(start, max(as_of, usecase.calendar.end_of(usecase.calendar.day_of(start))))
    wanted = _cost_and_entity(usecase)
    rows = store.log.paired(
        usecase.name, duel.champion, duel.challenger, window, as_of, usecase.label, usecase.calendar, wanted
    )
    result = compare_paired(
        rows,
        usecase.cost,
        usecase.promotion,
        champion=duel.champion,
        challenger=duel.challenger,
        as_of=as_of,
        entity=usecase.evaluation.entity,
        top_k=usecase.evaluation.top_k,
        repetitions=200,
    )
    waited = (usecase.calendar.day_of(as_of) - usecase.calendar.day_of(start)).days
    verdict = judge_comparison(result, usecase.promotion, shadow_days=max(0, waited))
    return Comparison(result, verdict, _keep(snapshots, usecase, rows, window, duel, as_of), max(0, waited))


def first_whole_day(calendar: BusinessCalendar, since: datetime) -> datetime:
    """The start of the first business day that the challenger saw from its first minute on."""
    day = calendar.day_of(since)
    return since if calendar.start_of(day) == since else calendar.end_of(day)


def latest_verdict(store: Store, usecase: UseCase, as_of: datetime) -> Verdict:
    """The verdict of the latest stored comparison.

    Raises:
        FlowRefused: none is stored.
    """
    report = store.reports.latest(usecase.name, "comparison", as_of=as_of)
    if report is None:
        raise FlowRefused(f"no comparison of {usecase.name} is stored; run: incumbent compare")
    return Verdict.from_json(report.payload["verdict"])


def require_reason(preview: bool, reason: str) -> None:
    """Raise :class:`FlowRefused` where something is to be changed and nobody says why."""
    if not preview and not reason.strip():
        raise FlowRefused("a reason is required when preview is off; say why in a few words")


def _holder(store: Store, registry: ModelRegistry, model: str, role: str, as_of: datetime) -> str | None:
    known = store.decisions.role_at(model, role, as_of)
    if known is not None or store.decisions.terms(model, role):
        return known
    try:  # an alias that was set by hand, before any decision
        return registry.resolve(model, role).version
    except RoleVacant:
        return None


def _terms(store: Store, model: str, role: str, version: str, as_of: datetime) -> list[tuple[str | None, datetime]]:
    terms = [(held, at) for held, at, _ in store.decisions.terms(model, role) if at <= as_of]
    return [term for term in terms if term[0] == version] or [(version, as_of)]


def _cost_and_entity(usecase: UseCase) -> dict[str, str]:
    named = [usecase.cost.false_negative, usecase.evaluation.entity]
    return {name: usecase.column(name).type for name in named if isinstance(name, str)}


def _keep(
    snapshots: SnapshotStore, usecase: UseCase, rows: pd.DataFrame, window: TimeWindow, duel: Duel, as_of: datetime
) -> str | None:
    if rows.empty:
        return None
    # The day follows from the event time and the use case's calendar.
    table = rows.drop(columns="day").rename(columns={"event_id": usecase.event_id})
    source = f"comparison {duel.champion} {duel.challenger}"
    return snapshots.save(table, empty_labels(), usecase=usecase, window=window, source=source, as_of=as_of).digest
