"""One event at a time: the online execution of a feature plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bentos.clock import local_seconds, part_of
from bentos.definitions import CalendarDefinition, ColumnDefinition, Definition, WindowDefinition, category_codes
from bentos.errors import FeatureError
from bentos.event import Event
from bentos.offline import amounts_of, microseconds_of
from bentos.schema import EventSchema
from bentos.window_state import TEXT, WindowInput, WindowState, hash_of


class Binding:
    """Definitions compiled for one schema and one state: where each value comes from.

    Raises:
        FeatureError: the state lacks a window, or the schema a column.
    """

    def __init__(self, definitions: Sequence[Definition], schema: EventSchema, state: WindowState) -> None:
        self.schema = schema
        self.state = state
        self._shared = state.shared
        self._width = len(definitions)
        windows = [(at, d.spec) for at, d in enumerate(definitions) if isinstance(d, WindowDefinition)]
        held = {spec: slot for slot, spec in enumerate(state.specs)}
        if any(spec not in held for _, spec in windows):
            raise FeatureError("the window state was built without a window of this plan; build it from the union")
        self._window_at = [at for at, _ in windows]
        self._slots = [held[spec] for _, spec in windows]
        try:
            self._entities = [schema.position[name] for name in state.entities]
            self._amounts = [(schema.position[name], _whole(decimals)) for name, decimals in state.amounts]
            self._plain = [
                (at, _reader(d, schema)) for at, d in enumerate(definitions) if not isinstance(d, WindowDefinition)
            ]
        except KeyError as exc:
            raise FeatureError(f"the schema has no column {exc}, which a feature needs") from exc

    def rows(self, events: Sequence[Event]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Features of a batch, one row an event; each event in order reads and is then added."""
        out = np.empty((len(events), self._width), dtype=np.float32)
        reads = self.state.read_add([self.window_input(e) for e in events])
        if self._slots:
            out[:, self._window_at] = np.array(reads, dtype=np.float64)[:, self._slots]
        for at, read in self._plain:
            out[:, at] = [read(e) for e in events]
        return out

    def window_input(self, event: Event) -> WindowInput:
        """What the window state needs of one event."""
        values = event.values
        return WindowInput(
            event.event_id,
            event.time_us,
            tuple([values[i] for i in self._entities]),
            tuple([None if (v := values[i]) is None else whole(v) for i, whole in self._amounts]),
            event.as_json() if self._shared else b"",
        )


def _whole(decimals: int) -> Callable[[Any], int]:
    """How a column's value becomes the whole number that windows keep."""
    if decimals == TEXT:
        return hash_of
    scale = float(10**decimals)
    return lambda value: round(value * scale)


def _reader(definition: Definition, schema: EventSchema) -> Callable[[Event], float]:
    """How to read one feature that needs no window from one event."""
    if isinstance(definition, CalendarDefinition):
        part, zone, night = definition.part, definition.timezone, definition.night
        return lambda event: part_of(part, local_seconds(event.time_us, zone), night)
    assert isinstance(definition, ColumnDefinition)
    at = schema.position[definition.column]
    if definition.type != "category":
        return lambda event: math.nan if (v := event.values[at]) is None else v
    codes = category_codes(definition)
    return lambda event: codes.get(event.values[at], math.nan)


def inputs_of_frame(events: pd.DataFrame, event_id: str, event_time: str, state: WindowState) -> Iterator[WindowInput]:
    """An events frame as window inputs, in its order."""
    times = microseconds_of(events[event_time]).tolist()
    entities = [events[name].tolist() for name in state.entities]
    amounts = []
    for name, decimals in state.amounts:
        values, known = amounts_of(events[name], decimals)
        amounts.append([v if k else None for v, k in zip(values.tolist(), known.tolist(), strict=True)])
    keys = zip(*entities, strict=True) if entities else iter([()] * len(events))
    sums = zip(*amounts, strict=True) if amounts else iter([()] * len(events))
    return map(WindowInput, events[event_id].tolist(), times, keys, sums)
