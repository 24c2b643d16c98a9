"""The use case: one declarative file that everything else reads.

``load_usecase("fraud")`` or ``load_usecase("path/to/my.toml")`` gives a frozen :class:`UseCase`.
A mistake raises :class:`~bentos.errors.UseCaseError` with the file, the key, what was found and
what is allowed. Checks that need more than the file's own words live in ``bentos.conformance``.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationError, field_validator, model_validator

from bentos.errors import UseCaseError
from monitoring.calendar import BusinessCalendar
from monitoring.durations import Duration, parse_duration
from monitoring.policies import (
    CapacityPolicy,
    CostModel,
    Count,
    DriftPolicy,
    GatePolicy,
    LabelPolicy,
    Policy,
    Positive,
    PromotionPolicy,
    RetrainPolicy,
    Share,
)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ColumnType = Literal["float", "integer", "boolean", "identifier", "string", "category", "datetime"]
NO_TIME = parse_duration("0s")


class Column(Policy):
    """One declared column of an event. Columns that are not declared are ignored in tables."""

    name: Name
    """The column's name inside the product and in HTTP bodies."""
    source_name: str | None = None
    """Its name in foreign tables, where that is another."""
    type: ColumnType
    """``identifier`` is text that names a thing; integers in tables become their decimal text."""
    min: float | None = None
    """Smallest allowed number."""
    max: float | None = None
    """Largest allowed number."""
    nullable: bool = False
    """Whether an event may lack it; a missing number becomes NaN."""
    max_missing_share: Share | None = None
    """Share of missing values above which a whole table is refused; below it single rows decide."""
    categories: tuple[str, ...] = ()
    """Allowed values of a ``category`` column; empty takes the list of the training data."""
    max_length: Count = 128
    """Longest allowed text."""
    decimals: Annotated[int, Field(ge=0, le=9)] = 2
    """Decimal places kept when the column is summed in a window (sums are scaled integers)."""
    description: str = ""
    """What it is, for forms and the API page."""
    example: str | int | float | bool | None = None
    """An example for the API page."""

    @property
    def external_name(self) -> str:
        """The name that tables of others use."""
        return self.source_name or self.name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        numeric = self.type in ("float", "integer")
        if not numeric and (self.min is not None or self.max is not None):
            raise ValueError(f"min and max are for numbers; column {self.name!r} is a {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) exceeds max ({self.max}) in column {self.name!r}")
        if self.categories and self.type != "category":
            raise ValueError(f"categories are for type 'category'; column {self.name!r} is a {self.type}")
        return self


class ColumnFeature(Policy):
    """A declared number, boolean or category, as it is."""

    name: Name
    kind: Literal["column"]
    column: Name


CalendarPart = Literal["hour", "weekday", "weekend", "night", "month", "day_of_month"]


class CalendarFeature(Policy):
    """A part of the local event time. ``weekend`` and ``night`` are 0 or 1; Monday is weekday 0."""

    name: Name
    kind: Literal["calendar"]
    part: CalendarPart


Aggregation = Literal["count", "sum", "mean", "label_rate"]


class WindowFeature(Policy):
    """An aggregate over an entity's earlier events.

    For an event at time t the window is ``(t - delay - over, t - delay]``; with no delay it holds
    strictly earlier events, and the event itself where ``include_current``. ``label_rate`` is the
    share of known positives among them: a label counts from max(event time + delay, observed_at),
    until then its event is in the denominator only. An empty window gives 0.
    """

    name: Name
    kind: Literal["window"]
    entity: Name
    agg: Aggregation
    over: Duration
    column: Name | None = None
    delay: Duration = NO_TIME
    include_current: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.agg in ("sum", "mean") and self.column is None:
            raise ValueError(f"feature {self.name!r}: agg {self.agg!r} needs a column")
        if self.agg in ("count", "label_rate") and self.column is not None:
            raise ValueError(f"feature {self.name!r}: agg {self.agg!r} takes no column")
        if self.over <= NO_TIME:
            raise ValueError(f"feature {self.name!r}: over must be longer than nothing")
        if self.agg == "label_rate" and self.include_current and "include_current" in self.model_fields_set:
            raise ValueError(f"feature {self.name!r}: a label_rate never includes the current event")
        return self

    @property
    def counts_itself(self) -> bool:
        """Whether the event's own row is in its window."""
        return self.include_current and self.delay == NO_TIME and self.agg != "label_rate"


Feature = Annotated[ColumnFeature | CalendarFeature | WindowFeature, Field(discriminator="kind")]


class SplitPolicy(Policy):
    """Time-ordered folds: train, then a gap as long as labels take, then calibration, then test."""

    train: Duration = Field(default=parse_duration("28d"), validate_default=True)
    """Length of the training fold."""
    calibration: Duration = Field(default=parse_duration("7d"), validate_default=True)
    """Length of the fold that fits the calibrator and the threshold."""
    test: Duration = Field(default=parse_duration("7d"), validate_default=True)
    """Length of the fold that the gates look at."""
    refit_calibration: Duration = Field(default=parse_duration("4d"), validate_default=True)
    """Length of the short fold after the refit that fits the registered model's calibrator and threshold."""


class TrainingPolicy(Policy):
    """Settings of XGBoost and of what follows it."""

    trees: Count = 100
    """Boosting rounds."""
    max_depth: Count = 3
    """Depth of a tree."""
    learning_rate: Positive = 0.1
    """Shrinkage of each tree."""
    tree_method: Literal["hist", "exact", "approx"] = "hist"
    """How splits are searched."""
    max_bin: Annotated[int, Field(ge=2)] = 1024
    """Bins of the hist method; few bins blur sharp limits."""
    base_score: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Score before the first tree."""
    min_child_weight: float = 1.0
    """Smallest sum of hessians in a leaf."""
    subsample: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of rows a tree sees."""
    colsample_bytree: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of features a tree sees."""
    calibration: Literal["auto", "platt", "isotonic"] = "auto"
    """``auto`` is Platt below 1,000 positives and isotonic above."""
    seed: int = 7
    """Seed of everything random in training."""


class Shift(Policy):
    """A declared change of the simulated world."""

    day: Annotated[int, Field(ge=0)]
    """Day of the simulation from which it holds."""
    kind: Literal["amount_scale", "fraud_scenario", "fraud_rate"]
    """Amounts scale by ``factor``; a new fraud scenario starts; compromises multiply by ``factor``."""
    factor: Positive = 1.0
    """Size of the change; for ``fraud_scenario`` how many cards a day are hit."""


class SimulatorOptions(Policy):
    """The card-transaction simulator."""

    customers: Count = 1000
    """Card holders, uniform on a square of side 100."""
    terminals: Count = 2000
    """Terminals, uniform on the same square."""
    radius: Positive = 5.0
    """Distance within which a customer uses terminals."""
    start: date = date(2026, 1, 1)
    """First simulated day."""
    days: Count = 180
    """Simulated days."""
    seed: int = 7
    """Seed of the whole world."""
    shifts: tuple[Shift, ...] = ()
    """Declared changes."""


class SourceOptions(Policy):
    """Where flows read events, unless a parameter names another source."""

    kind: Literal["simulator", "csv", "parquet", "sql", "log"] = "simulator"
    """The adapter in ``flows/sources``."""
    path: str | None = None
    """File, folder or fsspec URL of ``csv`` and ``parquet``."""
    url: str | None = None
    """SQLAlchemy URL of ``sql``; ``${NAME}`` is replaced by the environment."""
    table: str | None = None
    """Table or view of ``sql``."""
    simulator: SimulatorOptions = SimulatorOptions()
    """Options of ``simulator``."""


class ExternalIncumbent(Policy):
    """A score column of the event that holds office before any model does."""

    column: Name
    """The column with the score in 0..1."""
    threshold: Share
    """Scores at or above it are flagged."""


class EvaluationPolicy(Policy):
    """How results are cut."""

    entity: Name | None = None
    """Entity of card precision, for example the customer."""
    top_k: Count = 100
    """Alerts a day of card precision."""


class UseCase(Policy):
    """Everything that Incumbent knows about one decision problem."""

    name: Name
    """Short name; models, tables and dashboards carry it."""
    description: str = ""
    """What is decided, for whom."""
    event_id: Name
    """The column that names an event; of type ``identifier``."""
    event_time: Name
    """The column with the event's business time; of type ``datetime``."""
    timezone: str = "UTC"
    """IANA zone that defines day, night, capacity and maturity."""
    day_starts_at: str = "00:00"
    """Local time at which a business day starts."""
    night: tuple[str, str] = ("00:00", "07:00")
    """Local start (included) and end (excluded) of the night."""
    columns: Annotated[tuple[Column, ...], Field(min_length=2)]
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    label: LabelPolicy
    source: SourceOptions = SourceOptions()
    split: SplitPolicy = SplitPolicy()
    training: TrainingPolicy = TrainingPolicy()
    evaluation: EvaluationPolicy = EvaluationPolicy()
    cost: CostModel = CostModel()
    capacity: CapacityPolicy = CapacityPolicy()
    gates: GatePolicy = GatePolicy()
    promotion: PromotionPolicy = PromotionPolicy()
    drift: DriftPolicy = DriftPolicy()
    retrain: RetrainPolicy = RetrainPolicy()
    incumbent: ExternalIncumbent | None = None

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

    def column(self, name: str) -> Column:
        """The declared column of that name; ``KeyError`` without one."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """References that lead nowhere, as (key, found, allowed)."""
        names = [c.name for c in self.columns]
        yield from _repeated("columns", names)
        yield from _repeated("features", [f.name for f in self.features])
        types = {c.name: c.type for c in self.columns}
        yield from _reference(types, "event_id", self.event_id, ("identifier",))
        yield from _reference(types, "event_time", self.event_time, ("datetime",))
        for index, feature in enumerate(self.features):
            where = f"features[{index}]"
            if isinstance(feature, ColumnFeature):
                allowed = ("float", "integer", "boolean", "category")
                yield from _reference(types, f"{where}.column", feature.column, allowed)
            if isinstance(feature, WindowFeature):
                yield from _reference(types, f"{where}.entity", feature.entity, ("identifier", "category", "string"))
                if feature.column is not None:
                    yield from _reference(types, f"{where}.column", feature.column, ("float", "integer"))
        if self.evaluation.entity is not None:
            yield from _reference(types, "evaluation.entity", self.evaluation.entity, ("identifier",))
        if isinstance(self.cost.false_negative, str):
            yield from _reference(types, "cost.false_negative", self.cost.false_negative, ("float", "integer"))
        if self.incumbent is not None:
            yield from _reference(types, "incumbent.column", self.incumbent.column, ("float",))
        if self.label.column in types:
            yield (
                "label.column",
                repr(self.label.column),
                "a name that no event column has: the label is not known when the event is scored",
            )


def parse_clock(value: str) -> time:
    """Read ``HH:MM``."""
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise ValueError("a local time as HH:MM, for example '06:00'")
    return time.fromisoformat(value)


def _repeated(key: str, names: list[str]) -> Iterator[tuple[str, str, str]]:
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield (key, f"{name!r} twice", "each name once")


def _reference(
    types: Mapping[str, str], key: str, name: str, allowed: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    fitting = sorted(n for n, t in types.items() if t in allowed)
    if name not in types:
        yield (key, repr(name), f"a declared column ({', '.join(fitting) or 'none of a fitting type is declared'})")
    elif types[name] not in allowed:
        yield (
            key,
            f"{name!r} of type {types[name]}",
            f"a column of type {' or '.join(allowed)} ({', '.join(fitting)})",
        )


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
    try:
        # JSON mode reads lists as tuples and text as dates while all else stays strict.
        usecase = UseCase.model_validate_json(json.dumps(data, default=str))
    except ValidationError as exc:
        raise _explain(exc, file) from exc
    for key, found, allowed in usecase.problems():
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


def _explain(exc: ValidationError, file: Path | str) -> UseCaseError:
    error = exc.errors(include_url=False)[0]
    key = _path(error["loc"])
    if error["type"] == "extra_forbidden":
        allowed = _allowed_keys(error["loc"])
        near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return UseCaseError(file, key, "an unknown key", ", ".join(allowed) + hint)
    found = "nothing" if error["type"] == "missing" else repr(error["input"])
    if len(found) > 120:
        found = found[:117] + "..."
    return UseCaseError(file, key, found, error["msg"].removeprefix("Value error, "))


_KINDS = {"column": ColumnFeature, "calendar": CalendarFeature, "window": WindowFeature}


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for index, part in enumerate(loc):
        if isinstance(part, int):
            text += f"[{part}]"
        elif not (index >= 2 and loc[0] == "features" and part in _KINDS and index == 2):
            text += f".{part}" if text else part
    return text or "file"


def _allowed_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = UseCase
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        if part in _KINDS and model is None:
            model = _KINDS[part]
            continue
        annotation = model.model_fields[part].annotation
        model = _model_of(annotation)
    return sorted(model.model_fields) if model is not None else []


def _model_of(annotation: Any) -> Any:
    """The policy class inside an annotation, or none where several are possible."""
    if isinstance(annotation, type) and issubclass(annotation, Policy):
        return annotation
    found = {m for m in map(_model_of, getattr(annotation, "__args__", ())) if m is not None}
    return found.pop() if len(found) == 1 else None
