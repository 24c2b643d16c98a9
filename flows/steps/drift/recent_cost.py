"""What each of the latest days costs: final where its labels have matured, provisional where they have not."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.steps.drift.matured_answers import MaturedAnswers, labelled_rows
from monitoring.performance.cost import prices_of
from monitoring.performance.measure import daily_performance, label_events
from monitoring.policies import LabelPolicy


def daily_cost(usecase: UseCase, answers: MaturedAnswers) -> dict[str, Any]:
    """Cost and alerts of the latest seven matured days and of every whole day since, as plain JSON.

    A provisional day knows only the labels of ``as_of``: where absence means negative, a positive that
    is not known yet counts as none, so its misses are missing and its false alarms are too many.

    Returns:
        ``currency``, ``matures_after_s``, ``capacity`` (alerts a day or none) and ``days``, oldest first:
        ``day``, ``state`` (``final`` or ``provisional``), ``rows`` and ``alerts`` of all answered events,
        ``positives`` and ``cost`` of those whose truth is known.
    """
    return {
        "currency": usecase.cost.currency,
        "matures_after_s": usecase.label.matures_after.total_seconds(),
        "capacity": usecase.capacity.alerts_per_day,
        "days": [
            *_day_rows(usecase, answers.latest(), "final"),
            *_day_rows(usecase, answers.young, "provisional"),
        ],
    }


def add_labels_so_far(
    young: pd.DataFrame, labels: pd.DataFrame, label: LabelPolicy, blocked_ids: Collection[str]
) -> pd.DataFrame:
    """Answers that have not matured with ``y`` as far as it is known; where absence means negative, 0 for the others.

    ``blocked_ids`` events were blocked: without a label they are left out.
    """
    return (
        young.assign(y=label_events(young["event_id"], labels.set_index("event_id")["y"], label, blocked_ids))
        .dropna(subset="y")
        .reset_index(drop=True)
    )


def _day_rows(usecase: UseCase, answers: pd.DataFrame, state: str) -> list[dict[str, Any]]:
    """Alerts of everything that was answered, whether its label is known or not; money of what is labelled."""
    if answers.empty:
        return []
    flagged = answers.groupby("day", sort=True)["decision"].agg(["size", "sum"])
    money = _cost_by_day(usecase, labelled_rows(answers))
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


def _cost_by_day(usecase: UseCase, rows: pd.DataFrame) -> dict[Any, tuple[int, float]]:
    """Positives and cost of each day."""
    if rows.empty:
        return {}
    daily = daily_performance(rows["day"], rows["y"], rows["decision"], prices_of(usecase.cost, rows))
    return {
        day: (int(p), float(cost)) for day, p, cost in zip(daily["day"], daily["positives"], daily["cost"], strict=True)
    }
