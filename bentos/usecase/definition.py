"""The use case: one declarative file that everything else reads.

``load_usecase("fraud")`` or ``load_usecase("path/to/my.toml")`` gives a frozen :class:`UseCase`.
A mistake raises :class:`~bentos.errors.UseCaseError` with the file, the key, what was found and
what is allowed. Checks that need more than the file's own words live in ``bentos.check.usecase``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator, model_validator

from bentos.usecase.declarations import (
    NO_TIME,
    CalendarFeature,
    CalendarPart,
    Column,
    ColumnFeature,
    ColumnType,
    CountedTime,
    ExpressionFeature,
    Feature,
    Lookup,
    Name,
    WindowFeature,
    parse_clock,
)
from bentos.usecase.options import (
    EvaluationPolicy,
    ExternalIncumbent,
    InterventionPolicy,
    NotifyPolicy,
    PrivacyPolicy,
    Shift,
    SimulatorOptions,
    SourceOptions,
    SplitPolicy,
    TrainingPolicy,
)
from bentos.usecase.snapshots import SnapshotPolicy
from bentos.usecase.tuning import TuningPolicy
from monitoring.core.calendar import BusinessCalendar
from monitoring.policies import (
    CapacityPolicy,
    CostModel,
    DriftPolicy,
    FairnessPolicy,
    GatePolicy,
    LabelPolicy,
    Policy,
    RetrainPolicy,
)
from monitoring.policies.promotion import PromotionPolicy
from monitoring.policies.watch import WatchPolicy

__all__ = [
    "NO_TIME",
    "CalendarFeature",
    "CalendarPart",
    "Column",
    "ColumnFeature",
    "ColumnType",
    "CountedTime",
    "EvaluationPolicy",
    "ExpressionFeature",
    "ExternalIncumbent",
    "Feature",
    "InterventionPolicy",
    "Lookup",
    "Name",
    "PrivacyPolicy",
    "Shift",
    "SimulatorOptions",
    "SourceOptions",
    "SplitPolicy",
    "TrainingPolicy",
    "TuningPolicy",
    "UseCase",
    "WatchPolicy",
    "WindowFeature",
    "amount_feature",
    "miss_cost_of",
    "parse_clock",
]


class UseCase(Policy):
    """Everything that Incumbent knows about one decision problem."""

    name: Name
    """Short name; models, tables and dashboards carry it."""
    description: str = ""
    """What is decided, for whom."""
    event_id: Name
    """The column that names an event; of type ``identifier``."""
    event_time: Name = "event_time"
    """The column with the event's business time; of type ``datetime``."""
    time: Literal["column", "none"] = "column"
    """``none``: the data has no time. Models are then judged by stratified k-fold cross-validation, and live
    events take the day of their arrival."""
    timezone: str = "UTC"
    """IANA zone that defines day, night, capacity and maturity."""
    day_starts_at: str = "00:00"
    """Local time at which a business day starts."""
    night: tuple[str, str] = ("00:00", "07:00")
    """Local start (included) and end (excluded) of the night."""
    columns: Annotated[tuple[Column, ...], Field(min_length=2)]
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    lookups: tuple[Lookup, ...] = ()
    """Tables that fill columns of the event by an entity."""
    label: LabelPolicy
    source: SourceOptions = SourceOptions()
    split: SplitPolicy = SplitPolicy()
    training: TrainingPolicy = TrainingPolicy()
    tuning: TuningPolicy | None = None
    evaluation: EvaluationPolicy = EvaluationPolicy()
    cost: CostModel = CostModel()
    capacity: CapacityPolicy = CapacityPolicy()
    gates: GatePolicy = GatePolicy()
    promotion: PromotionPolicy = PromotionPolicy()
    drift: DriftPolicy = DriftPolicy()
    retrain: RetrainPolicy = RetrainPolicy()
    fairness: FairnessPolicy = FairnessPolicy()
    incumbent: ExternalIncumbent | None = None
    privacy: PrivacyPolicy = PrivacyPolicy()
    snapshot: SnapshotPolicy | None = None
    intervention: InterventionPolicy = InterventionPolicy()
    watch: WatchPolicy = WatchPolicy()
    notify: NotifyPolicy = NotifyPolicy()

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("an IANA zone name such as 'UTC' or 'Europe/Paris'")
        return value

    @field_validator("day_starts_at")
    @classmethod
    def _clock(cls, value: str) -> str:
        parse_clock(value)
        return value

    @field_validator("night")
    @classmethod
    def _night(cls, value: tuple[str, str]) -> tuple[str, str]:
        for clock_text in value:
            parse_clock(clock_text)
        return value

    @model_validator(mode="after")
    def _arrival(self) -> Self:
        if self.untimed and all(c.name != self.event_time for c in self.columns):
            description = "The day of arrival where it is left out."
            column = Column(name=self.event_time, type="datetime", arrival=True, description=description)
            self.__dict__["columns"] = (*self.columns, column)
        return self

    @property
    def untimed(self) -> bool:
        """Whether the data has no time."""
        return self.time == "none"

    @property
    def calendar(self) -> BusinessCalendar:
        """The business days of the use case."""
        return BusinessCalendar(self.timezone, parse_clock(self.day_starts_at))

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of day, night, capacity and maturity."""
        return ZoneInfo(self.timezone)

    @property
    def longest_window(self) -> timedelta:
        """Delay plus length of the longest window: the context that a history needs."""
        windows = [f.over + f.delay for f in self.features if isinstance(f, WindowFeature)]
        return max(windows, default=NO_TIME)

    @property
    def lookup_column_names(self) -> tuple[str, ...]:
        """Names of the columns that are filled from look-up tables."""
        return tuple(c.name for c in self.columns if c.lookup is not None)

    def without_lookups(self) -> UseCase:
        """The same use case with columns that have to be there instead of looked-up ones."""
        columns = tuple(c.model_copy(update={"lookup": None}) for c in self.columns)
        return self.model_copy(update={"columns": columns, "lookups": ()})

    def lookup(self, name: str) -> Lookup:
        """The declared look-up table of that name; ``KeyError`` without one."""
        for lookup in self.lookups:
            if lookup.name == name:
                return lookup
        raise KeyError(name)

    def columns_of_lookup(self, lookup: str) -> tuple[Column, ...]:
        """The columns that a look-up table fills."""
        return tuple(c for c in self.columns if c.lookup == lookup)

    def column(self, name: str) -> Column:
        """The declared column of that name; ``KeyError`` without one."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def amount_feature(usecase: UseCase) -> str | None:
    """The feature by which the threshold goes; none where one threshold holds for all events."""
    cost = usecase.cost
    if cost.threshold == "one" or not isinstance(cost.false_negative, str):
        return None
    column_features = (f for f in usecase.features if isinstance(f, ColumnFeature))
    return next((f.name for f in column_features if f.column == cost.false_negative), None)


def miss_cost_of(usecase: UseCase) -> tuple[str | None, float]:
    """The column that a miss costs, or none; and what it costs where the event does not say."""
    cost = usecase.cost.false_negative
    return (cost, 0.0) if isinstance(cost, str) else (None, cost)
