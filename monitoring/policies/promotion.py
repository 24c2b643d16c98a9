"""The evidence that a team asks for before a challenger becomes champion, as a frozen value."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from monitoring.core.durations import Duration, clock_time, parse_duration
from monitoring.policies import Count, NonNegative, Policy, Share

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class PromotionPolicy(Policy):
    """The evidence that moves ``@champion``."""

    takes_office: Literal["after_comparison", "after_gates"] = "after_comparison"
    """``after_comparison``: on the verdict about matured days in shadow. ``after_gates``, for fast streams where a
    model ages while it waits: once it passes its gates, which measure the champion on the same matured rows."""
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    """Error level of every bound that decides."""
    min_recall_gain: NonNegative | None = None
    """Recall points the challenger must gain; 0.01 unless a non-inferiority margin is declared."""
    recall_non_inferiority_margin: NonNegative | None = None
    """Recall points the challenger may lose, for models that only cut false alarms."""
    max_false_positive_rate_increase: NonNegative = 0.01
    """Guardrail: upper bound of the rise in false-positive rate."""
    max_challenger_errors: Share = 0.001
    """Guardrail: share of answered events at which the challenger failed to score."""
    slice_recall_margin: NonNegative | None = 0.1
    """Guardrail: recall points that a declared segment may lose; none looks at no segment."""
    min_matured_days: Count = 14
    """Business days whose labels have all matured."""
    min_matured_positives: Count = 200
    """Matured positives over those days."""
    max_shadow_days: Count = 60
    """Days after which a comparison without a verdict keeps the champion."""
    planned_days: Count = 28
    """Day at which the sequential test is tightest (n* of the anytime-valid t)."""
    cost_cap_quantile: Annotated[float, Field(gt=0.5, le=1.0)] = 0.999
    """Amounts are capped at this quantile of the reference before they enter a cost."""
    method: Literal["anytime", "lan_demets"] = "anytime"
    """``anytime`` bounds hold however often people look; ``lan_demets`` looks on declared days only."""
    decision_days: Annotated[tuple[Count, ...], Field(min_length=1)] = (14, 28, 42, 56)
    """Matured days on which ``lan_demets`` looks; the last spends what is left of the level."""
    allowed_hours: tuple[str, str] | None = None
    """Local hours in which a promotion may happen, for example ["09:00", "17:00"]; rollbacks always may."""
    allowed_weekdays: Annotated[tuple[Weekday, ...], Field(min_length=1)] | None = None
    """Local weekdays on which a promotion may happen; none is every day."""
    freeze: tuple[tuple[date, date], ...] = ()
    """First and last local day of times in which nothing is promoted."""
    hand_edits: bool = False
    """Whether an alias that was moved by hand is served, though no decision explains it."""
    approval: Literal["automatic", "required"] = "automatic"
    """Whether a person with a key of scope ``approve`` must agree before a promotion."""
    approval_timeout: Duration = Field(default=parse_duration("24h"), validate_default=True)
    """How long a promotion waits for that person; afterwards the next run asks again with fresh evidence."""
    verdict_valid_for: Duration = Field(default=parse_duration("7d"), validate_default=True)
    """Machine time after a verdict in which it may be carried out; afterwards the models must be compared again."""
    emergency_review: Duration = Field(default=parse_duration("3d"), validate_default=True)
    """Time after an emergency promotion by which a third person must have reviewed it; else it is rolled back."""

    @field_validator("allowed_hours")
    @classmethod
    def _hours(cls, value: tuple[str, str] | None) -> tuple[str, str] | None:
        if value is not None and clock_time(value[0]) >= clock_time(value[1]):
            raise ValueError(f"allowed_hours must begin before they end, on one day: {value[0]} to {value[1]}")
        return value

    @field_validator("freeze")
    @classmethod
    def _frozen_days(cls, value: tuple[tuple[date, date], ...]) -> tuple[tuple[date, date], ...]:
        for first, last in value:
            if last < first:
                raise ValueError(f"a freeze ends before it begins: {first} to {last}")
        return value

    @model_validator(mode="after")
    def _one_recall_rule(self) -> Self:
        if self.min_recall_gain is not None and self.recall_non_inferiority_margin is not None:
            raise ValueError("declare min_recall_gain or recall_non_inferiority_margin, not both")
        return self

    @model_validator(mode="after")
    def _rising_decision_days(self) -> Self:
        if list(self.decision_days) != sorted(set(self.decision_days)):
            raise ValueError(f"decision_days must rise, found {list(self.decision_days)}")
        if self.method == "lan_demets" and self.decision_days[0] < 2:
            raise ValueError("the first of decision_days must be at least 2: one day has no spread")
        return self

    @model_validator(mode="after")
    def _nobody_is_asked(self) -> Self:
        if self.takes_office == "after_gates" and self.approval == "required":
            raise ValueError("takes_office = 'after_gates' waits for nobody; with approval = 'required' leave it out")
        return self

    @property
    def required_recall_gain(self) -> float:
        """Smallest point estimate of the recall difference that may promote (negative for a margin)."""
        if self.recall_non_inferiority_margin is not None:
            return -self.recall_non_inferiority_margin
        return 0.01 if self.min_recall_gain is None else self.min_recall_gain
