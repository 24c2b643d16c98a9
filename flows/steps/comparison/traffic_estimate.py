"""What the log says of traffic, prevalence and discordance: the inputs of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from monitoring.store import Store

RECENT_DAYS = 28
USUAL_DISCORDANCE = 0.06
"""Share of positives that exactly one of two similar models catches, where nothing is known."""


@dataclass(frozen=True)
class TrafficEstimate:
    """Figures of the recent matured days.

    Attributes:
        prevalence: positives among matured events; none without any event or positive.
        events_per_day: events a day over the same days.
        discordance: of the latest stored comparison that has positives; none without one.
        sources: where each figure comes from, for people.
    """

    prevalence: float | None
    events_per_day: float | None
    discordance: float | None
    sources: dict[str, str] = field(default_factory=dict)


def estimate_traffic(store: Store, usecase: UseCase, as_of: datetime, days: int = RECENT_DAYS) -> TrafficEstimate:
    """Look at the last matured days of the log, or at as many as it holds."""
    end = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    span = store.log.span(usecase.name)
    if span is None or span[1] >= end:
        return TrafficEstimate(None, None, _discordance(store, usecase, as_of))
    start = max(end - timedelta(days=days), usecase.calendar.start_of(usecase.calendar.day_of(span[1])))
    window = TimeWindow(start, end)
    events = store.log.count(usecase.name, window)
    labels = store.labels.known(usecase.name, as_of, usecase.label, window)
    positives = int((labels["y"] == 1).sum())
    length = window.length / timedelta(days=1)
    source = f"{length:.0f} matured days of the log up to {end:%Y-%m-%d}"
    return TrafficEstimate(
        positives / events if events and positives else None,
        events / length if events else None,
        _discordance(store, usecase, as_of),
        {"prevalence": source, "events_per_day": source},
    )


def require_figure(name: str, option: float | None, estimate: float | None) -> float:
    """The option, else what the log says; ``FlowRefused`` without either."""
    value = estimate if option is None else option
    if value is None:
        flag = f"--{name.replace('_', '-')}"
        raise FlowRefused(f"the log holds no matured day with a positive to learn the {name} from; give {flag}")
    return value


def discordance_for(effect: float, option: float | None, estimate: float | None) -> tuple[float, str]:
    """The discordance of a plan, and where it comes from.

    A gain of eight points needs at least eight points of discordance: unless an option says otherwise, the least that
    the effect allows takes the place of a smaller figure.
    """
    if option is not None:
        return option, "given"
    discordance, source = (
        (USUAL_DISCORDANCE, "a usual value") if estimate is None else (estimate, "the latest stored comparison")
    )
    return (effect, "the least that such a gain allows") if discordance < effect < 1.0 else (discordance, source)


def _discordance(store: Store, usecase: UseCase, as_of: datetime) -> float | None:
    for report in reversed(store.reports.list(usecase.name, "comparison", limit=50)):
        result = report.payload.get("result") or {}
        mcnemar = (result.get("appendix") or {}).get("mcnemar")
        if report.as_of <= as_of and mcnemar and result.get("positives"):
            share = (mcnemar["b"] + mcnemar["c"]) / result["positives"]
            if share > 0.0:
                return float(share)
    return None
