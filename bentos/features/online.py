"""One event at a time: the online execution of a feature plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bentos.errors import FeatureError
from bentos.features.definitions import (
    CalendarDefinition,
    ColumnDefinition,
    Definition,
    ExpressionDefinition,
    WindowDefinition,
    category_codes,
    window_specs,
)
from bentos.features.offline import amounts_of, microseconds_of
from bentos.schema.column_types import hash_of
from bentos.schema.event import Event, EventColumns
from bentos.usecase.calendar_parts import local_seconds, part_of
from bentos.windows.state import TEXT, WindowInput, WindowSpec, WindowState

Computer = Callable[[Sequence[Event], Sequence[Sequence[float]]], Any]
"""Values of a formula from events and what the state read for them."""


class Binding:
    """Definitions compiled for one schema and one state: where each value comes from.

    Raises:
        FeatureError: the state lacks a window, or the schema a column.
    """

    def __init__(self, definitions: Sequence[Definition], schema: EventColumns, state: WindowState) -> None:
        self.schema = schema
        self.state = state
        self._shared = state.shared
        self._width = len(definitions)
        windows = [(at, d.spec) for at, d in enumerate(definitions) if isinstance(d, WindowDefinition)]
        slots = {spec: slot for slot, spec in enumerate(state.specs)}
        if any(spec not in slots for spec in window_specs(definitions)):
            raise FeatureError("the window state was built without a window of this plan; build it from the union")
        self._window_at = [at for at, _ in windows]
        self._slots = [slots[spec] for _, spec in windows]
        try:
            self._entities = [schema.position[name] for name in state.entities]
            self._amounts = [(schema.position[name], _whole(decimals)) for name, decimals in state.amounts]
            self._plain = [
                (at, _reader(d, schema))
                for at, d in enumerate(definitions)
                if not isinstance(d, WindowDefinition | ExpressionDefinition)
            ]
            self._formulas = [
                (at, _computer(d, schema, slots))
                for at, d in enumerate(definitions)
                if isinstance(d, ExpressionDefinition)
            ]
        except KeyError as exc:
            raise FeatureError(f"the schema has no column {exc}, which a feature needs") from exc

    def rows(self, events: Sequence[Event]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Features of a batch, one row an event; each event in order reads and is then added."""
        out = np.empty((len(events), self._width), dtype=np.float32)
        window_reads = self.state.read_add([self.window_input(e) for e in events])
        if self._slots:
            out[:, self._window_at] = np.array(window_reads, dtype=np.float64)[:, self._slots]
        for at, reader in self._plain:
            out[:, at] = [reader(e) for e in events]
        for at, compute in self._formulas:
            out[:, at] = compute(events, window_reads)
        return out

    def window_input(self, event: Event) -> WindowInput:
        """What the window state needs of one event."""
        values = event.values
        return WindowInput(
            event.event_id,
            event.time_us,
            tuple([values[i] for i in self._entities]),
            tuple([None if (v := values[i]) is None else to_whole(v) for i, to_whole in self._amounts]),
            event.as_json() if self._shared else b"",
        )


def _whole(decimals: int) -> Callable[[Any], int]:
    """How a column's value becomes the whole number that windows keep."""
    if decimals == TEXT:
        return hash_of
    scale = float(10**decimals)
    return lambda value: round(value * scale)


def _reader(definition: Definition, schema: EventColumns) -> Callable[[Event], float]:
    """How to read one feature that needs no window from one event."""
    if isinstance(definition, CalendarDefinition):
        part, zone, night = definition.part, definition.timezone, definition.night
        return lambda event: part_of(part, local_seconds(event.time_us, zone), night)
    assert isinstance(definition, ColumnDefinition)
    at = schema.position[definition.column]
    if definition.type != "category":
        fill_value = math.nan if definition.fill is None else definition.fill
        return lambda event: fill_value if (v := event.values[at]) is None else v
    codes = category_codes(definition)
    unseen_code = float(len(codes)) if definition.unseen else math.nan
    return lambda event: math.nan if (v := event.values[at]) is None else codes.get(v, unseen_code)


def _computer(definition: ExpressionDefinition, schema: EventColumns, slots: Mapping[WindowSpec, int]) -> Computer:
    """How to compute a formula for a batch: its columns, then the values of its operands."""
    columns = []
    for name, kind, fill in definition.columns:
        at = schema.position[name]
        text = kind in ("identifier", "string", "category")
        columns.append((name, at, None if text else math.nan if fill is None else fill))
    operands = [(d.name, _operand(d, schema, slots)) for d in definition.operands]

    def compute(events: Sequence[Event], window_reads: Sequence[Sequence[float]]) -> Any:
        values: dict[str, Any] = {}
        for name, at, fill_value in columns:
            column_values = [event.values[at] for event in events]
            if fill_value is None:
                values[name] = np.array([*column_values, None], dtype=object)[:-1]
            else:
                values[name] = np.array([fill_value if v is None else v for v in column_values], dtype=np.float64)
        for name, operand in operands:
            values[name] = operand(events, window_reads)
        return definition.formula.compute(values, len(events), definition.timezone)

    return compute


def _operand(definition: Definition, schema: EventColumns, slots: Mapping[WindowSpec, int]) -> Computer:
    if isinstance(definition, ExpressionDefinition):
        return _computer(definition, schema, slots)
    if isinstance(definition, WindowDefinition):
        slot = slots[definition.spec]
        return lambda events, window_reads: np.array([row[slot] for row in window_reads], dtype=np.float64)
    reader = _reader(definition, schema)
    return lambda events, window_reads: np.array([reader(event) for event in events], dtype=np.float64)


def inputs_of_frame(events: pd.DataFrame, event_id: str, event_time: str, state: WindowState) -> Iterator[WindowInput]:
    """An events frame as window inputs, in its order."""
    times = microseconds_of(events[event_time]).tolist()
    entities = [events[name].tolist() for name in state.entities]
    amounts = []
    for name, decimals in state.amounts:
        values, present = amounts_of(events[name], decimals)
        amounts.append(
            [v if is_present else None for v, is_present in zip(values.tolist(), present.tolist(), strict=True)]
        )
    keys = zip(*entities, strict=True) if entities else iter([()] * len(events))
    sums = zip(*amounts, strict=True) if amounts else iter([()] * len(events))
    return map(WindowInput, events[event_id].tolist(), times, keys, sums)
