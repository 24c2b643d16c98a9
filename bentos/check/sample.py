"""A use case executed on made-up events: both executions of its features, both readers of its schema."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd

from bentos.features.offline import label_ranks, microseconds_of
from bentos.features.plan import FeaturePlan
from bentos.schema.column_types import NUMBER_TYPES
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.schema.id_hashing import Hasher
from bentos.schema.table_cleaning import empty_labels
from bentos.usecase.declarations import Column
from bentos.usecase.definition import UseCase
from bentos.usecase.limits import bounds
from bentos.windows.memory import MemoryWindows

ROWS = 200
_START = datetime(2026, 3, 28, tzinfo=UTC)
"""Before a clock change in most zones that have one."""


def sample_problems(usecase: UseCase) -> Iterator[tuple[Literal["WARN", "FAIL"], str]]:
    """What goes wrong with ``ROWS`` made-up events; the same events every time."""
    rng = np.random.default_rng(7)
    # Look-up tables are files of an installation; the sample makes their values up like all others.
    usecase = usecase.without_lookups()
    schema = EventSchema.of(usecase, Hasher.for_samples())
    events = [schema.event(row) for row in _rows(usecase, rng)]
    frame = schema.frame(events)
    if [schema.decode(e.as_json()) for e in events] != events:
        yield "FAIL", "events change when they are stored as JSON and read again"
    clean, quarantine = schema.validate_frame(frame)
    if len(quarantine) or not clean.equals(frame):
        yield "FAIL", "a table of good events is not read as the same events"
    if schema.bodies(frame) != [e.as_json() for e in events]:
        yield "FAIL", "events change when a table is turned into requests"
    labels = _labels(usecase, events, rng)
    for name in _differing(FeaturePlan.of(usecase).with_categories(frame), events, frame, labels):
        yield "FAIL", f"feature {name!r} has other values online than offline"


def _differing(plan: FeaturePlan, events: list[Event], frame: pd.DataFrame, labels: pd.DataFrame) -> list[str]:
    """Names of the features that a replay in time order gives other bits than the build of the frame."""
    offline = plan.build(frame, labels, datetime(2100, 1, 1, tzinfo=UTC)).to_numpy()
    state = MemoryWindows(plan.specs)
    ranks = label_ranks(labels, plan.sources).tolist()
    moments = microseconds_of(labels["observed_at"]).tolist()
    pending_labels = sorted(zip(moments, labels["event_id"], labels["y"].tolist(), ranks, strict=True))
    online = np.empty_like(offline)
    for position, event in enumerate(events):
        while pending_labels and pending_labels[0][0] <= event.time_us:
            moment, event_id, y, rank = pending_labels.pop(0)
            state.label(event_id, y, moment, rank)
        online[position] = plan.row(event, state)
    equal_columns = (online.view(np.uint32) == offline.view(np.uint32)).all(axis=0)
    return [name for name, is_equal in zip(plan.names, equal_columns.tolist(), strict=True) if not is_equal]


def _rows(usecase: UseCase, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Events in time order, a few entities, ties in time, over twice the longest window."""
    span = max(2 * usecase.longest_window, timedelta(days=3)) // timedelta(minutes=1)
    minutes = np.sort(rng.integers(0, span // 30 + 1, ROWS)) * 30
    for number, minute in enumerate(minutes.tolist()):
        row = {c.name: _value(c, number, rng) for c in usecase.columns}
        yield row | {usecase.event_id: f"e{number:04d}", usecase.event_time: _START + timedelta(minutes=minute)}


def _value(column: Column, number: int, rng: np.random.Generator) -> Any:
    if column.nullable and rng.random() < 0.2:
        return None
    if column.type == "boolean":
        return bool(rng.random() < 0.5)
    if column.type == "datetime":
        return _START - timedelta(hours=number)
    if column.type in NUMBER_TYPES:
        low, high = bounds(column)
        value = rng.uniform(max(low, -1e6), min(high, 1e6)) if low <= 1e6 and high >= -1e6 else low
        return float(value) if column.type == "float" else int(np.clip(round(value), np.ceil(low), np.floor(high)))
    if column.categories:
        return str(rng.choice(column.categories))
    return f"{rng.integers(0, 7)}"


def _labels(usecase: UseCase, events: list[Event], rng: np.random.Generator) -> pd.DataFrame:
    """Late, revised and contradicting labels of two thirds of the events."""
    maturity_us = usecase.label.matures_after / timedelta(microseconds=1) + 1.0
    rows = [
        (
            e.event_id,
            int(rng.random() < 0.4),
            e.time_us + int(rng.uniform(0, 2 * maturity_us)),
            str(rng.choice(usecase.label.sources)),
        )
        for e in events + events[::3]
        if rng.random() < 0.7
    ]
    if not rows:
        return empty_labels()
    labels = pd.DataFrame(rows, columns=["event_id", "y", "observed_at", "source"])
    labels["observed_at"] = pd.to_datetime(labels["observed_at"], unit="us", utc=True).dt.as_unit("us")
    return labels.astype({"y": np.int8})
