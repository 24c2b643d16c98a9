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
from monitoring.core.measured import Stored
from monitoring.policies import CostModel, LabelPolicy
from monitoring.policies.promotion import PromotionPolicy

EVIDENCE: Final = (
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
DECIDING: Final = ("cost_saving", "recall_gain", "false_positive_rate_rise")
"""Metrics whose bounds decide."""


@dataclass(frozen=True)
class ComparisonPlan(Stored):
    """What a comparison rests on.

    Attributes:
        usecase, model: what it is about.
        champion, challenger: labels of the versions.
        first_day: first whole business day that enters.
        promotion: the options of ``[promotion]`` in :data:`EVIDENCE`.
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
    metrics: tuple[str, ...] = DECIDING
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
        named = [money if isinstance(money, str) else None, self.entity, self.amount, *self.segments]
        return tuple(dict.fromkeys(name for name in named if name is not None))


def planned_options(policy: PromotionPolicy) -> dict[str, Any]:
    """The options of a policy that a plan fixes."""
    return {name: value for name, value in policy.model_dump(mode="json").items() if name in EVIDENCE}


def changes(plan: ComparisonPlan, today: ComparisonPlan) -> tuple[str, ...]:
    """Names of what the policy file says otherwise today, for example ``promotion.alpha``."""
    found = []
    for part in ("promotion", "cost", "label"):
        then, now = dict(getattr(plan, part)), dict(getattr(today, part))
        found += [f"{part}.{name}" for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    single = ("timezone", "day_starts_at", "entity", "top_k", "segments", "amount", "blocks_flagged")
    return (*found, *(name for name in single if getattr(plan, name) != getattr(today, name)))
