"""One event in memory.

An :class:`Event` is what the service scores: the declared columns, already checked. Times are whole
microseconds since 1970 in UTC; missing values are ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bentos.usecase.limits import EPOCH, MICROSECOND, bounds
from monitoring.core.hashing import sha256_hex

__all__ = [
    "EPOCH",
    "MICROSECOND",
    "Event",
    "FilledEvent",
    "bounds",
]


class EventColumns(Protocol):
    """What an event asks of the schema that checked it."""

    @property
    def event_time(self) -> str:
        """Column with the time of an event."""
        ...

    @property
    def position(self) -> Mapping[str, int]:
        """The place of each column in the values."""
        ...

    def encode(self, values: Sequence[Any]) -> bytes:
        """The values as one canonical JSON object."""
        ...

    def as_sent(self, values: Sequence[Any]) -> Sequence[Any]:
        """The values with every looked-up one missing."""
        ...


class Event:
    """One checked event.

    Attributes:
        schema: the schema that checked it; it knows the order of ``values``.
        event_id: names the event; the same id is answered once.
        time_us: event time in microseconds since 1970, UTC.
        values: the declared columns in order; times as microseconds, missing values as ``None``.
    """

    __slots__ = ("_hash", "_json", "event_id", "schema", "time_us", "values")

    def __init__(self, schema: EventColumns, event_id: str, time_us: int, values: tuple[Any, ...]) -> None:
        self.schema = schema
        self.event_id = event_id
        self.time_us = time_us
        self.values = values
        self._json: bytes | None = None
        self._hash: str | None = None

    def value(self, column: str) -> Any:
        """The value of a declared column."""
        return self.values[self.schema.position[column]]

    def as_json(self) -> bytes:
        """The declared columns as one canonical JSON object: what the log keeps and what is hashed.

        Declared order, times in UTC with ``Z``, missing values as ``null``; two bodies that mean the
        same give the same bytes.
        """
        if self._json is None:
            self._json = self.schema.encode(self.values)
        return self._json

    @property
    def body_hash(self) -> str:
        """SHA-256 of :meth:`as_json`; a repeated id with another hash is a conflict."""
        if self._hash is None:
            self._hash = sha256_hex(self.as_json())
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.as_json() == other.as_json()

    def __hash__(self) -> int:
        return hash(self.event_id)

    def __repr__(self) -> str:
        # Values and ids stay out of log lines and tracebacks.
        return f"<Event of {len(self.values)} columns>"


class FilledEvent(Event):
    """An event with columns that look-up tables fill.

    A client repeats what it sent, and the tables may have changed in between: so what was filled in is no part of
    :attr:`body_hash`.
    """

    __slots__ = ()

    @property
    def body_hash(self) -> str:
        """SHA-256 of :meth:`as_json` with every looked-up value missing, which is what the client sent."""
        if self._hash is None:
            self._hash = sha256_hex(self.schema.encode(self.schema.as_sent(self.values)))
        return self._hash
