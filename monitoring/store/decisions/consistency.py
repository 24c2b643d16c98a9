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
_ID_DIGITS: Final = 12


def acting_problems(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Differences between both tables and the chain, whose stored rows are given, in plain words."""
    chain = [dict(zip(COLUMNS, values, strict=True)) for values in rows]
    for row in chain:
        row["payload"] = json.loads(row["payload"])
    query = select(*(operations.c[name] for name in _OPERATION)).order_by(operations.c.created_at, operations.c.op_id)
    operation_rows = [dict(zip(_OPERATION, row, strict=True)) for row in fetch(connection, query)]
    pin_rows = fetch(connection, select(*(pins.c[name] for name in _PIN)).order_by(pins.c.model))
    return [
        *operation_problems(chain, operation_rows),
        *pin_problems(chain, [dict(zip(_PIN, row, strict=True)) for row in pin_rows]),
    ]


def operation_problems(chain: Sequence[Mapping[str, Any]], operation_rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each operation must stand as its newest decision left it, and each decided operation must be there."""
    newest_decisions: dict[str, Mapping[str, Any]] = {}
    for row in chain:
        kind, _, state = row["kind"].partition(".")
        if kind in _KINDS and state in _STATES and "op_id" in row["payload"]:
            newest_decisions[row["payload"]["op_id"]] = row
    problems = []
    for row in operation_rows:
        name = f"operation {row['op_id'][:_ID_DIGITS]} ({row['kind']} to version {row['to_version']})"
        decision = newest_decisions.pop(row["op_id"], None)
        if decision is None:
            problems.append(f"{name} stands in no decision")
        else:
            problems += _differences(name, row, _decided_operation(decision), decision["seq"])
    return problems + [
        f"operation {op_id[:_ID_DIGITS]} of decision {decision['seq']} is gone from the table of operations"
        for op_id, decision in newest_decisions.items()
    ]


def pin_problems(chain: Sequence[Mapping[str, Any]], pin_rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A pin must be that of a decision that nobody reconciled, and each such decision must have its pin."""
    open_pins: dict[int, Mapping[str, Any]] = {}
    reconciled_by: dict[int, int] = {}
    for row in chain:
        if row["kind"] == "rollback.pinned":
            open_pins[row["seq"]] = row
        elif row["kind"] == "rollback.reconciled" and open_pins.pop(row["payload"].get("pinned_by"), None) is not None:
            reconciled_by[row["payload"]["pinned_by"]] = row["seq"]
    problems = []
    for row in pin_rows:
        name, seq = f"the pin of {row['model']} on version {row['version']}", row["decision"]
        decision = open_pins.pop(seq, None)
        if decision is not None:
            problems += _differences(name, row, _decided_pin(decision), seq)
        elif seq in reconciled_by:
            problems.append(f"{name} still stands, but decision {reconciled_by[seq]} ended it")
        else:
            problems.append(f"{name} names decision {seq}, which pinned nothing")
    return problems + [
        f"decision {seq} pinned version {decision['payload'].get('to_version')} of {decision['payload'].get('model')} "
        "and nobody reconciled it, but no such pin stands"
        for seq, decision in open_pins.items()
    ]


def _decided_operation(decision: Mapping[str, Any]) -> dict[str, Any]:
    kind, _, state = decision["kind"].partition(".")
    own_columns = {"usecase": decision["usecase"], "actor": decision["actor"], "at": decision["at"]}
    return {**decision["payload"], **own_columns, "kind": kind, "state": state.upper()}


def _decided_pin(decision: Mapping[str, Any]) -> dict[str, Any]:
    payload = decision["payload"]
    return {**payload, "version": payload.get("to_version"), "usecase": decision["usecase"], "actor": decision["actor"]}


def _differences(name: str, row: Mapping[str, Any], decided_values: Mapping[str, Any], seq: int) -> list[str]:
    """What the chain does not say is not compared: older lines said less."""
    return [
        f"{name}: the table says {field.replace('_', ' ')} {_format_value(field, row[field])}, decision {seq} says "
        f"{_format_value(field, decided_values[field])}"
        for field in row
        if field in decided_values and decided_values[field] != row[field]
    ]


def _format_value(field: str, value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    return from_us(value).isoformat() if field == "at" else str(value)
