"""The plan of a comparison is frozen when its challenger enters shadow."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from bentos.usecase.definition import UseCase
from bentos.usecase.limits import bounds
from monitoring.comparison.plan import ComparisonPlan, planned_options
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from bentos.promotion.request import Request
    from monitoring.store import Store, StoredComparison

REFERENCE_DAYS = 7
"""Days before the comparison whose events say what a large amount is, and how many are flagged."""
_DAY = timedelta(days=1)


def draft_plan(
    usecase: UseCase,
    model: str,
    champion: str,
    challenger: str,
    first_day: date,
    *,
    cost_cap: float | None = None,
    alert_rate: float | None = None,
) -> ComparisonPlan:
    """The plan that the use-case file asks for today."""
    return ComparisonPlan(
        usecase=usecase.name,
        model=model,
        champion=champion,
        challenger=challenger,
        first_day=first_day,
        promotion=planned_options(usecase.promotion),
        # How a threshold is chosen belongs to a version; a comparison takes each version's own.
        cost=usecase.cost.model_dump(mode="json", exclude={"threshold"}),
        cost_cap=cost_cap,
        alert_rate=alert_rate,
        label=usecase.label.model_dump(mode="json"),
        timezone=usecase.calendar.timezone,
        day_starts_at=usecase.calendar.day_starts_at.isoformat(),
        entity=usecase.evaluation.entity,
        top_k=usecase.evaluation.top_k,
        segments=segments_of(usecase),
        amount=amount_of(usecase),
        blocks_flagged=usecase.intervention.blocks_flagged,
    )


def freeze_plan(store: Store, usecase: UseCase, champion: str, challenger: str, request: Request) -> StoredComparison:
    """Open a comparison from the first whole day after the request on.

    The cap of amounts and the alert rate come from the last 7 days of the log before it; without any
    event the cap is the column's declared maximum, and equal alerts are the champion's own.

    Args:
        store: where the comparison is kept.
        usecase: the policies of today.
        champion, challenger: labels of the versions.
        request: who asks, at the business time at which the challenger entered shadow.
    """
    calendar, since, model = usecase.calendar, request.at, challenger.rpartition("/")[0]
    today = calendar.day_of(since)
    first_day = today if calendar.start_of(today) == since else today + _DAY
    window = TimeWindow(since - REFERENCE_DAYS * _DAY, since)
    plan = draft_plan(
        usecase, model, champion, challenger, first_day,
        cost_cap=_cap(store, usecase, window), alert_rate=_alert_rate(store, usecase, champion, window),
    )  # fmt: skip
    return store.comparisons.open(plan, since, request.actor, request.reason)


def end_comparisons(store: Store, usecase: str, new_champion: str, digest: str | None, at: datetime, actor: str) -> int:
    """After a promotion no comparison of the model goes on; how many ended.

    That of the version that became champion on a verdict ends as ``promote``, any other as ``replaced``: its
    champion has gone, or nobody judged it.

    Args:
        store: where comparisons are kept.
        usecase: name of the use case.
        new_champion: label of the new champion.
        digest: of the verdict; none for a promotion without one.
        at, actor: for the chain of decisions.
    """
    model, closed_count = new_champion.rpartition("/")[0], 0
    for comparison in store.comparisons.list(usecase):
        if comparison.plan.model == model and comparison.closed_at is None:
            is_winner = digest is not None and comparison.plan.challenger == new_champion
            closed_count += store.comparisons.close(
                comparison.id, "promote" if is_winner else "replaced", digest if is_winner else None, at, actor
            )
    return closed_count


def champion_label(usecase: UseCase, model: str, version: str | None) -> str | None:
    """Label of the champion: a version, the external incumbent, or nobody."""
    if version is not None:
        return f"{model}/{version}"
    return None if usecase.incumbent is None else f"{usecase.incumbent.column}/0"


def segments_of(usecase: UseCase) -> tuple[str, ...]:
    """Declared segments, else the first three categories and booleans of the event."""
    if usecase.evaluation.segments:
        return usecase.evaluation.segments
    return tuple(c.name for c in usecase.columns if c.type in ("category", "boolean"))[:3]


def amount_of(usecase: UseCase) -> str | None:
    """The column of money: the declared one, else the cost of a miss where that is a column."""
    money = usecase.cost.false_negative
    return usecase.evaluation.amount or (money if isinstance(money, str) else None)


def _cap(store: Store, usecase: UseCase, window: TimeWindow) -> float | None:
    money = usecase.cost.false_negative
    if not isinstance(money, str):
        return None
    column = usecase.column(money)
    amounts = store.log.events(usecase.name, window, {money: column.type})[money].dropna()
    if len(amounts):
        return float(amounts.quantile(usecase.promotion.cost_cap_quantile))
    return float(bounds(column)[1]) if column.max is not None else None


def _alert_rate(store: Store, usecase: UseCase, champion: str, window: TimeWindow) -> float | None:
    answers = store.log.answers(usecase.name, window)
    champion_answers = answers[answers["model"] == champion]
    return float(champion_answers["decision"].mean()) if len(champion_answers) else None
