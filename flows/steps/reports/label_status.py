"""The maturity ledger of a use case, read from its database."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.promotion.comparison_plans import amount_of
from flows.sources.labels import blocked_events
from monitoring.core.calendar import TimeWindow
from monitoring.performance.cost import prices_of
from monitoring.performance.label_maturity import (
    ArrivalCurve,
    DecisionCosts,
    LedgerDay,
    arrival_curve,
    build_ledger,
    sum_decision_costs,
)
from monitoring.policies.label_rules import LabelRules

if TYPE_CHECKING:
    from bentos.usecase.definition import UseCase
    from monitoring.store import Store


@dataclass(frozen=True)
class LabelStatus:
    """Labels as known at ``as_of``.

    Attributes:
        as_of: business time of the reader.
        curve: how labels arrive.
        matures_after_days: what the use case declares.
        days: the ledger, oldest first.
        parked: statements about events that the log does not hold.
        provisional, final: what the service's decisions cost, on young days so far and on matured days.
        currency: of every cost.
        newest: event time of the newest event that the log holds, whatever ``as_of`` is; none of an empty log.
    """

    as_of: datetime
    curve: ArrivalCurve
    matures_after_days: float
    days: tuple[LedgerDay, ...]
    parked: int
    provisional: DecisionCosts
    final: DecisionCosts
    currency: str
    newest: datetime | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should act on."""
        sentences = []
        if self.newest is not None and not any(day.events for day in self.days):
            sentences.append(
                f"none of the listed days up to {self.as_of:%Y-%m-%d} has an event; the newest event of the log is of "
                f"{self.newest:%Y-%m-%d}: see --as-of and --days"
            )
        point, declared = self.curve.point_days, self.matures_after_days
        if point is not None and point > declared:
            sentences.append(
                f"5 % of the labels of old days came later than {point:.1f} days, matures_after is {declared:g} days: "
                "matured days miss them"
            )
        if self.final.blocked:
            sentences.append(
                f"{self.final.blocked} matured events were blocked and have no label: they are in no cost; "
                "an exploration_share lets some through, so that they are known"
            )
        return tuple(sentences)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        names = ("events", "labelled", "positives", "immature", "unknown", "late", "conflicting", "conflicting_amount")
        total: dict[str, Any] = {name: sum(getattr(day, name) for day in self.days) for name in (*names, "revised")}
        return {
            "as_of": self.as_of.isoformat(),
            "matures_after_days": self.matures_after_days,
            "curve": self.curve.to_json(),
            "total": total | {"parked": self.parked},
            "days": [day.to_json() for day in self.days],
            "cost": {
                "provisional": self.provisional.to_json(),
                "final": self.final.to_json(),
                "currency": self.currency,
            },
            "warnings": list(self.warnings),
        }


def read_label_status(store: Store, usecase: UseCase, as_of: datetime, days: int | None = None) -> LabelStatus:
    """The ledger of the newest ``days`` business days, the curve of everything that is complete.

    Args:
        store: the database.
        usecase: maturity, ranks of sources, costs.
        as_of: business time of the reader; labels observed later are not seen.
        days: how many days are listed; none lists 30, or two weeks more than labels need to mature: a list of
            immature days alone would tell no final cost.
    """
    mature = usecase.label.matures_after / timedelta(days=1)
    listed_days = max(30, ceil(mature) + 14) if days is None else days
    policy, calendar = usecase.label, usecase.calendar
    span = store.log.span(usecase.name)
    first = as_of if span is None else min(span[1], as_of)
    full_window = TimeWindow(first, as_of + timedelta(microseconds=1))
    amount_column = amount_of(usecase)
    column_types = {} if amount_column is None else {amount_column: usecase.column(amount_column).type}
    events = store.log.event_frame(usecase.name, full_window, as_of, column_types)
    if amount_column is not None:
        events = events.rename(columns={amount_column: "amount"})
    labels = store.labels.resolved_labels(usecase.name, as_of, policy, full_window)
    curve = arrival_curve(events, labels, as_of, policy)
    start = calendar.start_of(calendar.day_of(as_of) - timedelta(days=listed_days - 1))
    recent = events[events["event_time"] >= pd.Timestamp(start)]
    window = TimeWindow(min(start, as_of), full_window.end)
    blocked_ids = blocked_events(store, usecase, window, as_of)
    ledger_days = build_ledger(
        recent, labels, store.labels.history(usecase.name, as_of), curve, as_of,
        LabelRules(policy, calendar), blocked_ids,
    )  # fmt: skip
    provisional, final = costs(store, usecase, window, as_of, blocked_ids)
    return LabelStatus(
        as_of, curve, mature, ledger_days, store.labels.parked(usecase.name), provisional, final, usecase.cost.currency,
        None if span is None else span[2],
    )  # fmt: skip


def costs(
    store: Store, usecase: UseCase, window: TimeWindow, as_of: datetime, blocked_ids: Collection[str]
) -> tuple[DecisionCosts, DecisionCosts]:
    """What the answers of a window cost: (provisional, final); ``blocked_ids`` events were blocked."""
    answers = store.log.answers(usecase.name, window, as_of)
    answers = answers[answers["origin"] == "live"].reset_index(drop=True)
    labels = store.labels.resolved_labels(usecase.name, as_of, usecase.label, window)
    prices = prices_of(usecase.cost, _add_cost_column(store, usecase, window, answers))
    return sum_decision_costs(answers, labels, prices, as_of, LabelRules(usecase.label, usecase.calendar), blocked_ids)


def _add_cost_column(store: Store, usecase: UseCase, window: TimeWindow, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the event column that a miss costs, where the policy names one."""
    cost = usecase.cost.false_negative
    if not isinstance(cost, str):
        return rows
    events = store.log.events(usecase.name, window, {usecase.event_id: "identifier", cost: usecase.column(cost).type})
    return rows.merge(events.rename(columns={usecase.event_id: "event_id"}), on="event_id", how="left")
