"""Strict JSON for one use case: a decoder that is generated once and refuses everything doubtful.

msgspec does the work in C and is strict about types, ranges, unknown fields, UTF-8 and numbers that
JSON does not have. Three things it lets pass are checked here: a key written twice, control
characters in text, and times outside the allowed years. An error names the column and what is
allowed, never the value that was sent.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from bentos.errors import EventError
from bentos.schema.column_types import NUMBER_TYPES, TEXT_TYPES, allowed_values, has_control
from bentos.schema.id_hashing import ForeignHash, Hasher, LazyHasher, holds_card_number
from bentos.schema.row_times import today_us
from bentos.usecase.definition import Column
from bentos.usecase.limits import EARLIEST_US, EPOCH, LATEST_US, MICROSECOND, bounds

_PLACE = re.compile(r"at `\$(?:\[(\d+|\.\.\.)\])?(?:\.([^`]+))?`$")
_FIELD = re.compile(r"field `([A-Za-z_][A-Za-z0-9_]{0,62})`")
"""Only a name that looks like one is repeated in a message: a client may send a secret as a key."""


class StrictDecoder:
    """Bytes to tuples of checked values, in the order of the columns.

    Args:
        columns: what an object holds.
        hashed: names of the columns whose texts are replaced by their keyed hash.
        hasher: makes the hashes; needed where a column is hashed.
    """

    def __init__(
        self, columns: Sequence[Column], hashed: Sequence[str] = (), hasher: Hasher | LazyHasher | None = None
    ) -> None:
        self._columns = tuple(columns)
        self._guarded = tuple(i for i, c in enumerate(columns) if c.pan_guard)
        self._hashed = tuple(i for i, c in enumerate(columns) if c.name in hashed)
        self._hasher = hasher
        self._private = bool(self._guarded or self._hashed)
        self._by_name = {c.name: c for c in columns}
        self.names = tuple(c.name for c in columns)
        fields = [(f"f{i}", *_field(c)) for i, c in enumerate(columns)]
        row = msgspec.defstruct(
            "Row",
            fields,
            rename={f"f{i}": c.name for i, c in enumerate(columns)},
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        self._one = msgspec.json.Decoder(row)
        self._many = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]  # the type is made at run time
        self._texts = tuple(i for i, c in enumerate(columns) if c.type in TEXT_TYPES)
        self._times = tuple(i for i, c in enumerate(columns) if c.type == "datetime")
        self._arrivals = tuple(i for i, c in enumerate(columns) if c.arrival)
        self._categories = tuple((i, frozenset(c.categories)) for i, c in enumerate(columns) if c.categories)
        self._all_required = not any(c.nullable or c.arrival for c in columns)
        # Every key has two quotes and so has every text or time.
        self._quotes = 2 * (len(columns) + len(self._texts) + len(self._times))

    def one(self, body: bytes) -> tuple[Any, ...]:
        """The values of one JSON object; times become microseconds.

        Raises:
            EventError: with the column and what is allowed.
        """
        try:
            record = self._one.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise self._explain(exc) from None
        values = msgspec.structs.astuple(record)
        if _count_quotes(body) != (self._quotes if self._all_required else self._expected_quotes(values)):
            raise EventError(self._repeated_key_text(body))
        return self._finish(values)

    def many(self, body: bytes, limit: int) -> list[tuple[Any, ...]]:
        """The values of each object of a JSON array of 1 to ``limit`` objects.

        Raises:
            EventError: for the first bad event, counted from 0, or for a batch of another size.
        """
        try:
            records = self._many.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise self._explain(exc) from None
        if not 1 <= len(records) <= limit:
            raise EventError(f"a batch holds 1 to {limit} events, this one has {len(records)}")
        rows = [msgspec.structs.astuple(r) for r in records]
        expected = self._quotes * len(rows) if self._all_required else sum(map(self._expected_quotes, rows))
        if _count_quotes(body) != expected:
            raise EventError(self._repeated_key_text(body))
        return [self._finish(values, index) for index, values in enumerate(rows)]

    def _expected_quotes(self, values: tuple[Any, ...]) -> int:
        keys = sum(v is not msgspec.UNSET for v in values)
        text_count = sum(isinstance(values[i], str) for i in self._texts)
        text_count += sum(isinstance(values[i], datetime) for i in self._times)
        return 2 * (keys + text_count)

    def _finish(self, values: tuple[Any, ...], index: int | None = None) -> tuple[Any, ...]:
        row = list(values)
        if not self._all_required:
            row = [None if v is msgspec.UNSET else v for v in row]
        for i in self._texts:
            if row[i] is not None and has_control(row[i]):
                raise self._column_error(i, index)
        for i, categories in self._categories:
            if row[i] is not None and row[i] not in categories:
                raise self._column_error(i, index)
        for i in self._times:
            if row[i] is not None:
                row[i] = (row[i] - EPOCH) // MICROSECOND
                if not EARLIEST_US <= row[i] < LATEST_US:
                    raise self._column_error(i, index)
        for i in self._arrivals:
            if row[i] is None:
                row[i] = today_us()
        if self._private:
            self._hash_and_guard(row, index)
        return tuple(row)

    def _hash_and_guard(self, row: list[Any], index: int | None) -> None:
        """Refuse card numbers, then hash."""
        for i in self._guarded:
            if row[i] is not None and holds_card_number(row[i]):
                name = self._columns[i].name
                raise EventError(f"{_event(index)}column {name!r}: a card number may not be sent here")
        for i in self._hashed:
            if row[i] is not None and self._hasher is not None:
                try:
                    row[i] = self._hasher(row[i])
                except ForeignHash as exc:
                    raise EventError(f"{_event(index)}column {self._columns[i].name!r}: {exc}") from None

    def _column_error(self, position: int, index: int | None) -> EventError:
        column = self._columns[position]
        return EventError(f"{_event(index)}column {column.name!r}: allowed is {allowed_values(column)}")

    def _explain(self, exc: Exception) -> EventError:
        """Our words for a decoder's error; the decoder's own text could hold what was sent."""
        text = str(exc)
        match = _PLACE.search(text)
        prefix = _event(match.group(1)) if match else ""
        field = _FIELD.search(text)
        if isinstance(exc, UnicodeDecodeError):
            return EventError("the body is not UTF-8")
        if "unknown field" in text:
            field_text = f" {field.group(1)!r}" if field else ""
            return EventError(f"{prefix}unknown field{field_text}; allowed are {', '.join(self.names)}")
        if "missing required field" in text and field:
            return EventError(f"{prefix}column {field.group(1)!r} is missing; it may not be left out")
        if match and match.group(2) in self._by_name:
            column = self._by_name[match.group(2)]
            return EventError(f"{prefix}column {column.name!r}: allowed is {allowed_values(column)}")
        if isinstance(exc, msgspec.ValidationError):
            return EventError(
                f"{prefix}the body must be a JSON object with {', '.join(self.names)} (a batch is an array of them)"
            )
        return EventError("the body is not valid JSON")

    def _repeated_key_text(self, body: bytes) -> str:
        """Name the key that is written twice (slow; only once an error is certain)."""
        repeated_keys: list[str] = []

        def collect(pairs: list[tuple[str, Any]]) -> None:
            keys = [k for k, _ in pairs]
            repeated_keys.extend(k for k in keys if keys.count(k) > 1)

        json.loads(body, object_pairs_hook=collect)
        return f"column {repeated_keys[0]!r} is given twice in one event" if repeated_keys else "a key is given twice"


def encoder_type(columns: Sequence[Column]) -> type[msgspec.Struct]:
    """A struct that takes values by position and is encoded under the columns' names."""
    fields = [(f"f{i}", Any) for i in range(len(columns))]
    return msgspec.defstruct("Body", fields, rename={f"f{i}": c.name for i, c in enumerate(columns)}, gc=False)


def _field(column: Column) -> tuple[Any, ...]:
    kind = _annotation(column)
    if column.arrival:
        return (kind | msgspec.UnsetType, msgspec.UNSET)
    # An absent value differs from null only here, to count the keys that were sent.
    return (kind | None | msgspec.UnsetType, msgspec.UNSET) if column.nullable else (kind,)


def _annotation(column: Column) -> Any:
    if column.type == "boolean":
        return bool
    if column.type == "datetime":
        return Annotated[datetime, msgspec.Meta(tz=True)]
    if column.type in NUMBER_TYPES:
        low, high = bounds(column)
        if column.type == "float":
            return Annotated[float, msgspec.Meta(ge=low, le=high)]
        # A fractional bound of an integer column means the next integer inside it.
        return Annotated[int, msgspec.Meta(ge=math.ceil(low), le=math.floor(high))]
    return Annotated[str, msgspec.Meta(min_length=1, max_length=column.max_length)]


def _count_quotes(body: bytes) -> int:
    """Quotes that open or close a text, in valid JSON."""
    if b"\\" not in body:
        return body.count(b'"')
    unescaped = body.replace(b"\\\\", b"")
    return unescaped.count(b'"') - unescaped.count(b'\\"')


def _event(index: int | str | None) -> str:
    return "" if index is None else f"event {index} of the batch: "
