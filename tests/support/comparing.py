"""Comparisons without a log: rows of a test, compared under a plan that is made of a few options."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pandas as pd

from monitoring.comparison import paired
from monitoring.comparison.paired import PairedResult
from monitoring.comparison.plan import ComparisonPlan, planned_options
from monitoring.policies import CostModel
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.bootstrap import Bootstrap

_OF_THE_CALL = ("frozen", "appendix")


def plan_of(cost: CostModel, policy: PromotionPolicy, champion: str, challenger: str, **options: Any) -> ComparisonPlan:
    """A plan of these rules; other options as the fields of a plan."""
    fields: dict[str, Any] = {"cost_cap": None, "alert_rate": None, "label": {}} | options
    return ComparisonPlan(
        "fraud", challenger.rpartition("/")[0], champion, challenger, date(2026, 1, 1),
        planned_options(policy), cost.model_dump(mode="json"), **fields,
    )  # fmt: skip


def compare_paired(
    rows: pd.DataFrame,
    cost: CostModel,
    policy: PromotionPolicy,
    *,
    as_of: datetime,
    repetitions: int = 2000,
    **more: Any,
) -> PairedResult:
    """Compare rows of a test under the plan of these rules."""
    call = {name: more.pop(name) for name in _OF_THE_CALL if name in more}
    plan = plan_of(cost, policy, **more)
    return paired.compare_paired(rows, plan, as_of, bootstrap=Bootstrap(repetitions), **call)
