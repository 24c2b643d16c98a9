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
class Outlook:
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


def outlook(store: Store, usecase: UseCase, as_of: datetime, days: int = RECENT_DAYS) -> Outlook:
    """Look at the last matured days of the log, or at as many as it holds."""
    end = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    span = store.log.span(usecase.name)
    if span is None or span[1] >= end:
        return Outlook(None, None, _discordance(store, usecase, as_of))
    start = max(end - timedelta(days=days), usecase.calendar.start_of(usecase.calendar.day_of(span[1])))
    window = TimeWindow(start, end)
    events = store.log.count(usecase.name, window)
    known = store.labels.known(usecase.name, as_of, usecase.label, window)
    positives = int((known["y"] == 1).sum())
    length = window.length / timedelta(days=1)
    where = f"{length:.0f} matured days of the log up to {end:%Y-%m-%d}"
    return Outlook(
        positives / events if events and positives else None,
        events / length if events else None,
        _discordance(store, usecase, as_of),
        {"prevalence": where, "events_per_day": where},
    )


def chosen(name: str, option: float | None, found: float | None) -> float:
    """The option, else what the log says; ``FlowRefused`` without either."""
    value = found if option is None else option
    if value is None:
        flag = f"--{name.replace('_', '-')}"
        raise FlowRefused(f"the log holds no matured day with a positive to learn the {name} from; give {flag}")
    return value


def discordance_for(effect: float, option: float | None, found: float | None) -> tuple[float, str]:
    """The discordance of a plan, and where it comes from.

    A gain of eight points needs at least eight points of discordance: unless an option says otherwise, the least that
    the effect allows takes the place of a smaller figure.
    """
    if option is not None:
        return option, "given"
    known, source = (USUAL_DISCORDANCE, "a usual value") if found is None else (found, "the latest stored comparison")
    return (effect, "the least that such a gain allows") if known < effect < 1.0 else (known, source)


def _discordance(store: Store, usecase: UseCase, as_of: datetime) -> float | None:
    for report in reversed(store.reports.list(usecase.name, "comparison", limit=50)):
        result = report.payload.get("result") or {}
        found = (result.get("appendix") or {}).get("mcnemar")
        if report.as_of <= as_of and found and result.get("positives"):
            share = (found["b"] + found["c"]) / result["positives"]
            if share > 0.0:
                return float(share)
    return None
