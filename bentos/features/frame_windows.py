"""The windows of a frame, in one piece or entity by entity: the same code for one machine and for many.

A window of an entity needs the rows of that entity and no others. So a frame that is cut into parts of whole
entities gives, part by part, the very numbers of the whole frame; :func:`assemble_features` puts the columns
of several entities together again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
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
    WindowPlan,
    window_specs,
)
from bentos.features.offline import (
    EntityRows,
    Spans,
    column_values,
    label_spans,
    microseconds_of,
    operand_values,
    window_values,
)
from bentos.schema.event import EPOCH, MICROSECOND
from bentos.usecase.calendar_parts import local_seconds, part_of
from bentos.windows.aggregates import needs_labels
from bentos.windows.state import WindowSpec


def spans_of(
    plan: WindowPlan, events: pd.DataFrame, labels: pd.DataFrame, as_of: datetime, id_column: str
) -> Spans | None:
    """When each event was a known positive; none where no window looks at labels.

    Args:
        plan: ranks label sources.
        events: each row's id is looked at.
        labels: a labels frame about ``id_column``, with every revision.
        as_of: labels observed later are ignored.
        id_column: column that names an event.

    Raises:
        FeatureError: for repeated ids or unranked label sources.
    """
    if not events[id_column].is_unique:
        raise FeatureError("events must have distinct ids; clean the table with EventSchema.read_table")
    if not any(needs_labels(spec) for spec in plan.specs):
        return None
    as_of_us = (as_of.astimezone(UTC) - EPOCH) // MICROSECOND
    return label_spans(events[id_column], labels, plan.sources, as_of_us)


def window_columns(
    plan: WindowPlan, entity: str, events: pd.DataFrame, spans: Spans | None
) -> Iterator[tuple[WindowSpec, Any, Any]]:
    """Each window of one entity column: its spec, the sorted order of the rows, and its values in that order.

    Args:
        plan: names the windows.
        entity: the entity's column.
        events: whole entities; entity, time and what the windows sum up are looked at.
        spans: of :func:`spans_of` for these events.
    """
    reach = max(spec.over + spec.delay for spec in plan.specs)
    rows = EntityRows(events[entity], microseconds_of(events[plan.event_time]), reach)
    amounts: dict[tuple[str, int], Any] = {}
    for spec in plan.specs:
        if spec.entity == entity:
            yield spec, rows.order, window_values(spec, rows, events, spans, amounts)


def exact_specs(plan: WindowPlan) -> tuple[WindowSpec, ...]:
    """Windows that formulas name: those take them in full precision, as the online state gives them."""
    return tuple(window_specs(d for d in plan.definitions if isinstance(d, ExpressionDefinition)))


def window_names(plan: WindowPlan, entity: str) -> list[str]:
    """The columns of :func:`window_frame`."""
    return [f"w{position}" for position, spec in enumerate(plan.specs) if spec.entity == entity]


def window_frame(
    plan: WindowPlan, entity: str, events: pd.DataFrame, labels: pd.DataFrame, as_of: datetime, id_column: str
) -> pd.DataFrame:
    """The windows of one entity in the row order of ``events``; see :func:`spans_of` for the arguments."""
    spans = spans_of(plan, events, labels, as_of, id_column)
    exact, positions = exact_specs(plan), {spec: position for position, spec in enumerate(plan.specs)}
    columns = {}
    for spec, order, values in window_columns(plan, entity, events, spans):
        column = np.empty(len(events), dtype=np.float64 if spec in exact else np.float32)
        column[order] = values
        columns[f"w{positions[spec]}"] = column
    return pd.DataFrame(columns)


def assemble_features(plan: WindowPlan, events: pd.DataFrame, windows: Mapping[str, Any]) -> pd.DataFrame:
    """Features of every event, from the columns that :func:`window_frame` made for all entities of a plan.

    Returns:
        What :meth:`~bentos.features.plan.FeaturePlan.build` gives for these rows among all others.
    """
    windows_by_spec = {spec: np.asarray(windows[f"w{position}"]) for position, spec in enumerate(plan.specs)}
    times = microseconds_of(events[plan.event_time])
    out = np.empty((len(plan.names), len(events)), dtype=np.float32)
    for at, definition in enumerate(plan.definitions):
        out[at] = frame_feature(definition, events, times, windows_by_spec)
    return pd.DataFrame(out.T, index=events.index, columns=list(plan.names))


def frame_feature(definition: Definition, events: pd.DataFrame, times: Any, windows: Mapping[WindowSpec, Any]) -> Any:
    """One feature of a whole frame."""
    if isinstance(definition, WindowDefinition):
        return windows[definition.spec]
    if isinstance(definition, ColumnDefinition):
        return column_values(events[definition.column], definition)
    if isinstance(definition, CalendarDefinition):
        return part_of(definition.part, local_seconds(times, definition.timezone), definition.night)
    values = {name: operand_values(events[name], kind, fill) for name, kind, fill in definition.columns}
    for operand in definition.operands:
        values[operand.name] = np.asarray(frame_feature(operand, events, times, windows), dtype=np.float64)
    return definition.formula.compute(values, len(events), definition.timezone)
