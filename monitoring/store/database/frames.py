"""Rows of the database as frames, a column at a time; a million rows take about a second a column set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Connection, Select

from monitoring.errors import StoreError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_JSON_TYPES: Final[Mapping[str, Any]] = {"float": float, "integer": int, "boolean": bool}


def to_us(instant: datetime) -> int:
    """Microseconds since 1970 UTC of an aware datetime.

    Raises:
        ValueError: for a datetime without a zone.
    """
    if instant.tzinfo is None:
        raise ValueError("an aware datetime is needed; add a zone, for example +00:00")
    return (instant - EPOCH) // timedelta(microseconds=1)


def from_us(value: int) -> datetime:
    """The aware UTC datetime of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)


def fetch(connection: Connection, statement: Select[Any]) -> list[tuple[Any, ...]]:
    """All rows as the driver's tuples: SQLAlchemy's row objects would double the time."""
    cursor = connection.execute(statement).cursor
    assert cursor is not None
    return list(cursor.fetchall())


def columns_of(rows: Sequence[tuple[Any, ...]], width: int) -> list[tuple[Any, ...]]:
    """The rows transposed; ``width`` empty columns when there is no row."""
    return list(zip(*rows, strict=True)) if rows else [()] * width


def times(values: Iterable[int | None]) -> pd.Series:
    """``datetime64[us, UTC]`` of microseconds; ``None`` becomes NaT."""
    import numpy as np
    import pandas as pd

    not_a_time = np.iinfo(np.int64).min  # numpy's NaT
    numbers = np.array([not_a_time if v is None else v for v in values], dtype=np.int64)
    return pd.Series(numbers.view("datetime64[us]")).dt.tz_localize("UTC")


def floats(values: Iterable[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """``float64``; ``None`` becomes NaN."""
    import numpy as np

    return np.array(list(values), dtype=np.float64)


def texts(values: Iterable[str | None]) -> pd.Series:
    """Text as ``object``; ``None`` stays."""
    import pandas as pd

    return pd.Series(list(values), dtype=object)


def decode_bodies(bodies: Sequence[bytes], columns: Mapping[str, str]) -> dict[str, Any]:
    """Columns of the logged JSON bodies.

    Args:
        bodies: JSON objects.
        columns: name to type, as the use case declares it: ``float``, ``integer``, ``boolean``,
            ``datetime`` or a kind of text. Other fields of a body are skipped.

    Returns:
        name to values: float64, int64 (float64 with NaN where one is missing), bool (object where one
        is missing), ``datetime64[us, UTC]`` or object text.

    Raises:
        StoreError: a body does not fit; the message names no value.
    """
    fields = [(name, _JSON_TYPES.get(kind, str) | None, None) for name, kind in columns.items()]
    body_type = msgspec.defstruct("Body", fields, gc=False)
    try:
        rows = msgspec.json.decode(b"[" + b",".join(bodies) + b"]", type=list[body_type])  # type: ignore[valid-type]  # the type is made at run time
    except msgspec.DecodeError as exc:
        raise StoreError(f"a logged event does not fit the declared columns {', '.join(columns)}") from exc
    return {name: _column([getattr(row, name) for row in rows], kind) for name, kind in columns.items()}


def _column(values: list[Any], kind: str) -> Any:
    import numpy as np
    import pandas as pd

    if kind == "float":
        return floats(values)
    if kind in ("integer", "boolean"):
        dtype = np.int64 if kind == "integer" else np.bool_
        if None not in values:
            return np.array(values, dtype=dtype)
        return floats(values) if kind == "integer" else texts(values)
    if kind == "datetime":
        return pd.to_datetime(texts(values), utc=True, format="ISO8601").dt.as_unit("us")
    return texts(values)


def encode_bodies(frame: pd.DataFrame) -> list[bytes]:
    """Each row as a JSON object: missing values are null, times ISO 8601 with ``Z``."""
    columns = [_plain(frame[name]) for name in frame.columns]
    names = [str(name) for name in frame.columns]
    encode = msgspec.json.Encoder().encode
    return [encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def _plain(column: pd.Series) -> list[Any]:
    import pandas as pd

    if isinstance(column.dtype, pd.DatetimeTZDtype):
        text = column.dt.tz_convert("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return [None if pd.isna(v) else v for v in text]
    return [None if pd.isna(v) else v for v in column.tolist()]
