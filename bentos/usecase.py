"""The use case: one declarative file that everything else reads.

``load_usecase("fraud")`` or ``load_usecase("path/to/my.toml")`` gives a frozen :class:`UseCase`.
A mistake raises :class:`~bentos.errors.UseCaseError` with the file, the key, what was found and
what is allowed. Checks that need more than the file's own words live in ``bentos.conformance``.
"""

from __future__ import annotations

import json
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationError, field_validator, model_validator

from bentos.declarations import (
    NO_TIME,
    Aggregation,
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
from bentos.errors import UseCaseError
from bentos.options import (
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
from bentos.snapshots import SnapshotPolicy
from bentos.tuning import TuningPolicy
from bentos.usecase_problems import explain, not_finite, problems
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
    "Aggregation",
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
    "builtin_usecases",
    "load_usecase",
    "parse_clock",
    "parse_usecase",
    "stakes_of",
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
        for edge in value:
            parse_clock(edge)
        return value

    @model_validator(mode="after")
    def _arrival(self) -> Self:
        if self.untimed and all(c.name != self.event_time for c in self.columns):
            about = "The day of arrival where it is left out."
            column = Column(name=self.event_time, type="datetime", arrival=True, description=about)
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
    def looked_up(self) -> tuple[str, ...]:
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

    def filled_by(self, lookup: str) -> tuple[Column, ...]:
        """The columns that a look-up table fills."""
        return tuple(c for c in self.columns if c.lookup == lookup)

    def column(self, name: str) -> Column:
        """The declared column of that name; ``KeyError`` without one."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def builtin_usecases() -> dict[str, Path]:
    """Name and file of each use case that comes with the product."""
    return {p.parent.name: p for p in sorted(Path(__file__).parent.glob("*/usecase.toml"))}


def load_usecase(ref: str | Path) -> UseCase:
    """Load a use case by the name of a built-in one or by the path of a TOML file.

    Raises:
        UseCaseError: with the file, the key, what was found and what is allowed.
    """
    file = _locate(ref)
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise UseCaseError(file, "file", f"{type(exc).__name__}", "a readable UTF-8 TOML file") from exc
    except tomllib.TOMLDecodeError as exc:
        raise UseCaseError(file, "syntax", str(exc), "valid TOML") from exc
    return parse_usecase(data, file)


def parse_usecase(data: dict[str, Any], file: Path | str = "<memory>") -> UseCase:
    """Validate the content of a use-case file; ``file`` is only named in errors."""
    for key, found in not_finite(data):
        raise UseCaseError(file, key, found, "a finite number")
    try:
        # JSON mode reads lists as tuples and text as dates while all else stays strict.
        usecase = UseCase.model_validate_json(json.dumps(data, default=str))
    except ValidationError as exc:
        raise explain(exc, file, UseCase) from exc
    for key, found, allowed in problems(usecase):
        raise UseCaseError(file, key, found, allowed)
    return usecase


def _locate(ref: str | Path) -> Path:
    known = builtin_usecases()
    if str(ref) in known:
        return known[str(ref)]
    file = Path(ref)
    if file.suffix == ".toml" and file.is_file():
        return file
    raise UseCaseError(ref, "use case", "no such name or file", f"{', '.join(known)}, or the path of a .toml file")


def amount_feature(usecase: UseCase) -> str | None:
    """The feature by which the threshold goes; none where one threshold holds for all events."""
    cost = usecase.cost
    if cost.threshold == "one" or not isinstance(cost.false_negative, str):
        return None
    plain = (f for f in usecase.features if isinstance(f, ColumnFeature))
    return next((f.name for f in plain if f.column == cost.false_negative), None)


def stakes_of(usecase: UseCase) -> tuple[str | None, float]:
    """The column that a miss costs, or none; and what it costs where the event does not say."""
    cost = usecase.cost.false_negative
    return (cost, 0.0) if isinstance(cost, str) else (None, cost)
