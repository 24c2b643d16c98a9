"""The input schema: one column list that checks tables and requests alike.

:class:`EventSchema` is compiled once from a use case. ``decode`` reads one event from strict JSON,
``read_table`` cleans a whole table and says for each refused row why. Both give the same values:
what a table accepts and a request refuses, or the reverse, would be training-serving skew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import numpy as np
import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, create_model

from bentos.errors import EventError
from bentos.schema import table_cleaning
from bentos.schema.column_types import NUMBER_TYPES, TEXT_TYPES
from bentos.schema.event import EPOCH, MICROSECOND, Event, FilledEvent, bounds
from bentos.schema.id_hashing import Hasher, LazyHasher, configured_hasher
from bentos.schema.json_decoder import StrictDecoder, encoder_type
from bentos.schema.lookups import Lookups
from bentos.schema.table_cleaning import TableRead
from bentos.usecase.definition import Column, UseCase
from bentos.usecase.limits import LATEST_US
from monitoring.core.hashing import canonical_json, sha256_hex

__all__ = ["Event", "EventSchema", "TableRead"]


class EventSchema:
    """The declared columns of a use case, compiled.

    Args:
        usecase: declares the columns.
        hasher: makes the hashes of ``[privacy] hashed``; by default the installation's, looked up when
            the first id comes (then :class:`~bentos.errors.HashKeyMissing` may be raised).
        lookups: the tables that fill columns of tables; by default the installation's, read when they are
            first needed (then :class:`~bentos.errors.LookupProblem` may be raised), and kept as long as this object.

    Attributes:
        columns: the declared columns, in order.
        names: their names, in order.
        position: the place of each name in :attr:`Event.values`.
        event_id: name of the id column.
        event_time: name of the time column.
        fingerprint: SHA-256 of names, types and bounds. A model is refused only when this differs, so
            descriptions, examples, foreign names and features are not part of it.
    """

    def __init__(self, usecase: UseCase, hasher: Hasher | None = None, lookups: Lookups | None = None) -> None:
        self.columns = usecase.columns
        self.names = tuple(c.name for c in usecase.columns)
        self.position = {name: i for i, name in enumerate(self.names)}
        self.event_id = usecase.event_id
        self.event_time = usecase.event_time
        self.fingerprint = _fingerprint(usecase)
        self._usecase = usecase
        self._hasher = hasher or LazyHasher(configured_hasher)
        self._decoder = StrictDecoder(usecase.columns, usecase.privacy.hashed, self._hasher)
        # What was stored was checked and hashed when it came.
        stored_columns = [c.model_copy(update={"pan_guard": False}) for c in usecase.columns]
        self._stored = StrictDecoder(stored_columns)
        self._id_at = self.position[usecase.event_id]
        self._time_at = self.position[usecase.event_time]
        self._body = encoder_type(usecase.columns)
        self._encoder = msgspec.json.Encoder()
        self._times = tuple(i for i, c in enumerate(usecase.columns) if c.type == "datetime")
        self._lookups = lookups or Lookups(usecase, hasher=self._hasher)
        self._filled = tuple(self.position[name] for name in usecase.lookup_column_names)
        self._event: type[Event] = FilledEvent if self._filled else Event

    @classmethod
    def of(cls, usecase: UseCase, hasher: Hasher | None = None, lookups: Lookups | None = None) -> EventSchema:
        """Compile the schema of a use case; see the class."""
        return cls(usecase, hasher, lookups)

    def decode(self, body: bytes) -> Event:
        """One event from a strict JSON object.

        Raises:
            EventError: with the column and what is allowed, never with a value.
        """
        values = self._decoder.one(body)
        return self._event(self, values[self._id_at], values[self._time_at], values)

    def decode_many(self, body: bytes, limit: int) -> list[Event]:
        """Events from a strict JSON array of 1 to ``limit`` objects.

        Raises:
            EventError: for the first bad event of the batch, counted from 0.
        """
        id_at, time_at, event = self._id_at, self._time_at, self._event
        return [event(self, row[id_at], row[time_at], row) for row in self._decoder.many(body, limit)]

    def event(self, values: Mapping[str, Any]) -> Event:
        """One event from a mapping, with the checks of :meth:`decode`. Datetimes must be aware.

        Raises:
            EventError: like :meth:`decode`, and for a value that JSON cannot hold.
        """
        # The encoder writes infinity as null, which a nullable column would take for missing.
        for name, value in values.items():
            if isinstance(value, float) and math.isinf(value):
                raise EventError(f"{name}: a finite number is needed")
        try:
            body = self._encoder.encode(dict(values))
        except (TypeError, ValueError) as exc:
            raise EventError(f"the event cannot be written as JSON: {type(exc).__name__}") from exc
        return self.decode(body)

    def encode(self, values: Sequence[Any]) -> bytes:
        """Canonical JSON of one event's values (declared order, times as microseconds)."""
        row = list(values)
        for i in self._times:
            if row[i] is not None:
                row[i] = EPOCH + row[i] * MICROSECOND
        return self._encoder.encode(self._body(*row))

    def as_sent(self, values: Sequence[Any]) -> Sequence[Any]:
        """Values of an event without those that look-up tables filled in."""
        row = list(values)
        for at in self._filled:
            row[at] = None
        return row

    def body_hash(self, body: bytes) -> str:
        """The :attr:`~bentos.schema.event.Event.body_hash` of a stored body (see :meth:`Event.as_json`).

        Raises:
            EventError: for a body that does not fit the schema.
        """
        if not self._filled:
            return sha256_hex(body)
        return sha256_hex(self.encode(self.as_sent(self._stored.one(body))))

    def read_table(self, table: pd.DataFrame, latest_us: int = LATEST_US) -> TableRead:
        """Clean a table; see :class:`bentos.schema.table_cleaning.TableRead`.

        Columns are looked up by ``source_name``, then by their own name; others are ignored. Naive
        times are local times of the use case's zone. A column with a ``lookup`` is filled by entity and
        event time, unless the table has it under its own name: then it tells what was served. Rows whose event
        time lies after ``latest_us`` are refused as ``in_future``.

        Raises:
            TableError: a column is missing, all of it is unusable, or too much of it is missing.
            LookupProblem: a look-up table is missing or cannot be used.
        """
        return table_cleaning.read_table(table, self._usecase, self._hasher, self._lookups, latest_us)

    def validate_frame(self, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The events frame, sorted by (event time, event id), and the quarantine frame.

        Quarantine columns: ``row`` (position in ``table``), ``event_id``, ``reason``, ``column``.
        ``events.attrs["out_of_order"]`` counts the rows that came before an earlier one.

        Raises:
            TableError: as :meth:`read_table`.
        """
        table_read = self.read_table(table)
        return table_read.events, table_read.quarantine

    def read_labelled(
        self, table: pd.DataFrame, latest_us: int = LATEST_US
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Events, labels and quarantine of one table that also holds the label column.

        A label's ``observed_at`` is the declared column, else event time + ``matures_after``; its
        source is the strongest that the use case ranks. A row whose label is neither 0, 1 nor missing
        goes to quarantine as a whole. Without a label column the labels frame is empty.

        Raises:
            TableError: as :meth:`read_table`.
        """
        return table_cleaning.read_labelled(table, self._usecase, self._hasher, self._lookups, latest_us)

    def frame(self, events: Iterable[Event]) -> pd.DataFrame:
        """Decoded events as an events frame, in the given order."""
        return self._frame([e.values for e in events])

    def frame_of_bodies(self, bodies: Sequence[bytes]) -> pd.DataFrame:
        """Stored JSON bodies (see :meth:`Event.as_json`) as an events frame, in the given order.

        Raises:
            EventError: for a body that does not fit the schema.
        """
        if not bodies:
            return self._frame([])
        return self._frame(self._stored.many(b"[" + b",".join(bodies) + b"]", len(bodies)))

    def bodies(self, events: pd.DataFrame) -> list[bytes]:
        """Each row of an events frame as canonical JSON: a request body, and what the log keeps."""
        body, encode = self._body, self._encoder.encode
        columns = [_python_values(events[c.name], c) for c in self.columns]
        return [encode(body(*row)) for row in zip(*columns, strict=True)]

    def body_model(self) -> type[BaseModel]:
        """A pydantic model of one event, for the OpenAPI page; decoding does not use it."""
        name = f"{self._usecase.name.title().replace('_', '')}Event"
        sent_columns = [c for c in self.columns if c.lookup is None]
        return body_model_of(name, sent_columns, self._usecase.description or None)

    def _frame(self, rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(self.columns)
        return pd.DataFrame({c.name: _series(v, c) for c, v in zip(self.columns, columns, strict=True)})


def _fingerprint(usecase: UseCase) -> str:
    part = {"name", "type", "min", "max", "nullable", "categories", "max_length"}
    columns = [c.model_dump(mode="json", include=part) for c in usecase.columns]
    schema = {
        "event_id": usecase.event_id,
        "event_time": usecase.event_time,
        "columns": sorted(columns, key=lambda c: str(c["name"])),
    }
    return sha256_hex(canonical_json(schema))


def _series(values: Sequence[Any], column: Column) -> pd.Series[Any]:
    """Checked Python values in the dtype that events frames have."""
    if column.type in TEXT_TYPES:
        return pd.Series(np.array([*values, None], dtype=object)[:-1], dtype=object)
    if column.type == "datetime":
        stamps = np.array([np.iinfo(np.int64).min if v is None else v for v in values], dtype=np.int64)
        return pd.Series(stamps.view("M8[us]")).dt.tz_localize("UTC")
    if column.nullable:
        return pd.Series([np.nan if v is None else v for v in values], dtype=np.float64)
    return pd.Series(values, dtype={"float": np.float64, "integer": np.int64, "boolean": np.bool_}[column.type])


def _python_values(series: pd.Series[Any], column: Column) -> list[Any]:
    """The reverse of :func:`_series`, ready for JSON."""
    if column.type == "datetime":
        times: list[datetime | None] = series.dt.tz_convert(None).to_numpy("M8[us]").tolist()
        return [None if t is None else t.replace(tzinfo=UTC) for t in times]
    values = series.tolist()
    if not column.nullable:
        return values
    if column.type in NUMBER_TYPES or column.type == "boolean":
        convert: Any = {"float": float, "integer": int, "boolean": bool}[column.type]
        return [None if v != v else convert(v) for v in values]
    return [None if v is None or v != v else v for v in values]


def body_model_of(name: str, columns: Iterable[Column], description: str | None = None) -> type[BaseModel]:
    """A pydantic model of a JSON object with these columns, for the OpenAPI page."""
    fields: dict[str, Any] = {c.name: _model_field(c) for c in columns}
    config = ConfigDict(extra="forbid", strict=True)
    model: type[BaseModel] = create_model(name, __config__=config, __doc__=description, **fields)
    return model


def _model_field(column: Column) -> tuple[Any, Any]:
    extras: dict[str, Any] = {"description": column.description or None}
    if column.example is not None:
        extras["examples"] = [column.example]
    kind: Any = {"float": float, "integer": int, "boolean": bool, "datetime": AwareDatetime}.get(column.type, str)
    if column.type in NUMBER_TYPES:
        extras["ge"], extras["le"] = bounds(column)
    elif column.type in TEXT_TYPES:
        extras["min_length"], extras["max_length"] = 1, column.max_length
        if column.categories:
            extras["json_schema_extra"] = {"enum": list(column.categories)}
    annotated = Annotated[kind, Field(**extras)]
    return (annotated | None, None) if column.nullable or column.arrival else (annotated, ...)
