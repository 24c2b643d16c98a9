"""The file of a look-up table: ``INCUMBENT_HOME/lookups/ENV/USECASE/NAME.sqlite``.

SQLite, because the image reads it with what it has. Table ``rows`` holds the entity column, ``valid_from`` (whole
microseconds since 1970, UTC) and the filled columns under their names in the use case; times are whole
microseconds, booleans 0 and 1, missing values NULL. Ids are hashed where the use case hashes them. Table ``about``
says how many rows there are, and for which declaration of the columns.

:func:`checked_rows` is the one gate: a table passes it when the file is made. Whoever reads the file asks whether it
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


def checked_rows(
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
    ids, codes = read_column(_held(table, (entity.name,)), entity, usecase.zone)
    _refuse(codes, entity, entity.name)
    if entity.name in usecase.privacy.hashed:
        hash_texts(ids, codes, hasher or LazyHasher(configured_hasher))
        _refuse(codes, entity, entity.name)
    found: dict[str, Any] = {entity.name: ids, VALID_FROM: _since(_held(table, (VALID_FROM,)))}
    for column in usecase.filled_by(lookup.name):
        names = tuple(dict.fromkeys((column.external_name, column.name)))
        found[column.name], codes = read_column(_held(table, names), column, usecase.zone)
        _refuse(codes, column, column.external_name)
        if column.type == "float":
            found[column.name] = found[column.name] + 0.0  # SQLite keeps no sign of a zero, so nobody does
    rows = pd.DataFrame(found).sort_values([VALID_FROM, entity.name], kind="stable", ignore_index=True)
    twice = int(rows.duplicated([entity.name, VALID_FROM]).sum())
    if twice:
        raise LookupProblem(f"{twice} rows repeat the {entity.name} and {VALID_FROM} of another; keep one of each")
    return rows


def read_rows(
    usecase: UseCase, lookup: Lookup, path: Path, hasher: Hasher | LazyHasher | None = None
) -> tuple[pd.DataFrame, str]:
    """The checked rows of a file, and the SHA-256 of its bytes.

    Raises:
        LookupProblem: the file is missing or torn, or :func:`checked_rows` refuses what it holds.
    """
    opened, digest = open_rows(usecase, lookup, path)
    try:
        return checked_rows(usecase, lookup, _table_of(opened, usecase, lookup), hasher), digest
    except LookupProblem as exc:
        raise LookupProblem(f"lookup {lookup.name!r}: {path}: {exc}") from exc
    finally:
        opened.close()


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
    columns = (usecase.column(lookup.entity), *usecase.filled_by(lookup.name))
    said = [column.model_dump(mode="json", include=part) for column in columns]
    return sha256_hex(canonical_json({"columns": said, "hashed": lookup.entity in usecase.privacy.hashed}))


def write_rows(usecase: UseCase, lookup: Lookup, rows: pd.DataFrame, path: Path) -> None:
    """Put checked rows in the place of a file, by one rename: a reader sees the old table or the new one.

    Raises:
        LookupProblem: the disk refuses it; the old file stays.
    """
    columns = (usecase.column(lookup.entity), *usecase.filled_by(lookup.name))
    scratch = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        _write(Path(scratch), columns, rows, declaration_of(usecase, lookup))
        with open(scratch, "rb") as made:
            os.fsync(made.fileno())
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
    make: Any = {"float": float, "integer": int, "boolean": bool}[column.type]
    return [None if v != v else make(v) for v in series.tolist()]


def _write(path: Path, columns: tuple[Column, ...], rows: pd.DataFrame, declaration: str) -> None:
    entity, *filled = columns
    # In the order of the key: SQLite then only ever writes at the end.
    rows = rows.sort_values([entity.name, VALID_FROM], kind="stable")
    declared = "".join(f', "{c.name}" {_SQL_TYPES.get(c.type, "TEXT")}' for c in filled)
    values = [rows[entity.name].tolist(), rows[VALID_FROM].tolist(), *(event_values(rows[c.name], c) for c in filled)]
    connection = sqlite3.connect(path)
    try:
        # Names are those of a checked use case: small letters, digits and underscores.
        key = f'"{entity.name}", {VALID_FROM}'
        connection.execute(
            f'CREATE TABLE rows ("{entity.name}" TEXT NOT NULL, {VALID_FROM} INTEGER NOT NULL{declared}, '
            f"PRIMARY KEY ({key})) WITHOUT ROWID"
        )
        marks = ", ".join("?" * len(values))
        connection.executemany(f"INSERT INTO rows VALUES ({marks})", zip(*values, strict=True))  # noqa: S608
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
        count, made_for = connection.execute("SELECT rows, declaration FROM about").fetchone()
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        (held,) = connection.execute("SELECT count(*) FROM rows").fetchone()
    except (sqlite3.Error, TypeError, ValueError, OverflowError) as exc:
        raise LookupProblem(f"it is no look-up table, or a torn one ({exc}); make it again") from exc
    if sound != "ok" or held != count:
        raise LookupProblem(f"it is no look-up table, or a torn one ({held} of {count} rows); make it again")
    if made_for != declaration:
        raise LookupProblem("it was made for columns that were declared otherwise; load it again")


def _table_of(connection: sqlite3.Connection, usecase: UseCase, lookup: Lookup) -> pd.DataFrame:
    """The rows of an open file as a table."""
    cursor = connection.execute("SELECT * FROM rows")
    names = [column[0] for column in cursor.description]
    held = cursor.fetchall()
    table = pd.DataFrame(held, columns=names)
    times = [c.name for c in usecase.filled_by(lookup.name) if c.type == "datetime"]
    for name in {VALID_FROM, *times} & set(names):
        stamps = pd.to_numeric(table[name], errors="coerce").astype("Int64")
        table[name] = pd.to_datetime(stamps, unit="us", utc=True)
    return table


def _held(table: pd.DataFrame, names: tuple[str, ...]) -> pd.Series[Any]:
    for name in names:
        if name in table.columns:
            return table[name].reset_index(drop=True)
    have = ", ".join(map(str, table.columns[:30])) or "none"
    raise LookupProblem(f"no column {' or '.join(map(repr, names))}; it has {have}")


def _refuse(codes: Any, column: Column, name: str) -> None:
    bad = int((codes != 0).sum())
    if bad:
        worst, allowed = REASONS[int(np.bincount(codes[codes != 0]).argmax())], allowed_values(column)
        found = f"column {name!r}: {bad} of {len(codes)} values cannot be used ({worst})"
        raise LookupProblem(f"{found}; allowed is {allowed}")


def _since(series: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Whole microseconds since 1970, rounded up: rounded down, a row would hold before it was known."""
    if not isinstance(series.dtype, pd.DatetimeTZDtype):
        raise LookupProblem(
            f"column {VALID_FROM!r} is a {series.dtype}; it must be a timestamp with a zone, such as UTC"
        )
    if series.isna().any():
        raise LookupProblem(f"column {VALID_FROM!r}: {int(series.isna().sum())} of {len(series)} values are missing")
    times = series.dt.tz_convert("UTC")
    whole = times.dt.as_unit("us")
    stamps: np.ndarray[Any, np.dtype[np.int64]] = whole.to_numpy("M8[us]").view(np.int64)
    late: np.ndarray[Any, np.dtype[np.int64]] = (times > whole).to_numpy().astype(np.int64)
    rounded: np.ndarray[Any, np.dtype[np.int64]] = stamps + late
    return rounded
