"""The file of a look-up table: ``INCUMBENT_HOME/lookups/ENV/USECASE/NAME.sqlite``.

SQLite, because the image reads it with what it has. Table ``rows`` holds the entity column, ``valid_from`` (whole
microseconds since 1970, UTC) and the filled columns under their names in the use case; times are whole
microseconds, booleans 0 and 1, missing values NULL. Ids are hashed where the use case hashes them. Table ``about``
says how many rows there are, and for which declaration of the columns.

:func:`check_rows` is the one gate: a table passes it when the file is made. Whoever reads the file asks whether it
is whole and was made for the same declaration, which costs serving no look at single values.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.errors import LookupProblem
from bentos.schema.column_parsing import REASONS, hash_texts, read_column
from bentos.schema.column_types import TEXT_TYPES, allowed_values
from bentos.schema.id_hashing import Hasher, LazyHasher, configured_hasher
from bentos.usecase.definition import Column, Lookup, UseCase
from bentos.usecase.lookup_problems import VALID_FROM
from monitoring.core.hashing import canonical_json, sha256_hex

_MISSING_TIME = np.iinfo(np.int64).min
_SIGNATURE = b"SQLite format 3\0"
_SQL_TYPES = {"float": "REAL", "integer": "INTEGER", "boolean": "INTEGER", "datetime": "INTEGER"}


def lookup_path(folder: Path, name: str) -> Path:
    """The file of a table."""
    return folder / f"{name}.sqlite"


def check_rows(
    usecase: UseCase, lookup: Lookup, table: pd.DataFrame, hasher: Hasher | LazyHasher | None = None
) -> pd.DataFrame:
    """The rows of a table in the product's own form; see :attr:`bentos.schema.lookups.LookupTable.rows`.

    Args:
        usecase: declares the columns.
        lookup: which table it is.
        table: the entity column, ``valid_from`` (a timestamp with a zone), and each filled column under its
            ``source_name`` or its name; other columns are ignored.
        hasher: makes the hashes of ``[privacy] hashed``; by default the installation's.

    Raises:
        LookupProblem: a column is missing, or a value is one that the use case refuses.
    """
    # Events may lack the entity; a row that is of nobody says nothing.
    entity = usecase.column(lookup.entity).model_copy(update={"nullable": False, "missing": None, "pan_guard": False})
    ids, codes = read_column(_find_column(table, (entity.name,)), entity, usecase.zone)
    _refuse(codes, entity, entity.name)
    if entity.name in usecase.privacy.hashed:
        hash_texts(ids, codes, hasher or LazyHasher(configured_hasher))
        _refuse(codes, entity, entity.name)
    columns: dict[str, Any] = {entity.name: ids, VALID_FROM: _valid_from_us(_find_column(table, (VALID_FROM,)))}
    for column in usecase.columns_of_lookup(lookup.name):
        names = tuple(dict.fromkeys((column.external_name, column.name)))
        columns[column.name], codes = read_column(_find_column(table, names), column, usecase.zone)
        _refuse(codes, column, column.external_name)
        if column.type == "float":
            columns[column.name] = columns[column.name] + 0.0  # SQLite keeps no sign of a zero, so nobody does
    rows = pd.DataFrame(columns).sort_values([VALID_FROM, entity.name], kind="stable", ignore_index=True)
    repeat_count = int(rows.duplicated([entity.name, VALID_FROM]).sum())
    if repeat_count:
        raise LookupProblem(
            f"{repeat_count} rows repeat the {entity.name} and {VALID_FROM} of another; keep one of each"
        )
    return rows


def read_rows(
    usecase: UseCase, lookup: Lookup, path: Path, hasher: Hasher | LazyHasher | None = None
) -> tuple[pd.DataFrame, str]:
    """The checked rows of a file, and the SHA-256 of its bytes.

    Raises:
        LookupProblem: the file is missing or torn, or :func:`check_rows` refuses what it holds.
    """
    connection, digest = open_rows(usecase, lookup, path)
    try:
        return check_rows(usecase, lookup, _table_of(connection, usecase, lookup), hasher), digest
    except LookupProblem as exc:
        raise LookupProblem(f"lookup {lookup.name!r}: {path}: {exc}") from exc
    finally:
        connection.close()


def open_rows(usecase: UseCase, lookup: Lookup, path: Path) -> tuple[sqlite3.Connection, str]:
    """A copy of a whole file in memory, and the SHA-256 of its bytes.

    Raises:
        LookupProblem: the file is missing or torn, or was made for another declaration of its columns.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        hint = f"put it there with `incumbent lookups load {lookup.name} FILE` or `incumbent feast pull`"
        raise LookupProblem(f"lookup {lookup.name!r}: {path} cannot be read ({exc.strerror}); {hint}") from exc
    # Made on one thread, asked on another, never on two at once.
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        _open(connection, content, declaration_of(usecase, lookup))
    except LookupProblem as exc:
        connection.close()
        raise LookupProblem(f"lookup {lookup.name!r}: {path}: {exc}") from exc
    return connection, sha256_hex(content)


def declaration_of(usecase: UseCase, lookup: Lookup) -> str:
    """SHA-256 of all that decides which values a table may hold, and in which form."""
    part = {"name", "type", "min", "max", "categories", "max_length", "pan_guard"}
    columns = (usecase.column(lookup.entity), *usecase.columns_of_lookup(lookup.name))
    column_dumps = [column.model_dump(mode="json", include=part) for column in columns]
    return sha256_hex(canonical_json({"columns": column_dumps, "hashed": lookup.entity in usecase.privacy.hashed}))


def write_rows(usecase: UseCase, lookup: Lookup, rows: pd.DataFrame, path: Path) -> None:
    """Put checked rows in the place of a file, by one rename: a reader sees the old table or the new one.

    Raises:
        LookupProblem: the disk refuses it; the old file stays.
    """
    columns = (usecase.column(lookup.entity), *usecase.columns_of_lookup(lookup.name))
    scratch = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        _write(Path(scratch), columns, rows, declaration_of(usecase, lookup))
        with open(scratch, "rb") as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except (OSError, sqlite3.Error) as exc:
        raise LookupProblem(f"lookup {lookup.name!r}: {path} cannot be written ({exc})") from exc
    finally:
        if scratch:
            Path(scratch).unlink(missing_ok=True)


def event_values(series: pd.Series[Any], column: Column) -> list[Any]:
    """Values of a filled column as :attr:`bentos.schema.event.Event.values` holds them: ``None`` is missing."""
    if column.type == "datetime":
        stamps = series.to_numpy("M8[us]").view(np.int64).tolist()
        return [None if at == _MISSING_TIME else at for at in stamps]
    if column.type in TEXT_TYPES:
        return [None if v is None or v != v else v for v in series.tolist()]
    convert: Any = {"float": float, "integer": int, "boolean": bool}[column.type]
    return [None if v != v else convert(v) for v in series.tolist()]


def _write(path: Path, columns: tuple[Column, ...], rows: pd.DataFrame, declaration: str) -> None:
    entity, *filled_columns = columns
    # In the order of the key: SQLite then only ever writes at the end.
    rows = rows.sort_values([entity.name, VALID_FROM], kind="stable")
    column_sql = "".join(f', "{c.name}" {_SQL_TYPES.get(c.type, "TEXT")}' for c in filled_columns)
    values = [
        rows[entity.name].tolist(),
        rows[VALID_FROM].tolist(),
        *(event_values(rows[c.name], c) for c in filled_columns),
    ]
    connection = sqlite3.connect(path)
    try:
        # Names are those of a checked use case: small letters, digits and underscores.
        key = f'"{entity.name}", {VALID_FROM}'
        connection.execute(
            f'CREATE TABLE rows ("{entity.name}" TEXT NOT NULL, {VALID_FROM} INTEGER NOT NULL{column_sql}, '
            f"PRIMARY KEY ({key})) WITHOUT ROWID"
        )
        placeholders = ", ".join("?" * len(values))
        connection.executemany(f"INSERT INTO rows VALUES ({placeholders})", zip(*values, strict=True))  # noqa: S608
        connection.execute("CREATE TABLE about (rows INTEGER NOT NULL, declaration TEXT NOT NULL)")
        connection.execute("INSERT INTO about VALUES (?, ?)", (len(rows), declaration))
        connection.commit()
    finally:
        connection.close()


def _open(connection: sqlite3.Connection, content: bytes, declaration: str) -> None:
    """Fill a connection with a file's content; refuse what is not whole or not meant for this use case."""
    if not content.startswith(_SIGNATURE):
        raise LookupProblem("it is no look-up table, or a torn one; make it again")
    try:
        connection.deserialize(content)
        count, file_declaration = connection.execute("SELECT rows, declaration FROM about").fetchone()
        (check_result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        (row_count,) = connection.execute("SELECT count(*) FROM rows").fetchone()
    except (sqlite3.Error, TypeError, ValueError, OverflowError) as exc:
        raise LookupProblem(f"it is no look-up table, or a torn one ({exc}); make it again") from exc
    if check_result != "ok" or row_count != count:
        raise LookupProblem(f"it is no look-up table, or a torn one ({row_count} of {count} rows); make it again")
    if file_declaration != declaration:
        raise LookupProblem("it was made for columns that were declared otherwise; load it again")


def _table_of(connection: sqlite3.Connection, usecase: UseCase, lookup: Lookup) -> pd.DataFrame:
    """The rows of an open file as a table."""
    cursor = connection.execute("SELECT * FROM rows")
    names = [column[0] for column in cursor.description]
    rows = cursor.fetchall()
    table = pd.DataFrame(rows, columns=names)
    times = [c.name for c in usecase.columns_of_lookup(lookup.name) if c.type == "datetime"]
    for name in {VALID_FROM, *times} & set(names):
        stamps = pd.to_numeric(table[name], errors="coerce").astype("Int64")
        table[name] = pd.to_datetime(stamps, unit="us", utc=True)
    return table


def _find_column(table: pd.DataFrame, names: tuple[str, ...]) -> pd.Series[Any]:
    for name in names:
        if name in table.columns:
            return table[name].reset_index(drop=True)
    column_text = ", ".join(map(str, table.columns[:30])) or "none"
    raise LookupProblem(f"no column {' or '.join(map(repr, names))}; it has {column_text}")


def _refuse(codes: Any, column: Column, name: str) -> None:
    bad_count = int((codes != 0).sum())
    if bad_count:
        reason, allowed = REASONS[int(np.bincount(codes[codes != 0]).argmax())], allowed_values(column)
        message = f"column {name!r}: {bad_count} of {len(codes)} values cannot be used ({reason})"
        raise LookupProblem(f"{message}; allowed is {allowed}")


def _valid_from_us(series: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Whole microseconds since 1970, rounded up: rounded down, a row would hold before it was known."""
    if not isinstance(series.dtype, pd.DatetimeTZDtype):
        raise LookupProblem(
            f"column {VALID_FROM!r} is a {series.dtype}; it must be a timestamp with a zone, such as UTC"
        )
    if series.isna().any():
        raise LookupProblem(f"column {VALID_FROM!r}: {int(series.isna().sum())} of {len(series)} values are missing")
    times = series.dt.tz_convert("UTC")
    whole_us = times.dt.as_unit("us")
    stamps: np.ndarray[Any, np.dtype[np.int64]] = whole_us.to_numpy("M8[us]").view(np.int64)
    rounding: np.ndarray[Any, np.dtype[np.int64]] = (times > whole_us).to_numpy().astype(np.int64)
    valid_from: np.ndarray[Any, np.dtype[np.int64]] = stamps + rounding
    return valid_from
