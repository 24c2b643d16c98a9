"""The hash chain of decisions: how a row's hash is made, and what is wrong with rows that do not follow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import select

from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch
from monitoring.store.database.tables import decisions

GENESIS: Final = "0" * 64
ROLE_COLUMNS: Final = ("seq", "usecase", "model", "role", "version", "contract", "at", "recorded_at")
"""What the table of roles takes over from the decisions: everything that says who was champion when."""
COLUMNS: Final = ("seq", "usecase", "kind", "payload", "actor", "at", "recorded_at", "prev_hash", "hash")


def row_hash(row: Mapping[str, Any]) -> str:
    """SHA-256 of everything in the row but the hash itself; ``prev_hash`` is part of it."""
    return sha256_hex(canonical_json({name: row[name] for name in COLUMNS if name != "hash"}))


def stored_rows(database: Database) -> list[dict[str, Any]]:
    """Every row of the chain as it is stored, oldest first: what an export holds."""
    c = decisions.c
    with database.read() as connection:
        rows = fetch(connection, select(*(c[name] for name in COLUMNS)).order_by(c.seq))
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def export_problems(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Problems of a chain that was exported; empty when every row is as it was written.

    Raises:
        KeyError: a row lacks a column.
    """
    return chain_problems([tuple(row[name] for name in COLUMNS) for row in rows])


def chain_problems(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """What is wrong with stored rows, oldest first."""
    problems = []
    previous_hash, previous_seq = GENESIS, 0
    for values in rows:
        row = dict(zip(COLUMNS, values, strict=True))
        if row["seq"] != previous_seq + 1:
            problems.append(f"decision {previous_seq + 1} is missing: after {previous_seq} comes {row['seq']}")
        if row["prev_hash"] != previous_hash:
            problems.append(f"decision {row['seq']} does not follow the one before it")
        if row["hash"] != row_hash(row):
            problems.append(f"decision {row['seq']} was changed: its content gives another hash")
        previous_hash, previous_seq = row["hash"], row["seq"]
    return problems


def role_row(change: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """What the table of roles holds of one change in a decision's row."""
    return dict(change) | {name: row[name] for name in ("seq", "usecase", "at", "recorded_at")}


def role_problems(rows: Sequence[tuple[Any, ...]], role_rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Whether the table of roles says what the decisions say."""
    expected_rows = []
    for values in rows:
        row = dict(zip(COLUMNS, values, strict=True))
        for change in json.loads(row["payload"]).get("roles", ()):
            expected_row = role_row(change, row)
            expected_rows.append(tuple(expected_row[name] for name in ROLE_COLUMNS))
    if expected_rows == list(role_rows):
        return []
    return ["the table of roles differs from what the decisions say"]
