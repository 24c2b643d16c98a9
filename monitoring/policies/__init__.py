"""What a team decides about money, evidence and alarms, as typed, frozen values.

A policy is read from the use-case file. No function of this room has a threshold of its own:
each takes the policy that holds it. The defaults are those of the fraud case.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from monitoring.core.durations import Duration, parse_duration

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


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
    """Length of the training fold while a champion is champion: how far back the world is still the same. None
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
        columns = {*self.sensitive, *self.slices}
        for key in (*self.edges, *self.reference):
            if key not in columns:
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
