"""Whether the tables that act say what the chain of decisions says: operations of release, and standing pins.

Both are written in one transaction with their decision, so a difference is an edit behind the database's back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, select

from monitoring.store.database.frames import fetch, from_us
from monitoring.store.database.tables import operations, pins
from monitoring.store.decisions.hash_chain import COLUMNS

_STATES: Final = ("planned", "verified", "previous_set", "champion_set", "confirmed", "done", "aborted")
_KINDS: Final = ("promotion", "rollback", "installation")
_OPERATION: Final = (
    "op_id", "usecase", "model", "kind", "from_version", "to_version", "previous_version", "evidence", "contract",
    "state", "actor", "reason", "note", "at",
)  # fmt: skip
_PIN: Final = ("model", "usecase", "version", "from_version", "contract", "decision", "actor", "reason")
_SHOWN: Final = 12


def acting_problems(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Differences between both tables and the chain, whose stored rows are given, in plain words."""
    chain = [dict(zip(COLUMNS, values, strict=True)) for values in rows]
    for row in chain:
        row["payload"] = json.loads(row["payload"])
    query = select(*(operations.c[name] for name in _OPERATION)).order_by(operations.c.created_at, operations.c.op_id)
    held = [dict(zip(_OPERATION, row, strict=True)) for row in fetch(connection, query)]
    pinned = fetch(connection, select(*(pins.c[name] for name in _PIN)).order_by(pins.c.model))
    return [
        *operation_problems(chain, held),
        *pin_problems(chain, [dict(zip(_PIN, row, strict=True)) for row in pinned]),
    ]


def operation_problems(chain: Sequence[Mapping[str, Any]], held: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each operation must stand as its newest decision left it, and each decided operation must be there."""
    newest: dict[str, Mapping[str, Any]] = {}
    for row in chain:
        kind, _, state = row["kind"].partition(".")
        if kind in _KINDS and state in _STATES and "op_id" in row["payload"]:
            newest[row["payload"]["op_id"]] = row
    problems = []
    for row in held:
        name = f"operation {row['op_id'][:_SHOWN]} ({row['kind']} to version {row['to_version']})"
        line = newest.pop(row["op_id"], None)
        if line is None:
            problems.append(f"{name} stands in no decision")
        else:
            problems += _differences(name, row, _said_of_operation(line), line["seq"])
    return problems + [
        f"operation {op_id[:_SHOWN]} of decision {line['seq']} is gone from the table of operations"
        for op_id, line in newest.items()
    ]


def pin_problems(chain: Sequence[Mapping[str, Any]], held: Sequence[Mapping[str, Any]]) -> list[str]:
    """A pin must be that of a decision that nobody reconciled, and each such decision must have its pin."""
    standing: dict[int, Mapping[str, Any]] = {}
    ended: dict[int, int] = {}
    for row in chain:
        if row["kind"] == "rollback.pinned":
            standing[row["seq"]] = row
        elif row["kind"] == "rollback.reconciled" and standing.pop(row["payload"].get("pinned_by"), None) is not None:
            ended[row["payload"]["pinned_by"]] = row["seq"]
    problems = []
    for row in held:
        name, seq = f"the pin of {row['model']} on version {row['version']}", row["decision"]
        line = standing.pop(seq, None)
        if line is not None:
            problems += _differences(name, row, _said_of_pin(line), seq)
        elif seq in ended:
            problems.append(f"{name} still stands, but decision {ended[seq]} ended it")
        else:
            problems.append(f"{name} names decision {seq}, which pinned nothing")
    return problems + [
        f"decision {seq} pinned version {line['payload'].get('to_version')} of {line['payload'].get('model')} "
        "and nobody reconciled it, but no such pin stands"
        for seq, line in standing.items()
    ]


def _said_of_operation(line: Mapping[str, Any]) -> dict[str, Any]:
    kind, _, state = line["kind"].partition(".")
    own = {"usecase": line["usecase"], "actor": line["actor"], "at": line["at"]}
    return {**line["payload"], **own, "kind": kind, "state": state.upper()}


def _said_of_pin(line: Mapping[str, Any]) -> dict[str, Any]:
    said = line["payload"]
    return {**said, "version": said.get("to_version"), "usecase": line["usecase"], "actor": line["actor"]}


def _differences(name: str, row: Mapping[str, Any], said: Mapping[str, Any], seq: int) -> list[str]:
    """What the chain does not say is not compared: older lines said less."""
    return [
        f"{name}: the table says {field.replace('_', ' ')} {_word(field, row[field])}, decision {seq} says "
        f"{_word(field, said[field])}"
        for field in row
        if field in said and said[field] != row[field]
    ]


def _word(field: str, value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    return from_us(value).isoformat() if field == "at" else str(value)
