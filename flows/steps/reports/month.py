"""The report of one month, read from the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.promotion.comparison_plans import amount_of
from bentos.usecase.definition import UseCase
from flows.errors import NoData
from flows.sources.labels import blocked_events
from flows.steps.drift.recent_cost import add_labels_so_far
from monitoring.core.calendar import TimeWindow
from monitoring.performance.cost import prices_of
from monitoring.performance.measure import matured_answers
from monitoring.reports.month import MonthFigures, month_figures

if TYPE_CHECKING:
    from monitoring.store import Store


@dataclass(frozen=True)
class MonthReport:
    """One month of one use case as known at ``as_of``.

    Attributes:
        month: its first day.
        as_of: business time of the reader.
        currency: of every cost and amount.
        final, provisional: matured days, and young days by the labels known so far; none without such days.
        unlabelled: events in no figure: of young days where absence means nothing, and blocked ones.
    """

    month: date
    as_of: datetime
    currency: str
    final: MonthFigures | None
    provisional: MonthFigures | None
    unlabelled: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "month": f"{self.month:%Y-%m}",
            "as_of": self.as_of.isoformat(),
            "currency": self.currency,
            "final": None if self.final is None else self.final.to_json(),
            "provisional": None if self.provisional is None else self.provisional.to_json(),
            "unlabelled": self.unlabelled,
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """What people read: figure, final, provisional."""
        names = {
            "days": "days", "events": "events", "alerts": "alerts", "positives": "frauds", "caught": "frauds caught",
            "fraud_bp": "fraud, basis points", "value_detection_rate": "value detection rate",
            "false_alarms_per_fraud": "false alarms per fraud caught", "cost": f"cost, {self.currency}",
            "amount": f"amount, {self.currency}", "fraud_amount": f"fraud amount, {self.currency}",
        }  # fmt: skip
        parts = (self.final, self.provisional)
        figures = [(title, *(_figure_text(part, name) for part in parts)) for name, title in names.items()]
        return [(title, final, provisional) for title, final, provisional in figures]


def build_month_report(store: Store, usecase: UseCase, month: date, as_of: datetime) -> MonthReport:
    """The report of the business days of a month.

    Raises:
        NoData: the month has no answered event before ``as_of``.
    """
    calendar, label = usecase.calendar, usecase.label
    first = month.replace(day=1)
    following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    start = calendar.start_of(first)
    end = min(calendar.start_of(following), as_of)
    if end <= start:
        raise NoData(f"{first:%Y-%m} has not begun at {as_of:%Y-%m-%d %H:%M}; name an earlier month")
    window = TimeWindow(start, end)
    answers = store.log.answers(usecase.name, window)
    if answers.empty:
        raise NoData(f"no event of {usecase.name} was answered in {first:%Y-%m}; see: incumbent status")
    amount = amount_of(usecase)
    answers = _add_money_columns(store, usecase, window, answers, amount)
    labels = store.labels.known(usecase.name, as_of, label, window)
    blocked_ids = blocked_events(store, usecase, window, as_of)
    final = matured_answers(answers, labels, as_of, label, calendar, blocked_ids)
    matured_until = pd.Timestamp(calendar.matured_until(as_of, label.matures_after))
    recent = answers[answers["event_time"] >= matured_until]
    provisional = add_labels_so_far(recent, labels, label, blocked_ids)
    unlabelled = len(recent) - len(provisional)
    if blocked_ids:
        unlabelled += int((answers["event_time"] < matured_until).sum()) - len(final)
    provisional = provisional.assign(day=calendar.days_of(provisional["event_time"]))
    parts = [_figures(usecase, rows, amount) for rows in (final, provisional)]
    return MonthReport(first, as_of, usecase.cost.currency, parts[0], parts[1], unlabelled)


def _add_money_columns(
    store: Store, usecase: UseCase, window: TimeWindow, rows: pd.DataFrame, amount: str | None
) -> pd.DataFrame:
    """The answers with the columns that money is counted in."""
    cost_column = usecase.cost.false_negative
    money_columns = dict.fromkeys([name for name in (amount, cost_column) if isinstance(name, str)])
    if not money_columns:
        return rows
    columns = {usecase.event_id: "identifier"} | {name: usecase.column(name).type for name in money_columns}
    events = store.log.events(usecase.name, window, columns).rename(columns={usecase.event_id: "event_id"})
    return rows.merge(events, on="event_id", how="left")


def _figures(usecase: UseCase, rows: pd.DataFrame, amount: str | None) -> MonthFigures | None:
    return None if rows.empty else month_figures(rows, prices_of(usecase.cost, rows), amount)


def _figure_text(part: MonthFigures | None, name: str) -> str:
    value = None if part is None else getattr(part, name)
    if value is None:
        return "–"
    if name == "value_detection_rate":
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
