"""The plan of a comparison: everything that could be bent while people look, fixed before they do.

It is written when a challenger enters shadow, named by the SHA-256 of its canonical JSON, and kept. A
change of the policy file does not reach a comparison that is under way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any, Final

from monitoring.core.calendar import BusinessCalendar
from monitoring.core.measured import StoredResult
from monitoring.policies import CostModel, LabelPolicy
from monitoring.policies.promotion import PromotionPolicy

EVIDENCE_OPTIONS: Final = (
    "alpha",
    "min_recall_gain",
    "recall_non_inferiority_margin",
    "max_false_positive_rate_increase",
    "max_challenger_errors",
    "slice_recall_margin",
    "min_matured_days",
    "min_matured_positives",
    "max_shadow_days",
    "planned_days",
    "cost_cap_quantile",
    "method",
    "decision_days",
)
"""Options of ``[promotion]`` that a plan fixes; the others say when and by whom, not on what evidence."""
DECIDING_METRICS: Final = ("cost_saving", "recall_gain", "false_positive_rate_rise")
"""Metrics whose bounds decide."""


@dataclass(frozen=True)
class ComparisonPlan(StoredResult):
    """What a comparison rests on.

    Attributes:
        usecase, model: what it is about.
        champion, challenger: labels of the versions.
        first_day: first whole business day that enters.
        promotion: the options of ``[promotion]`` in :data:`EVIDENCE_OPTIONS`.
        cost: the cost model.
        cost_cap: largest amount that enters a cost, in its currency; none caps nothing.
        alert_rate: share of events flagged by both when they are compared at equal alerts; none takes
            the champion's own alerts.
        label: the label policy.
        timezone, day_starts_at: what a day is.
        entity, top_k: of entity clustering and card precision.
        segments: columns by which discordant pairs are counted.
        amount: the column of money for the same.
        metrics: what decides.
        blocks_flagged: whether flagged events are blocked, so that rows are weighted or bounded.
    """

    usecase: str
    model: str
    champion: str
    challenger: str
    first_day: date
    promotion: Mapping[str, Any]
    cost: Mapping[str, Any]
    cost_cap: float | None
    alert_rate: float | None
    label: Mapping[str, Any]
    timezone: str = "UTC"
    day_starts_at: str = "00:00:00"
    entity: str | None = None
    top_k: int = 100
    segments: tuple[str, ...] = ()
    amount: str | None = None
    metrics: tuple[str, ...] = DECIDING_METRICS
    blocks_flagged: bool = False

    @property
    def promotion_policy(self) -> PromotionPolicy:
        """The rules of the verdict."""
        return PromotionPolicy.model_validate_json(json.dumps(dict(self.promotion)))

    @property
    def cost_model(self) -> CostModel:
        """What the mistakes cost."""
        return CostModel.model_validate_json(json.dumps(dict(self.cost)))

    @property
    def label_policy(self) -> LabelPolicy:
        """When a label is final, and what its absence means."""
        return LabelPolicy.model_validate_json(json.dumps(dict(self.label)))

    @property
    def calendar(self) -> BusinessCalendar:
        """What a day is."""
        return BusinessCalendar(self.timezone, time.fromisoformat(self.day_starts_at))

    @property
    def columns(self) -> tuple[str, ...]:
        """Event columns that the comparison reads beside scores and labels."""
        money = self.cost.get("false_negative")
        names = [money if isinstance(money, str) else None, self.entity, self.amount, *self.segments]
        return tuple(dict.fromkeys(name for name in names if name is not None))


def planned_options(policy: PromotionPolicy) -> dict[str, Any]:
    """The options of a policy that a plan fixes."""
    return {name: value for name, value in policy.model_dump(mode="json").items() if name in EVIDENCE_OPTIONS}


def changed_options(plan: ComparisonPlan, todays_plan: ComparisonPlan) -> tuple[str, ...]:
    """Names of what the policy file says otherwise today, for example ``promotion.alpha``."""
    changed = []
    for table in ("promotion", "cost", "label"):
        planned_values, todays_values = dict(getattr(plan, table)), dict(getattr(todays_plan, table))
        changed += [
            f"{table}.{name}"
            for name in sorted({*planned_values, *todays_values})
            if planned_values.get(name) != todays_values.get(name)
        ]
    single_options = ("timezone", "day_starts_at", "entity", "top_k", "segments", "amount", "blocks_flagged")
    return (*changed, *(name for name in single_options if getattr(plan, name) != getattr(todays_plan, name)))
