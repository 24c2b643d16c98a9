"""Money: what decisions cost, and what an alert is expected to save; :mod:`monitoring.performance.thresholds` chooses
by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from monitoring.policies import CostModel


@dataclass(frozen=True)
class Prices:
    """What the two mistakes cost on each row, in one unit of money.

    Attributes:
        missed: cost of a missed positive, one number or one per row.
        false_alarm: cost of a false alarm.
    """

    missed: float | np.ndarray
    false_alarm: float

    def per_row(self, rows: int) -> np.ndarray:
        """Cost of missing each row."""
        return np.broadcast_to(np.asarray(self.missed, dtype=float), (rows,))

    def of_rows(self, y: ArrayLike, flagged: ArrayLike) -> np.ndarray:
        """Cost of the decision on each row: a miss, a false alarm, or nothing."""
        truth, is_flagged = np.asarray(y, dtype=bool), np.asarray(flagged, dtype=bool)
        return np.where(truth & ~is_flagged, self.missed, np.where(~truth & is_flagged, self.false_alarm, 0.0))


def prices_of(cost: CostModel, table: pd.DataFrame | None = None, cap: float | None = None) -> Prices:
    """The prices that a policy names.

    Args:
        cost: constants, or the name of a column for the cost of a miss.
        table: holds that column, where one is named.
        cap: largest amount that enters a cost. A missing or negative one enters as 0.

    Raises:
        KeyError: when the policy names a column that the table lacks.
    """
    if not isinstance(cost.false_negative, str):
        return Prices(float(cost.false_negative), cost.false_positive)
    if table is None or cost.false_negative not in table.columns:
        raise KeyError(f"the cost of a miss is column {cost.false_negative!r}, which the table lacks")
    # A missing amount is no known loss, and a refund is none at all.
    amounts = np.maximum(np.nan_to_num(table[cost.false_negative].to_numpy(dtype=float)), 0.0)
    return Prices(np.minimum(amounts, cap) if cap is not None else amounts, cost.false_positive)


def total_cost(y: ArrayLike, flagged: ArrayLike, prices: Prices) -> float:
    """Cost of all decisions on rows whose labels are known."""
    return float(prices.of_rows(y, flagged).sum())


def expected_gain(score: ArrayLike, prices: Prices) -> np.ndarray:
    """Money that flagging each row is expected to save, p c_FN - (1 - p) c_FP.

    Flag what is above zero. Under a capacity, flag the rows of largest gain: with amounts that is
    not the order of the scores.
    """
    p = np.asarray(score, dtype=float)
    return np.asarray(p * prices.per_row(len(p)) - (1.0 - p) * prices.false_alarm)


def merit_of(paired: pd.DataFrame, side: str, prices: Prices) -> np.ndarray | None:
    """By what a version ranks events if its threshold goes by the amount; none where it ranks by its score.

    It is told by its thresholds: many different ones on the same rows are a rule, two or three are orders of people.

    Args:
        paired: ``score_a``, ``score_b`` and, where known, ``threshold_a``, ``threshold_b``.
        side: ``a`` or ``b``.
        prices: of the mistakes on these rows.
    """
    name = f"threshold_{side}"
    if name not in paired or not isinstance(prices.missed, np.ndarray):
        return None
    threshold_count = paired[name].iloc[:_CHECKED_ROWS].nunique()
    return expected_gain(paired[f"score_{side}"], prices) if threshold_count > _MAX_THRESHOLDS else None


_CHECKED_ROWS, _MAX_THRESHOLDS = 10_000, 10
