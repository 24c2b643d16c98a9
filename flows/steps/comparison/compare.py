"""Champion against challenger on the log: who they are, since when, what the evidence says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from bentos.errors import RoleVacant
from bentos.promotion.comparison_plans import draft_plan, freeze_plan
from bentos.promotion.request import Request
from bentos.registry.ports import ModelRef, ModelRegistry, Role
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused, NothingToDo
from flows.snapshots.store import SnapshotStore
from flows.sources.base import empty_labels
from flows.workspace.clock import machine_now
from flows.workspace.step import step
from monitoring.comparison.daily_series import FrozenDay
from monitoring.comparison.judge import judge_plan
from monitoring.comparison.paired import BESIDE_THE_DECISION, PairedResult
from monitoring.comparison.plan import ComparisonPlan, changed_options
from monitoring.core.calendar import TimeWindow
from monitoring.core.verdict import Check as GateCheck
from monitoring.core.verdict import Verdict, at_most
from monitoring.performance.capacity import CapacityCurve, capacity_curve
from monitoring.performance.cost import prices_of
from monitoring.policies.label_rules import LabelRules

if TYPE_CHECKING:
    from bentos.promotion.context import ReleaseContext
    from monitoring.store import Store, StoredComparison

_DAY = timedelta(days=1)
LATENCY: Final = "single_event_p99_ms"
"""Name of a check that a comparison is given: a replay takes it from the verdict, nothing can measure it again."""


@dataclass(frozen=True)
class ModelPair:
    """Two versions under comparison: their labels, and the business time at which it began."""

    champion: str
    challenger: str
    since: datetime


@dataclass(frozen=True)
class ProvisionalCosts:
    """What both models cost on young days, by the labels known so far. No decision reads it.

    Attributes:
        days, labelled: ended days that have not matured, and their events with a label.
        champion, challenger: cost of the mistakes among these.
    """

    days: int
    labelled: int
    champion: float
    challenger: float


@dataclass(frozen=True)
class ComparisonResult:
    """A comparison with its verdict.

    Attributes:
        result, verdict: what was found, and what it is good enough for.
        evidence: digest of the exact rows behind it; none where there were no rows.
        shadow_days: days since the comparison began.
        stored: the comparison as it is kept, with its frozen plan.
        warnings: what a reader must know, such as a policy file that says otherwise today.
        current: whether the comparison is under way and ``as_of`` lies not beyond the log; only then are
            days frozen and does a verdict have consequences.
        provisional: costs on days that have not matured; none where there are none.
        capacity: alerts a day against money on the matured days; none without any.
    """

    result: PairedResult
    verdict: Verdict
    evidence: str | None
    shadow_days: int
    stored: StoredComparison
    warnings: tuple[str, ...] = ()
    current: bool = True
    provisional: ProvisionalCosts | None = None
    capacity: CapacityCurve | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "verdict": self.verdict.to_json(),
            "not_used_in_the_decision": [*BESIDE_THE_DECISION, "provisional_cost", "capacity"],
            "result": self.result.to_json(),
            "evidence_snapshot": self.evidence,
            "shadow_days": self.shadow_days,
            "comparison": self.stored.id,
            "plan": self.stored.plan.to_json(),
            "plan_hash": self.stored.plan_hash,
            "warnings": list(self.warnings),
            "provisional_cost": None if self.provisional is None else asdict(self.provisional),
            "capacity": None if self.capacity is None else self.capacity.to_json(),
        }


@step(
    name="find the contestants",
    run_name="find who is compared for {model}",
    tags=("database", "registry"),
    retried=True,
)
def compared_models(store: Store, registry: ModelRegistry, usecase: UseCase, model: str, as_of: datetime) -> ModelPair:
    """Who is compared with whom at ``as_of``, and since when.

    Roles are those of the journal at that time, so that a past day can be judged again. Where no model
    of ours is active and the use case declares an external incumbent, that is the champion.

    Raises:
        NothingToDo: nobody was active, or nobody was under comparison.
    """
    champion = _version_in_role(store, registry, model, "champion", as_of)
    challenger = _version_in_role(store, registry, model, "challenger", as_of)
    external = usecase.incumbent
    if champion is None and external is None:
        raise NothingToDo(f"nobody is champion for {model}; train a first model")
    if challenger is None:
        raise NothingToDo(f"no version of {model} is under comparison; train one, or wait for retraining")
    since = max(since_time for _, since_time in _terms(store, model, "challenger", challenger, as_of))
    if champion is not None:
        since = max(since, *(since_time for _, since_time in _terms(store, model, "champion", champion, as_of)))
    champion_label = f"{model}/{champion}" if champion is not None or external is None else f"{external.column}/0"
    return ModelPair(champion_label, f"{model}/{challenger}", since)


@step(name="compare", run_name="compare {pair.challenger} with {pair.champion}", tags=("database",))
def compare(
    store: Store,
    usecase: UseCase,
    snapshots: SnapshotStore,
    pair: ModelPair,
    as_of: datetime,
    actor: str = "comparison",
) -> ComparisonResult:
    """Compare by the frozen plan on all whole days since the challenger entered shadow.

    Days that matured since the last look are frozen. The rows are kept by content.
    """
    stored = ensure_plan(store, usecase, pair, as_of, actor)
    plan, calendar = stored.plan, stored.plan.calendar
    start = calendar.start_of(plan.first_day)
    window = TimeWindow(start, max(as_of, calendar.end_of(plan.first_day)))
    column_types = {name: usecase.column(name).type for name in plan.columns}
    rules = LabelRules(plan.label_policy, calendar, plan.blocks_flagged)

    def read(until: datetime) -> pd.DataFrame:
        return store.log.paired(
            usecase.name, (pair.champion, pair.challenger), TimeWindow(start, until), as_of, rules, column_types
        )

    rows = read(window.end)
    frozen_days = store.comparisons.days(stored.id, as_of)
    rows, lag_notes = drop_lagging_days(rows, frozen_days)
    if lag_notes and len(rows):  # failures on days that wait are not held against the days that are judged
        rows = read(calendar.end_of(rows["day"].max().date()))
    judged_plan = judge_plan(plan, rows, frozen_days, as_of=as_of, guards=latency_guard(store, usecase, pair, as_of))
    is_current = stored.closed_at is None and _is_reached(store, usecase, as_of)
    if is_current:
        store.comparisons.freeze(stored.id, judged_plan.result.series[len(frozen_days) :], as_of)
    shadow_days = max(0, (calendar.day_of(as_of) - plan.first_day).days)
    evidence = _save_evidence(snapshots, usecase, rows, window, pair, as_of)
    warnings = (*_warnings(usecase, plan, judged_plan.result), *lag_notes)
    provisional = provisional_costs(store, usecase, plan, pair, as_of)
    capacity = _capacity(usecase, plan, rows)
    return ComparisonResult(
        judged_plan.result,
        judged_plan.verdict,
        evidence,
        shadow_days,
        stored,
        warnings,
        is_current,
        provisional,
        capacity,
    )


def latency_guard(store: Store, usecase: UseCase, pair: ModelPair, as_of: datetime) -> tuple[GateCheck, ...]:
    """What one event takes with the challenger, as its training measured it; none where no training is known."""
    latencies = [_p99(store, usecase, label, as_of) for label in (pair.challenger, pair.champion)]
    if latencies[0] is None:
        return ()
    champion_note = "" if latencies[1] is None else f", {latencies[1]:.3g} ms with the champion"
    limit = usecase.gates.max_single_event_p99_ms
    return (at_most(LATENCY, latencies[0], limit, f"p99 of one event, milliseconds{champion_note}"),)


def _p99(store: Store, usecase: UseCase, label: str, as_of: datetime) -> float | None:
    report = store.reports.latest(usecase.name, "training", challenger=label, as_of=as_of)
    p99 = None if report is None else report.payload.get("evidence", {}).get("latency_p99_ms")
    return None if p99 is None else float(p99)


def drop_lagging_days(rows: pd.DataFrame, frozen_days: Sequence[FrozenDay]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows up to the first day on which the challenger's shadow is behind, and what to say of it.

    A day that was judged half scored would stay so for ever. Days enter in order, so later ones wait too.

    Args:
        rows: of the log, with its counts.
        frozen_days: days that were judged before; they wait no more.
    """
    last = max((day.day.day for day in frozen_days), default=None)
    counts = rows.attrs.get("counts")
    behind = [day for day in getattr(counts, "behind", ()) if last is None or day[0] > last]
    if not behind:
        return rows, ()
    first, missing = behind[0][0], sum(count for _, count in behind)
    rows_in_time = rows[rows["day"] < pd.Timestamp(first)].reset_index(drop=True)
    rows_in_time.attrs["counts"] = counts
    return rows_in_time, (
        f"the challenger's shadow is behind on {missing} matured events: {first} and later days wait until it has "
        "scored them or its failures are recorded",
    )


def _capacity(usecase: UseCase, plan: ComparisonPlan, rows: pd.DataFrame) -> CapacityCurve | None:
    if rows.empty:
        return None
    return capacity_curve(rows, prices_of(plan.cost_model, rows, plan.cost_cap), usecase.capacity.alerts_per_day)


def provisional_costs(
    store: Store, usecase: UseCase, plan: ComparisonPlan, pair: ModelPair, as_of: datetime
) -> ProvisionalCosts | None:
    """What both models cost on days that have ended and not matured, by the labels known so far.

    None before the first such day, and where events were blocked that no draw stands for.
    """
    label, calendar = plan.label_policy, plan.calendar
    start = max(calendar.matured_until(as_of, label.matures_after), calendar.start_of(plan.first_day))
    if start >= as_of:
        return None
    open_policy = label.model_copy(update={"matures_after": timedelta(0), "absent_after_maturity": "unknown"})
    cost_column = plan.cost_model.false_negative
    column_types = {cost_column: usecase.column(cost_column).type} if isinstance(cost_column, str) else {}
    window = TimeWindow(start, as_of)
    rules = LabelRules(open_policy, calendar, plan.blocks_flagged)
    rows = store.log.paired(usecase.name, (pair.champion, pair.challenger), window, as_of, rules, column_types)
    weight = np.ones(len(rows))
    if plan.blocks_flagged:
        if (rows["unseen"] > 0.0).any():
            return None  # what the champion blocked would look as if it had cost nothing
        weight = rows["weight"].to_numpy(dtype=float)
    prices = prices_of(plan.cost_model, rows, plan.cost_cap)
    a, b = (float((weight * prices.of_rows(rows["y"], rows[f"flag_{side}"])).sum()) for side in "ab")
    return ProvisionalCosts(int(rows["day"].nunique()), len(rows), a, b)


def ensure_plan(store: Store, usecase: UseCase, pair: ModelPair, as_of: datetime, actor: str) -> StoredComparison:
    """The frozen plan of a duel at ``as_of``; where none was frozen in time, it is now.

    That is so where the champion changed under the same challenger, or an alias was set by hand.
    """
    model = ModelRef.parse(pair.challenger).name
    stored = store.comparisons.current(model, pair.champion, pair.challenger, as_of)
    if stored is not None:
        return stored
    request = Request(actor, "no plan was frozen when this comparison began", pair.since)
    return freeze_plan(store, usecase, pair.champion, pair.challenger, request)


def renew_plan(store: Store, usecase: UseCase, pair: ModelPair, request: Request) -> StoredComparison:
    """Start anew: a plan of today's policies, from the next whole day on; what was seen so far counts no more.

    Raises:
        FlowRefused: without a reason.
    """
    if not request.reason.strip():
        raise FlowRefused("a new plan needs a reason: it starts the comparison again")
    return freeze_plan(store, usecase, pair.champion, pair.challenger, request)


@step(
    name="retire the challenger", run_name="see whether {comparison.verdict.challenger} leaves shadow", tags=("roles",)
)
def retire_challenger(context: ReleaseContext, comparison: ComparisonResult, request: Request) -> bool:
    """After the verdict ``keep`` the challenger leaves shadow and the comparison is closed; whether it was.

    A candidate that waits then enters shadow. The verdict gives the reason, whatever the request says.
    """
    if comparison.verdict.outcome != "keep" or not comparison.current:
        return False
    from bentos.promotion.promote import appoint_next_candidate, dismiss

    verdict = comparison.verdict
    retirement = replace(request, reason=f"keep: {(verdict.reasons or ('no reason was given',))[0]}")
    dismiss(context, "challenger", retirement)
    was_closed = context.store.comparisons.close(
        comparison.stored.id, "keep", verdict.digest, request.at, request.actor
    )
    appoint_next_candidate(context, request)
    return was_closed


@step(name="read the verdict", run_name="read the newest verdict of {usecase.name}", tags=("database",), retried=True)
def latest_verdict(store: Store, usecase: UseCase, as_of: datetime) -> Verdict:
    """The verdict of the latest stored comparison.

    Raises:
        NothingToDo: none is stored.
    """
    report = store.reports.latest(usecase.name, "comparison", as_of=as_of)
    if report is None:
        raise NothingToDo(f"no comparison of {usecase.name} is stored; run: incumbent compare")
    return Verdict.from_json(report.payload["verdict"])


def require_promotable(store: Store, verdict: Verdict, model: str, roles: Mapping[Role, ModelRef]) -> None:
    """Raise :class:`NothingToDo` where a stored verdict promotes nobody, or nobody who waits for the role.

    A release that was cut short is no reason: whoever promotes next brings it to its end.
    """
    if store.journal.unfinished(model):
        return
    challenger, champion = roles.get("challenger"), roles.get("champion")
    if champion is not None and champion.label == verdict.challenger:
        raise NothingToDo(f"{verdict.challenger} is active already")
    if not verdict.promotes:
        sentence = f"the newest comparison says {verdict.outcome.replace('_', ' ')} of {verdict.challenger}"
        raise NothingToDo(": ".join([sentence, *verdict.reasons[:1]]))
    if challenger is None or challenger.label != verdict.challenger:
        compared_label = "nobody" if challenger is None else challenger.label
        raise NothingToDo(f"the newest verdict is about {verdict.challenger}; under comparison is {compared_label}")


def require_reason(preview: bool, reason: str) -> None:
    """Raise :class:`FlowRefused` where something is to be changed and nobody says why."""
    if not preview and not reason.strip():
        raise FlowRefused("a reason is required when preview is off; say why in a few words")


def _version_in_role(store: Store, registry: ModelRegistry, model: str, role: str, as_of: datetime) -> str | None:
    version = store.decisions.role_at(model, role, as_of)
    if version is not None or store.decisions.terms(model, role):
        return version
    try:  # an alias that was set by hand, before any decision
        return registry.resolve(model, role).version
    except RoleVacant:
        return None


def _terms(store: Store, model: str, role: str, version: str, as_of: datetime) -> list[tuple[str | None, datetime]]:
    terms = [(holder, at) for holder, at, _ in store.decisions.terms(model, role) if at <= as_of]
    return [term for term in terms if term[0] == version] or [(version, as_of)]


def _is_reached(store: Store, usecase: UseCase, as_of: datetime) -> bool:
    """Whether business time has come to ``as_of``: a look into the future would take young events for matured."""
    span = store.log.span(usecase.name)
    return as_of <= max(machine_now(), span[2] + _DAY if span else as_of)


def _warnings(usecase: UseCase, plan: ComparisonPlan, result: PairedResult) -> tuple[str, ...]:
    warnings = []
    model, day = plan.model, plan.first_day
    changed_fields = changed_options(plan, draft_plan(usecase, model, plan.champion, plan.challenger, day))
    if changed_fields:
        warnings.append(
            f"the policy file changed since the plan was frozen ({', '.join(changed_fields)}); "
            "this comparison keeps its plan. "
            "To start anew: incumbent compare --new-plan --reason ..."
        )
    late = result.late
    if late.labels or late.rows:
        warnings.append(
            f"{late.labels} labels came after their day was frozen ({late.positives} positive); "
            "they are counted beside the series and change no verdict"
        )
    return tuple(warnings)


def _save_evidence(
    snapshots: SnapshotStore, usecase: UseCase, rows: pd.DataFrame, window: TimeWindow, pair: ModelPair, as_of: datetime
) -> str | None:
    if rows.empty:
        return None
    # The day follows from the event time and the use case's calendar.
    table = rows.drop(columns="day").rename(columns={"event_id": usecase.event_id})
    source = f"comparison {pair.champion} {pair.challenger}"
    return snapshots.save(table, empty_labels(), usecase=usecase, window=window, source=source, as_of=as_of).digest
