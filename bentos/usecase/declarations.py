"""What a use case declares of its events: columns and features."""

from __future__ import annotations

from datetime import datetime, time
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from bentos.windows.aggregates import AGGREGATES
from monitoring.core.durations import Duration, clock_time, parse_duration
from monitoring.policies import Count, Policy, Share

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ColumnType = Literal["float", "integer", "boolean", "identifier", "string", "category", "datetime"]
NO_TIME = parse_duration("0s")


class CountedTime(Policy):
    """A time that tables do not tell, because their rows are numbered in steps of equal length."""

    column: Annotated[str, Field(min_length=1)]
    """The table's column with the number of the step."""
    start: datetime
    """The time of number 0; without an offset it is a local time of the use case's zone."""
    step: Duration
    """Time from one number to the next."""

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.step <= NO_TIME:
            raise ValueError("step must be longer than nothing")
        return self


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
    missing: Literal["nan", "refuse"] | float | None = None
    """What a missing value is: unknown to the model, a reason to refuse the event, or this number. Unset follows
    ``nullable``; anything but ``refuse`` makes the column nullable."""
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
    pan_guard: bool = False
    """Whether a text that holds a card number is refused."""
    counted: CountedTime | None = None
    """How a datetime follows from a step number, in tables that have the number and not the time."""
    arrival: bool = False
    """Whether a datetime may be left out of a request and is then the UTC day of its arrival."""
    lookup: Name | None = None
    """The look-up table that fills it; ``source_name`` is then its name in that table. Clients do not send it."""

    @property
    def external_name(self) -> str:
        """The name that tables of others use."""
        return self.source_name or self.name

    @model_validator(mode="after")
    def _missing_means_nullable(self) -> Self:
        if self.missing == "refuse" and self.nullable:
            raise ValueError("missing = 'refuse' contradicts nullable = true")
        if self.missing not in (None, "refuse"):
            self.__dict__["nullable"] = True  # one word in the file is enough
        return self

    @property
    def fill(self) -> float | None:
        """The number that stands for a missing value in features, if any."""
        return self.missing if isinstance(self.missing, float | int) else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        numeric = self.type in ("float", "integer")
        if self.fill is not None and not (numeric or self.type == "boolean"):
            raise ValueError(f"a number in place of a missing value is for numbers; {self.name!r} is a {self.type}")
        if not numeric and (self.min is not None or self.max is not None):
            raise ValueError(f"min and max are for numbers; column {self.name!r} is a {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) exceeds max ({self.max}) in column {self.name!r}")
        if self.counted is not None and self.type != "datetime":
            raise ValueError(f"counted is for times; column {self.name!r} is a {self.type}")
        if self.lookup is not None and not self.nullable:
            raise ValueError(
                f"a table may not know an entity, so column {self.name!r} needs nullable = true, missing = 'nan', "
                "or a number as missing"
            )
        if self.lookup is not None and (self.counted is not None or self.arrival):
            raise ValueError(
                f"column {self.name!r} is filled from a lookup; counted and arrival are other ways to fill it"
            )
        if self.pan_guard and self.type not in ("identifier", "string", "category"):
            raise ValueError(f"pan_guard is for texts; column {self.name!r} is a {self.type}")
        if self.categories and self.type != "category":
            raise ValueError(f"categories are for type 'category'; column {self.name!r} is a {self.type}")
        return self


class Lookup(Policy):
    """A table of slowly moving values by entity, for example a customer's credit limit.

    An event takes the newest row of its entity with ``valid_from`` at or before the event time, and no older
    than ``max_age``; without one the values are missing. See :mod:`bentos.schema.lookups` for the file.
    """

    name: Name
    """Its name, and that of its file."""
    entity: Name
    """The identifier column of the event by which rows are found."""
    max_age: Duration | None = None
    """Age at the event time above which a row no longer counts; none lets rows count until the next one."""
    description: str = ""
    """What it holds, and who keeps it."""

    @model_validator(mode="after")
    def _some_age(self) -> Self:
        if self.max_age is not None and self.max_age <= NO_TIME:
            raise ValueError("max_age must be longer than nothing; leave it out where rows do not age")
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


def _known_aggregate(name: str) -> str:
    if name not in AGGREGATES:
        raise PydanticCustomError(
            "literal_error", "Input should be {expected}", {"expected": ", ".join(map(repr, AGGREGATES))}
        )
    return name


Aggregation = Annotated[str, AfterValidator(_known_aggregate)]
"""A name in :data:`bentos.windows.aggregates.AGGREGATES`."""


class WindowFeature(Policy):
    """An aggregate over an entity's earlier events.

    For an event at time t the window is ``(t - delay - over, t - delay]``; with no delay it holds
    strictly earlier events, and the event itself where ``include_current``. ``label_rate`` is the
    share of known positives among them: a label counts from max(event time + delay, observed_at),
    until then its event is in the denominator only. A missing amount is left out of ``sum`` and
    ``mean`` while ``count`` counts its event. An empty window gives 0, and so does an event without
    the entity, apart from itself. ``std`` is the sample deviation, 0 below two values. ``distinct``
    counts different values of a number or a text. ``time_since_last`` is in seconds, from the newest
    event in the window. Where nothing is known, ``min``, ``max`` and ``time_since_last`` are missing.
    """

    name: Name
    kind: Literal["window"]
    entity: Name
    agg: Aggregation
    over: Duration
    column: Name | None = None
    delay: Duration = NO_TIME
    include_current: bool | None = None
    """Whether the event itself is counted; by default it is, unless the window is delayed or a label rate."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        aggregate = AGGREGATES[self.agg]
        if aggregate.accepts != "events" and self.column is None:
            raise ValueError(f"feature {self.name!r}: agg {self.agg!r} needs a column")
        if aggregate.accepts == "events" and self.column is not None:
            raise ValueError(f"feature {self.name!r}: agg {self.agg!r} takes no column")
        if self.over <= NO_TIME:
            raise ValueError(f"feature {self.name!r}: over must be longer than nothing")
        if self.include_current and not aggregate.includes_current:
            raise ValueError(f"feature {self.name!r}: a {self.agg} never includes the current event")
        if self.delay > NO_TIME and self.include_current:
            raise ValueError(f"feature {self.name!r}: a delayed window never includes the current event")
        return self

    @property
    def counts_itself(self) -> bool:
        """Whether the event's own row is in its window."""
        allowed = AGGREGATES[self.agg].includes_current
        return self.include_current is not False and self.delay == NO_TIME and allowed


class ExpressionFeature(Policy):
    """A formula over columns of the event and features declared above it.

    Numbers, ``+ - * /``, comparisons (1 or 0), ``and``, ``or``, ``not`` and the functions ``abs``,
    ``sqrt``, ``log``, ``log1p``, ``min``, ``max``, ``where(condition, a, b)``, ``missing(x)``, and of a
    datetime column ``hour``, ``weekday``, ``month``, ``day_of_month`` and ``days`` (since 1970, with
    fractions; a difference is an age). Local times are those of the use case. A category is compared
    with a text: ``channel == "web"``. What has no value (a missing operand, a division by zero) is missing.
    """

    name: Name
    kind: Literal["expression"]
    expression: Annotated[str, Field(min_length=1, max_length=500)]
    """The formula, for example ``amount / customer_mean_amount_7d``."""


Feature = Annotated[ColumnFeature | CalendarFeature | WindowFeature | ExpressionFeature, Field(discriminator="kind")]


def parse_clock(value: str) -> time:
    """Read ``HH:MM``."""
    return clock_time(value)
