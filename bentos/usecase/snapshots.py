"""``[snapshot]``: rows made at regular times from a table of events, with a label that the future gives."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bentos.usecase.declarations import Name
from monitoring.core.durations import Duration, parse_duration
from monitoring.policies import Policy

Text = Annotated[str, Field(min_length=1, max_length=128)]


class Measure(Policy):
    """One derived column: what an entity's earlier events say at the moment of the snapshot."""

    name: Name
    """The column's name in the use case."""
    agg: Literal["count", "sum", "mean", "days_since_last", "days_since_first"]
    """``sum`` and ``mean`` are of the value; the others of the events themselves."""
    over: Duration | None = None
    """How far back it looks; nothing is the whole history."""

    @model_validator(mode="after")
    def _whole_history(self) -> Self:
        if self.agg.startswith("days") and self.over is not None:
            raise ValueError(f"measure {self.name!r}: {self.agg} looks at the whole history and takes no over")
        return self


class SnapshotLabel(Policy):
    """What makes a snapshot positive."""

    no_event_within: Duration
    """Positive is an entity without any event in this time after the snapshot."""


class SnapshotPolicy(Policy):
    """Monthly rows of each entity, derived from a table of events.

    An entity is part of a snapshot once it had an event. Events strictly before the snapshot count for
    the measures, events from it on for the label; the label is unknown until its time has passed.
    """

    every: Literal["month"] = "month"
    """When snapshots are taken: the first of each month, 00:00 in the use case's zone."""
    entity: Text
    """Column of the table that names the entity."""
    entity_as: Name
    """The column of the use case that holds it."""
    time: Text
    """Column of the table with the time of an event."""
    event: Text | None = None
    """Column whose equal values are one event, for example the invoice of several lines; nothing: each row."""
    value: Text | None = None
    """Formula of a row's value over columns of the table, for example ``Quantity * UnitPrice``."""
    where: Text | None = None
    """Formula that is above 0 for the rows that count."""
    min_history: Duration = Field(default=parse_duration("60d"), validate_default=True)
    """Length of history before the first snapshot."""
    measures: Annotated[tuple[Measure, ...], Field(min_length=1)]
    label: SnapshotLabel
    baseline: Name
    """The measure that alone is the simple model to be beaten; larger is riskier."""
