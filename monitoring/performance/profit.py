"""What an offer to the flagged customers earns, as the literature on customer churn counts it.

An offer is made to every flagged customer. One who would have left stays with probability g (the acceptance
rate); she then costs the offer d and keeps her value V. One who would have stayed takes the offer all the same.
Each contact costs f. So a row earns

    a flagged customer who would leave    g (V - d) - f
    a flagged customer who would stay     - d - f
    nobody is asked                       0

which is the profit of Neslin and others (2006, J. Marketing Research 43) in the form of Verbeke and others (2012,
European J. Operational Research 218) and Verbraken and others (2013, IEEE TKDE 25). They maximise it over all
thresholds; here it is taken at the threshold that the model will decide by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from monitoring.core.measured import UNKNOWN, Measurement
from monitoring.policies import ProfitPolicy
from monitoring.stats.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, resampling_units


@dataclass(frozen=True)
class Offer:
    """The policy's figures on some rows.

    Attributes:
        policy: cost of the offer and of the contact, acceptance.
        value: what each customer is worth if she stays, one number or one per row.
    """

    policy: ProfitPolicy
    value: float | np.ndarray

    def of_rows(self, y: ArrayLike, flagged: ArrayLike) -> np.ndarray:
        """Profit of the decision on each row."""
        policy = self.policy
        truth, is_flagged = np.asarray(y, dtype=bool), np.asarray(flagged, dtype=bool)
        profit_if_kept = (
            policy.acceptance_rate * (np.asarray(self.value, dtype=float) - policy.offer_cost) - policy.contact_cost
        )
        profit_if_wasted = -policy.offer_cost - policy.contact_cost
        return np.asarray(np.where(is_flagged, np.where(truth, profit_if_kept, profit_if_wasted), 0.0))


def offer_of(policy: ProfitPolicy, values: ArrayLike | None = None) -> Offer:
    """The offer that a policy names.

    Args:
        policy: cost, acceptance, and a constant value or the name of a column.
        values: that column, where one is named. A missing or negative value enters as 0.

    Raises:
        ValueError: the policy names a column, and its values are not there.
    """
    if not isinstance(policy.saved_value, str):
        return Offer(policy, policy.saved_times * policy.saved_value)
    if values is None:
        raise ValueError(f"the value of a customer is column {policy.saved_value!r}, whose values are needed")
    amounts = np.maximum(np.nan_to_num(np.asarray(values, dtype=float)), 0.0)
    return Offer(policy, policy.saved_times * amounts)


def measure_profit(
    y: ArrayLike,
    flagged: ArrayLike,
    offer: Offer,
    *,
    days: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> dict[str, Measurement]:
    """Profit of an offer to the flagged, of one row of it, and of one row beyond an offer to everybody.

    The last is a paired difference: both are taken from the same rows in each repetition.

    Args:
        y: 0/1 of each row, matured.
        flagged: the decision on each row.
        offer: what it costs and keeps.
        days: business day of each row; resampled from 20 days on, else rows are.
        weight: how many customers each row stands for; by default itself.
        bootstrap: of the intervals.
    """
    profits = offer.of_rows(y, flagged)
    weights = np.ones(len(profits)) if weight is None else np.asarray(weight, dtype=float)
    if not len(profits):
        return dict.fromkeys(("profit", "profit_per_customer", "profit_above_everybody"), UNKNOWN)
    profits_above_everybody = profits - offer.of_rows(y, np.ones(len(profits), dtype=bool))
    units = resampling_units(np.lexsort((profits_above_everybody, profits)), days, bootstrap.seed)
    resamples = bootstrap.draw(units.count)
    profits, profits_above_everybody, total = profits * weights, profits_above_everybody * weights, float(weights.sum())
    rows = resamples.sums(units.totals(weights))
    resampled_profit, resampled_gain = (
        resamples.sums(units.totals(profits)),
        resamples.sums(units.totals(profits_above_everybody)),
    )
    return {
        "profit": resamples.interval(float(profits.sum()), resampled_profit),
        "profit_per_customer": resamples.interval(float(profits.sum()) / total, resampled_profit / rows),
        "profit_above_everybody": resamples.interval(
            float(profits_above_everybody.sum()) / total, resampled_gain / rows
        ),
    }
