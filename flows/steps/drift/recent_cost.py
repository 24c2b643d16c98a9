"""What each of the latest days costs: final where its labels have matured, provisional where they have not."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.sources.labels import blocked_events
from flows.steps.data.split import back
from flows.steps.drift.check import with_cost_column
from monitoring.core.calendar import TimeWindow
from monitoring.performance.cost import prices_of
from monitoring.performance.measure import daily_performance, matured, truth_of
from monitoring.policies import LabelPolicy

if TYPE_CHECKING:
    from monitoring.store import Store


def daily_money(store: Store, usecase: UseCase, as_of: datetime, days: int = 7) -> dict[str, Any]:
    """Cost and alerts of the latest matured ``days`` and of every whole day since, as plain JSON.

    A provisional day knows only the labels of ``as_of``: where absence means negative, a positive that
    is not known yet counts as none, so its misses are missing and its false alarms are too many.

    Returns:
        ``currency``, ``matures_after_s``, ``capacity`` (alerts a day or none) and ``days``, oldest first:
        ``day``, ``state`` (``final`` or ``provisional``), ``rows`` and ``alerts`` of all answered events,
        ``positives`` and ``cost`` of those whose truth is known.
    """
    calendar, label = usecase.calendar, usecase.label
    settled = calendar.matured_until(as_of, label.matures_after)
    window = TimeWindow(back(calendar, settled, timedelta(days=days)), calendar.start_of(calendar.day_of(as_of)))
    answers = store.log.answers(usecase.name, window)
    known = store.labels.known(usecase.name, as_of, label, window)
    hidden = blocked_events(store, usecase, window, as_of)
    final = matured(answers, known, as_of, label, calendar, hidden)
    recent = answers["event_time"] >= settled
    young = labelled_so_far(answers[recent], known, label, hidden)
    days_of = calendar.days_of(answers["event_time"])
    young = young.assign(day=calendar.days_of(young["event_time"]))
    told = [
        *_days(store, usecase, window, answers[~recent].assign(day=days_of), final, "final"),
        *_days(store, usecase, window, answers[recent].assign(day=days_of), young, "provisional"),
    ]
    return {
        "currency": usecase.cost.currency,
        "matures_after_s": label.matures_after.total_seconds(),
        "capacity": usecase.capacity.alerts_per_day,
        "days": told,
    }


def labelled_so_far(
    young: pd.DataFrame, known: pd.DataFrame, label: LabelPolicy, hidden: Collection[str]
) -> pd.DataFrame:
    """Answers that have not matured with ``y`` as far as it is known; where absence means negative, 0 for the others.

    ``hidden`` events were blocked: without a label they are left out.
    """
    return young.assign(y=truth_of(young["event_id"], known, label, hidden)).dropna(subset="y").reset_index(drop=True)


def _days(
    store: Store, usecase: UseCase, window: TimeWindow, answers: pd.DataFrame, labelled: pd.DataFrame, state: str
) -> list[dict[str, Any]]:
    """Alerts of everything that was answered, whether its label is known or not; money of what is labelled."""
    if answers.empty:
        return []
    flagged = answers.groupby("day", sort=True)["decision"].agg(["size", "sum"])
    money = _money(store, usecase, window, labelled)
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


def _money(store: Store, usecase: UseCase, window: TimeWindow, rows: pd.DataFrame) -> dict[Any, tuple[int, float]]:
    """Positives and cost of each day."""
    if rows.empty:
        return {}
    prices = prices_of(usecase.cost, with_cost_column(store, usecase, window, rows))
    found = daily_performance(rows["day"], rows["y"], rows["decision"], prices)
    return {
        day: (int(p), float(cost)) for day, p, cost in zip(found["day"], found["positives"], found["cost"], strict=True)
    }
