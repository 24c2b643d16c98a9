"""Resolved feature definitions: each says everything that its value depends on.

A use case's feature leans on its columns, zone and night; a definition holds them itself, so a model
from last month can be served beside today's use-case file. The digest of a definition leaves out the
name: equal digests mean equal values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from itertools import takewhile
from typing import Any, Protocol, get_args

from bentos.errors import FeatureError
from bentos.schema.column_types import NUMBER_TYPES
from bentos.usecase.definition import (
    CalendarFeature,
    CalendarPart,
    Column,
    ColumnFeature,
    ExpressionFeature,
    Feature,
    UseCase,
    WindowFeature,
    parse_clock,
)
from bentos.usecase.formula import Formula
from bentos.windows.aggregates import AGGREGATES
from bentos.windows.state import TEXT, WindowSpec
from monitoring.core.durations import format_duration, microseconds, parse_duration
from monitoring.core.hashing import canonical_json, sha256_hex


@dataclass(frozen=True)
class ColumnDefinition:
    """A number, boolean or category of the event itself.

    A category becomes its position in ``categories``, an unlisted one the position behind the last
    (NaN in models of before, where ``unseen`` is false). A missing value becomes ``fill``, else NaN.
    """

    name: str
    column: str
    type: str
    categories: tuple[str, ...] = ()
    fill: float | None = None
    unseen: bool = False

    @property
    def is_open(self) -> bool:
        """Whether its categories are still to be taken from training data."""
        return self.type == "category" and not self.categories

    def to_json(self) -> dict[str, Any]:
        """The definition as JSON values."""
        category_list = {"categories": list(self.categories)} if self.type == "category" else {}
        unseen = {"unseen": True} if self.unseen else {}
        fill = {} if self.fill is None else {"fill": self.fill}
        return {
            "name": self.name,
            "kind": "column",
            "column": self.column,
            "type": self.type,
            **category_list,
            **unseen,
            **fill,
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the name."""
        return _digest(self.to_json())


@dataclass(frozen=True)
class CalendarDefinition:
    """A part of the local event time; ``night`` is start and end in minutes after midnight."""

    name: str
    part: str
    timezone: str
    night: tuple[int, int] = (0, 0)

    def to_json(self) -> dict[str, Any]:
        """The definition as JSON values."""
        night = {"night": list(self.night)} if self.part == "night" else {}
        return {"name": self.name, "kind": "calendar", "part": self.part, "timezone": self.timezone, **night}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the name."""
        return _digest(self.to_json())


@dataclass(frozen=True)
class WindowDefinition:
    """An aggregate over earlier events of the same entity."""

    name: str
    spec: WindowSpec

    def to_json(self) -> dict[str, Any]:
        """The definition as JSON values; durations as people write them."""
        spec = self.spec
        column_part = {"column": spec.column, "decimals": spec.decimals} if spec.column is not None else {}
        return {
            "name": self.name,
            "kind": "window",
            "entity": spec.entity,
            "agg": spec.agg,
            **column_part,
            "over": format_duration(timedelta(microseconds=spec.over)),
            "delay": format_duration(timedelta(microseconds=spec.delay)),
            "own": spec.own,
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the name."""
        return _digest(self.to_json())


@dataclass(frozen=True)
class ExpressionDefinition:
    """A formula, with the definitions of everything that it names."""

    name: str
    expression: str
    operands: tuple[Definition, ...]
    columns: tuple[tuple[str, str, float | None], ...]
    """Name, type and fill of each column of the event that it names."""
    timezone: str

    def to_json(self) -> dict[str, Any]:
        """The definition as JSON values."""
        return {
            "name": self.name,
            "kind": "expression",
            "expression": self.expression,
            "operands": [operand.to_json() for operand in self.operands],
            "columns": [list(column) for column in self.columns],
            "timezone": self.timezone,
        }

    @cached_property
    def formula(self) -> Formula:
        """The formula, compiled."""
        return Formula(self.expression)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything but the name."""
        return _digest(self.to_json())


Definition = ColumnDefinition | CalendarDefinition | WindowDefinition | ExpressionDefinition


class WindowPlan(Protocol):
    """What the windows of a frame are made by: the part of a feature plan that they need."""

    @property
    def definitions(self) -> Sequence[Definition]:
        """What each feature is."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Feature names, in order."""
        ...

    @property
    def specs(self) -> Sequence[WindowSpec]:
        """Every window that the features need."""
        ...

    @property
    def event_time(self) -> str:
        """Column with the time of an event."""
        ...

    @property
    def sources(self) -> Sequence[str]:
        """Label sources, strongest first."""
        ...


def window_specs(definitions: Iterable[Definition]) -> Iterator[WindowSpec]:
    """Every window that features need, those inside of formulas too."""
    for definition in definitions:
        if isinstance(definition, WindowDefinition):
            yield definition.spec
        elif isinstance(definition, ExpressionDefinition):
            yield from window_specs(definition.operands)


def resolve(feature: Feature, usecase: UseCase) -> Definition:
    """The complete definition of a use case's feature."""
    if isinstance(feature, ColumnFeature):
        column = usecase.column(feature.column)
        unseen = column.type == "category"
        return ColumnDefinition(feature.name, column.name, column.type, column.categories, column.fill, unseen)
    if isinstance(feature, CalendarFeature):
        start, end = map(parse_clock, usecase.night)
        night = (start.hour * 60 + start.minute, end.hour * 60 + end.minute)
        return CalendarDefinition(
            feature.name, feature.part, usecase.timezone, night if feature.part == "night" else (0, 0)
        )
    if isinstance(feature, ExpressionFeature):
        return _expression(feature, usecase)
    return WindowDefinition(feature.name, _window_spec(feature, usecase))


def _expression(feature: ExpressionFeature, usecase: UseCase) -> ExpressionDefinition:
    names = Formula(feature.expression).names
    columns = {c.name: c for c in usecase.columns}
    earlier_features = {f.name: f for f in takewhile(lambda f: f is not feature, usecase.features)}
    # A column and the feature that is this column share a name and a value.
    operands = tuple(resolve(earlier_features[name], usecase) for name in names if name not in columns)
    column_inputs = tuple((c.name, c.type, c.fill) for c in (columns[name] for name in names if name in columns))
    return ExpressionDefinition(feature.name, feature.expression, operands, column_inputs, usecase.timezone)


def category_codes(definition: ColumnDefinition) -> dict[str, float]:
    """The number of each category.

    Raises:
        FeatureError: the list is still open.
    """
    if definition.is_open:
        raise FeatureError(f"feature {definition.name!r} has no categories yet; call with_categories first")
    return {category: float(code) for code, category in enumerate(definition.categories)}


def from_json(data: dict[str, Any]) -> Definition:
    """The reverse of ``to_json`` of any definition.

    Raises:
        FeatureError: for a kind, key or value that no definition has.
    """
    try:
        definition = _READERS[data["kind"]](data)
    except (KeyError, TypeError, ValueError) as exc:
        raise FeatureError(f"feature definition cannot be read: {type(exc).__name__}: {exc}") from exc
    if definition.to_json() != data:
        raise FeatureError(
            f"feature definition {data.get('name')!r} has keys or values that this version does not know"
        )
    return definition


def renamed(definition: Definition, name: str) -> Definition:
    """The same definition under another name."""
    return replace(definition, name=name)


def _digest(data: dict[str, Any]) -> str:
    return sha256_hex(canonical_json({k: v for k, v in data.items() if k != "name"}))


def _window_spec(feature: WindowFeature, usecase: UseCase) -> WindowSpec:
    return WindowSpec(
        entity=feature.entity,
        agg=feature.agg,
        column=feature.column,
        decimals=0 if feature.column is None else _decimals(usecase.column(feature.column)),
        over=microseconds(feature.over),
        delay=microseconds(feature.delay),
        own=feature.counts_itself,
    )


def _decimals(column: Column) -> int:
    return column.decimals if column.type in NUMBER_TYPES else TEXT


def _read_column(data: dict[str, Any]) -> Definition:
    return ColumnDefinition(
        data["name"],
        data["column"],
        data["type"],
        tuple(data.get("categories", ())),
        data.get("fill"),
        data.get("unseen", False),
    )


def _read_expression(data: dict[str, Any]) -> Definition:
    operands = tuple(from_json(operand) for operand in data["operands"])
    columns = tuple((str(name), str(kind), fill) for name, kind, fill in data["columns"])
    return ExpressionDefinition(data["name"], data["expression"], operands, columns, data["timezone"])


def _read_calendar(data: dict[str, Any]) -> Definition:
    if data["part"] not in get_args(CalendarPart):
        raise ValueError(f"calendar part {data['part']!r}")
    start, end = data.get("night", (0, 0))
    return CalendarDefinition(data["name"], data["part"], data["timezone"], (start, end))


def _read_window(data: dict[str, Any]) -> Definition:
    if data["agg"] not in AGGREGATES:
        raise ValueError(f"aggregation {data['agg']!r}")
    over, delay = (microseconds(parse_duration(data[key])) for key in ("over", "delay"))
    spec = WindowSpec(
        data["entity"], data["agg"], data.get("column"), data.get("decimals", 0), over, delay, data["own"]
    )
    return WindowDefinition(data["name"], spec)


_READERS = {"column": _read_column, "calendar": _read_calendar, "window": _read_window, "expression": _read_expression}
