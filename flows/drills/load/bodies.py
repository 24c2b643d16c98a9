"""Request bodies of the bench, cut at the places where each request puts an id of its own.

Business time runs as in a real shop: 50,000 customers with two transactions a day each, so windows
hold what they would hold in service, however fast the bench sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

Kind = Literal["event", "batch", "row", "rows", "v2", "split"]
Pieces = tuple[bytes, ...]
"""A body without its ids: they go between the pieces."""

BATCH = 100
CUSTOMERS, TERMINALS = 50_000, 10_000
STEP_US = 864_000
"""Business time between two transactions."""
START = np.datetime64("2026-03-01T00:00:00", "us")
_ID = "@id@"


class BodySpec(msgspec.Struct, frozen=True):
    """Which bodies to make.

    Attributes:
        kind: ``event`` raw transactions, ``batch`` lists of 100 of them, ``row`` named features, ``rows``
            a list of one such row, ``v2`` the Open Inference Protocol, ``split`` MLflow's ``dataframe_split``.
        count: how many different ones.
        first: number of the first transaction, which gives its business time.
        seed: of who pays where.
        factor: by what amounts are multiplied, as by a sender that changed its unit.
        features: file of feature rows (``.npy``, float32) for the kinds that send features.
        names: feature names.
    """

    kind: Kind
    count: int = 20_000
    first: int = 0
    seed: int = 0
    factor: int = 1
    features: str = ""
    names: tuple[str, ...] = ()


def make_bodies(spec: BodySpec) -> list[Pieces]:
    """All bodies of a specification."""
    if spec.kind == "event":
        return [(b'{"transaction_id":"', b'"%b' % tail) for tail in _tails(spec, spec.count)]
    if spec.kind == "batch":
        return _batches(_tails(spec, spec.count * BATCH))
    rows = np.load(Path(spec.features), mmap_mode="r")[: spec.count]
    return [_feature_body(spec, row) for row in rows]


def events_of(kind: Kind) -> int:
    """Events of one request."""
    return BATCH if kind == "batch" else 1


def _tails(spec: BodySpec, count: int) -> list[bytes]:
    """Everything of a transaction's JSON behind its id."""
    rng = np.random.default_rng(spec.seed + spec.first)
    times = START + (spec.first + np.arange(count)) * np.timedelta64(STEP_US, "us")
    customers, terminals = rng.integers(0, CUSTOMERS, count), rng.integers(0, TERMINALS, count)
    cents = (rng.gamma(2.0, 2500.0, count).astype(np.int64) + 1) * spec.factor
    columns = (np.datetime_as_string(times, unit="us").tolist(), customers.tolist(), terminals.tolist(), cents.tolist())
    return [
        f',"tx_time":"{time}Z","customer_id":"c-{c:05d}","terminal_id":"m-{t:05d}","amount":{m / 100}}}'.encode()
        for time, c, t, m in zip(*columns, strict=True)
    ]


def _batches(tails: Sequence[bytes]) -> list[Pieces]:
    joints = [b'"%b,{"transaction_id":"' % tail for tail in tails]
    batches = []
    for start in range(0, len(tails), BATCH):
        inner = joints[start : start + BATCH - 1]
        batches.append((b'[{"transaction_id":"', *inner, b'"%b]' % tails[start + BATCH - 1]))
    return batches


def _feature_body(spec: BodySpec, row: np.ndarray[Any, Any]) -> Pieces:
    # The shortest text that reads back as the same float32, as a client would send it.
    values = [float(str(value)) for value in row]
    event = {"transaction_id": _ID, "tx_time": "2026-03-01T12:00:00Z"} | dict(zip(spec.names, values, strict=True))
    bodies: dict[str, Any] = {
        "row": event,
        "rows": {"rows": [event]},
        "v2": {"inputs": [{"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": values}]},
        "split": {"dataframe_split": {"columns": list(spec.names), "data": [values]}},
    }
    return tuple(msgspec.json.encode(bodies[spec.kind]).split(_ID.encode()))
