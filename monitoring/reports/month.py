"""What management asks of one month: fraud in basis points, value detected, false alarms per fraud, cost.

Final figures come from matured days, provisional ones from young days with the labels known so far; they are
never added up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from monitoring.core.measured import Measurement, StoredResult
from monitoring.performance.cost import Prices, total_cost
from monitoring.stats.intervals import wilson


@dataclass(frozen=True)
class MonthFigures(StoredResult):
    """One part of a month.

    Attributes:
        days: business days with events.
        events, alerts, positives, caught: counts; ``caught`` are flagged positives.
        amount, fraud_amount, caught_amount: money of all events, of positives, of flagged positives; none where
            the use case names no amount.
        fraud_bp: fraud in basis points (hundredths of a per cent) of the amount; of the events without one.
        value_detection_rate: share of the fraud amount that was flagged; of the positives without an amount.
        recall: share of the positives that were flagged, with Wilson's 95 % interval.
        false_alarms_per_fraud: false alarms for each caught positive; none where nothing was caught.
        cost: of the mistakes, in the use case's currency.
    """

    days: int
    events: int
    alerts: int
    positives: int
    caught: int
    amount: float | None
    fraud_amount: float | None
    caught_amount: float | None
    fraud_bp: float | None
    value_detection_rate: float | None
    recall: Measurement
    false_alarms_per_fraud: float | None
    cost: float


def month_figures(rows: pd.DataFrame, prices: Prices, amount: str | None) -> MonthFigures:
    """The figures of labelled answers.

    Args:
        rows: ``day``, ``y`` (0/1), ``decision`` (bool), and the amount column where one is named.
        prices: of the mistakes on these rows.
        amount: the column of money, or none.
    """
    y, flagged = rows["y"].to_numpy() == 1, rows["decision"].to_numpy(dtype=bool)
    money = None if amount is None else np.nan_to_num(rows[amount].to_numpy(dtype=float))
    positives, caught = int(y.sum()), int((y & flagged).sum())
    size = money if money is not None else np.ones(len(rows))
    total_value, positive_value, caught_value = (
        float(size[mask].sum()) for mask in (np.ones(len(rows), dtype=bool), y, y & flagged)
    )
    return MonthFigures(
        days=int(rows["day"].nunique()),
        events=len(rows),
        alerts=int(flagged.sum()),
        positives=positives,
        caught=caught,
        amount=total_value if money is not None else None,
        fraud_amount=positive_value if money is not None else None,
        caught_amount=caught_value if money is not None else None,
        fraud_bp=positive_value / total_value * 1e4 if total_value > 0.0 else None,
        value_detection_rate=caught_value / positive_value if positive_value > 0.0 else None,
        recall=wilson(caught, positives),
        false_alarms_per_fraud=(int(flagged.sum()) - caught) / caught if caught else None,
        cost=total_cost(y, flagged, prices),
    )
