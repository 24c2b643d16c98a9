"""What each of the latest days costs: final where its labels have matured, provisional where they have not."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.sources.labels import blocked_events
from flows.steps.data.split import business_time_before
from flows.steps.drift.check import add_cost_column
from monitoring.core.calendar import TimeWindow
from monitoring.performance.cost import prices_of
from monitoring.performance.measure import daily_performance, label_events, matured_answers
from monitoring.policies import LabelPolicy

if TYPE_CHECKING:
    from monitoring.store import Store


def daily_cost(store: Store, usecase: UseCase, as_of: datetime, days: int = 7) -> dict[str, Any]:
    """Cost and alerts of the latest matured ``days`` and of every whole day since, as plain JSON.

    A provisional day knows only the labels of ``as_of``: where absence means negative, a positive that
    is not known yet counts as none, so its misses are missing and its false alarms are too many.

    Returns:
        ``currency``, ``matures_after_s``, ``capacity`` (alerts a day or none) and ``days``, oldest first:
        ``day``, ``state`` (``final`` or ``provisional``), ``rows`` and ``alerts`` of all answered events,
        ``positives`` and ``cost`` of those whose truth is known.
    """
    calendar, label = usecase.calendar, usecase.label
    matured_until = calendar.matured_until(as_of, label.matures_after)
    window = TimeWindow(
        business_time_before(calendar, matured_until, timedelta(days=days)), calendar.start_of(calendar.day_of(as_of))
    )
    answers = store.log.answers(usecase.name, window)
    labels = store.labels.known(usecase.name, as_of, label, window)
    blocked_ids = blocked_events(store, usecase, window, as_of)
    final = matured_answers(answers, labels, as_of, label, calendar, blocked_ids)
    recent = answers["event_time"] >= matured_until
    provisional = add_labels_so_far(answers[recent], labels, label, blocked_ids)
    days_of = calendar.days_of(answers["event_time"])
    provisional = provisional.assign(day=calendar.days_of(provisional["event_time"]))
    day_rows = [
        *_day_rows(store, usecase, window, answers[~recent].assign(day=days_of), final, "final"),
        *_day_rows(store, usecase, window, answers[recent].assign(day=days_of), provisional, "provisional"),
    ]
    return {
        "currency": usecase.cost.currency,
        "matures_after_s": label.matures_after.total_seconds(),
        "capacity": usecase.capacity.alerts_per_day,
        "days": day_rows,
    }


def add_labels_so_far(
    young: pd.DataFrame, labels: pd.DataFrame, label: LabelPolicy, blocked_ids: Collection[str]
) -> pd.DataFrame:
    """Answers that have not matured with ``y`` as far as it is known; where absence means negative, 0 for the others.

    ``blocked_ids`` events were blocked: without a label they are left out.
    """
    return (
        young.assign(y=label_events(young["event_id"], labels, label, blocked_ids))
        .dropna(subset="y")
        .reset_index(drop=True)
    )


def _day_rows(
    store: Store, usecase: UseCase, window: TimeWindow, answers: pd.DataFrame, labelled: pd.DataFrame, state: str
) -> list[dict[str, Any]]:
    """Alerts of everything that was answered, whether its label is known or not; money of what is labelled."""
    if answers.empty:
        return []
    flagged = answers.groupby("day", sort=True)["decision"].agg(["size", "sum"])
    money = _cost_by_day(store, usecase, window, labelled)
    return [
        {
            "day": str(pd.Timestamp(day).date()),
            "state": state,
            "rows": int(rows),
            "positives": int(money.get(day, _NOTHING)[0]),
            "alerts": int(alerts),
            "cost": float(money.get(day, _NOTHING)[1]),
        }
        for day, rows, alerts in flagged.itertuples()
    ]


_NOTHING = (0, 0.0)


def _cost_by_day(
    store: Store, usecase: UseCase, window: TimeWindow, rows: pd.DataFrame
) -> dict[Any, tuple[int, float]]:
    """Positives and cost of each day."""
    if rows.empty:
        return {}
    prices = prices_of(usecase.cost, add_cost_column(store, usecase, window, rows))
    daily = daily_performance(rows["day"], rows["y"], rows["decision"], prices)
    return {
        day: (int(p), float(cost)) for day, p, cost in zip(daily["day"], daily["positives"], daily["cost"], strict=True)
    }
