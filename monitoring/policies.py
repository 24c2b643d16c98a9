"""What a team decides about money, evidence and alarms, as typed, frozen values.

A policy is read from the use-case file. No function of this room has a threshold of its own:
each takes the policy that holds it. The defaults are those of the fraud case.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from monitoring.durations import Duration, clock_time, parse_duration

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class Policy(BaseModel):
    """Strict, frozen, and closed: an unknown key is an error, not a comment."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class CostModel(Policy):
    """What the two mistakes cost, in one unit of money."""

    false_negative: NonNegative | str = 100.0
    """Cost of a missed positive: a constant, or the name of a column such as the amount."""
    false_positive: NonNegative = 1.0
    """Cost of a false alarm."""
    threshold: Literal["auto", "one", "by_amount"] = "auto"
    """``one`` probability for all events, or ``by_amount``: lower where a miss costs more, c_FP / (c_FP + amount).
    ``auto`` goes by the amount where a miss costs a column that is a feature too."""
    currency: str = "EUR"
    """Unit shown in reports; nothing is converted."""


class CapacityPolicy(Policy):
    """How many alerts the analysts can work on."""

    alerts_per_day: Count | None = None
    """Alerts a business day, or none for no limit."""


class ProfitPolicy(Policy):
    """An offer to keep a customer, and what a model must earn with it to pass its gates."""

    offer_cost: Positive
    """What an accepted offer costs, for example a discount."""
    saved_value: Positive | str
    """What a customer who stays is worth: a constant, or the name of a column such as the monthly charge."""
    saved_times: Positive = 1.0
    """How many times that value is kept, for example the months that an offer binds."""
    acceptance_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    """Share of those about to leave whom the offer keeps."""
    contact_cost: NonNegative = 0.0
    """What it costs to ask a customer, whether or not she accepts."""
    min_per_customer: NonNegative = 0.0
    """Profit a scored customer that the interval must lie above; offering nothing earns 0."""
    min_above_everybody: float | None = 0.0
    """Profit a scored customer beyond an offer to everybody that the interval must lie above; none does not ask."""


class GatePolicy(Policy):
    """Floors that a new model must reach on the test window before it may be compared."""

    min_average_precision: Share = 0.5
    """Average precision on the test window."""
    min_recall: Share = 0.5
    """Recall at the model's own threshold."""
    max_calibration_error: Share = 0.05
    """Equal-mass expected calibration error of the calibrated score."""
    max_single_event_p99_ms: Positive = 100.0
    """99th percentile of scoring one event, in milliseconds."""
    max_model_mb: Positive = 500.0
    """Size of the stored model, in megabytes."""
    min_matured_rows: Count = 10_000
    """Rows with matured labels in training and test together."""
    min_baseline_gain: float = 0.0
    """Average precision above logistic regression on the same rows; must be exceeded."""
    max_champion_loss: Share = 0.02
    """Average precision that a new model may lose against the champion on the same rows."""
    min_auc_roc: Share | None = None
    """Area under the ROC curve on the test window; none does not ask."""
    profit: ProfitPolicy | None = None
    """What an offer to the flagged customers must earn; none does not ask."""


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


class DriftPolicy(Policy):
    """When a difference to the reference profile is worth a person's time."""

    psi_warning: Positive = 0.1
    """Population stability index above its null expectation that warns."""
    psi_severe: Positive = 0.25
    """Population stability index above its null expectation that is severe."""
    ks_warning: Positive = 0.1
    """Kolmogorov-Smirnov distance that warns."""
    psi_clear: Positive = 0.07
    """An alarm that was raised stands until nothing shifts by this much (PSI above its null expectation)."""
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    """Level of the Benjamini-Hochberg control over features."""
    window: Duration = Field(default=parse_duration("1d"), validate_default=True)
    """Length of one window under test."""
    windows: Count = 3
    """Disjoint windows that are looked at together."""
    windows_needed: Count = 2
    """Windows of those that must agree before an alarm."""
    min_rows: Count = 200
    """Rows below which a window is ``insufficient_data``."""
    bins: Annotated[int, Field(ge=2, le=100)] = 10
    """Quantile bins of the reference profile."""
    stale_after: Duration = Field(default=parse_duration("1h"), validate_default=True)
    """Age of the newest event from which it is unknown, not fine, how the data are."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.psi_severe <= self.psi_warning:
            raise ValueError(f"psi_severe ({self.psi_severe}) must lie above psi_warning ({self.psi_warning})")
        if self.windows_needed > self.windows:
            raise ValueError(f"windows_needed ({self.windows_needed}) exceeds windows ({self.windows})")
        return self


class RetrainPolicy(Policy):
    """What starts a new training, and how often it may."""

    max_age: Duration = Field(default=parse_duration("30d"), validate_default=True)
    """Age of the champion's training data that starts a retraining."""
    max_new_rows: Count = 100_000
    """Rows since the champion's training data that start a retraining."""
    on_drift: bool = True
    """Severe drift with a moved score distribution starts a retraining."""
    on_performance: bool = True
    """Matured performance loss beyond its interval starts a retraining."""
    max_recall_loss: Share = 0.05
    """Recall points below the reference period that count as lost performance."""
    cooldown: Duration = Field(default=parse_duration("7d"), validate_default=True)
    """Shortest time between two retrainings."""
    wait_after_change: Duration = Field(default=parse_duration("7d"), validate_default=True)
    """How much of the training fold must lie after a lasting drift began before a retraining starts."""
    max_per_month: Count = 4
    """Retrainings in any 30 days."""
    train: Duration | None = None
    """Length of the training fold while a champion holds office: how far back the world is still the same. None
    takes ``[split] train``, which is what the first model learns from."""

    @field_validator("train")
    @classmethod
    def _some_days(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value < timedelta(days=1):
            raise ValueError("train must be at least a day")
        return value


class FairnessPolicy(Policy):
    """Which groups must be treated alike, and how much difference is allowed."""

    sensitive: tuple[str, ...] = ()
    """Event columns whose groups are compared and judged."""
    slices: tuple[str, ...] = ()
    """Event columns by which figures are cut, without limits."""
    edges: dict[str, tuple[float, ...]] = {}
    """Edges at which a number is cut into groups, by column; each group holds its lower edge."""
    reference: dict[str, str] = {}
    """Group that the others of a column are compared with; by default the largest."""
    max_parity_difference: Positive = 0.1
    """Largest difference of the shares that are flagged."""
    max_opportunity_difference: Positive = 0.1
    """Largest difference of recall."""
    min_disparate_impact: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.8
    """Smallest ratio of the shares that are flagged, either way round."""
    min_rows: Count = 100
    """Rows of a group below which parity is not judged."""
    min_positives: Count = 30
    """Positives of a group below which opportunity is not judged."""
    max_groups: Annotated[int, Field(ge=2, le=200)] = 20
    """Groups of one column; the smallest beyond them are one group."""
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    """Level of the Benjamini-Hochberg control over all comparisons."""
    insufficient_blocks: bool = False
    """Whether too little evidence holds a model back as a failure does."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        named = {*self.sensitive, *self.slices}
        for key in (*self.edges, *self.reference):
            if key not in named:
                raise ValueError(f"{key!r} is neither sensitive nor a slice")
        for column, edges in self.edges.items():
            if not edges or list(edges) != sorted(set(edges)):
                raise ValueError(f"edges of {column!r} must rise: {edges}")
        return self


Absent = Literal["negative", "unknown"]


class LabelPolicy(Policy):
    """When a label is final, and what its absence means."""

    column: str
    """Name of the label in tables that carry it; 1 is positive, 0 negative."""
    source_name: str | None = None
    """The label's column in foreign tables, where it has another name."""
    kind: Literal["binary", "multiclass", "regression"] = "binary"
    """What is predicted; only ``binary`` can be trained, the others are refused with a reason."""
    positive: str | None = None
    """The text that means positive in tables, for example ``Yes``; any other text is then negative."""
    observed_at: str | None = None
    """Column with the time at which the label became known; without it, event time + matures_after."""
    matures_after: Duration
    """Age at which an event's label counts as final."""
    absent_after_maturity: Absent = "unknown"
    """What a matured event without a label is."""
    sources: Annotated[tuple[str, ...], Field(min_length=1)] = ("label",)
    """Label sources, strongest first; a stronger one revises a weaker one."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("each label source may be ranked once")
        return self

    def rank(self, source: str) -> int:
        """0 for the strongest source; raises ``ValueError`` for one that is not ranked."""
        if source not in self.sources:
            raise ValueError(f"label source {source!r} is not ranked; allowed: {', '.join(self.sources)}")
        return self.sources.index(source)
