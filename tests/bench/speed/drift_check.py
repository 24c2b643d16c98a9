"""What one drift check costs over a matured week of the log: time, memory, and the rows that it reads."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from sqlalchemy import Engine, event

from bentos.registry.ports import ModelRef
from flows.drift import drift
from flows.runs.parameters import LOG
from flows.runs.run_record import call
from flows.training import training
from monitoring.store import LabelRecord
from monitoring.store.database.frames import to_us
from tests.support.log.simulated_answers import EventBatch, LoadedVersion, log_answers
from tests.support.worlds import DAY, World, small_world

_CHANGES: Final = {
    "false_negative = 100": 'false_negative = "amount"',
    "[capacity]": '[fairness]\nslices = ["amount"]\nedges = {amount = [20.0, 100.0]}\n\n[capacity]',
}
"""A cost that lies in the event and a slice, so that every part of a check has something to do."""
_CHUNK: Final = 50_000
_POSITIVES: Final = 0.01
_YOUNG_DAYS: Final = 2


@dataclass(frozen=True)
class DriftCheckFigures:
    """What was measured; the log is SQLite, and each check a process of its own.

    Attributes:
        rows: answers of the matured week; two younger days as busy as those follow it.
        figures: of a check without page and without skew: what the log alone takes.
        whole: of a check as it is scheduled: with Evidently's page, and features built again from raw events.

    Each holds ``seconds`` and ``cpu_seconds`` without imports, ``peak_mb`` (most resident memory of the process in 1e6
    bytes), ``start_mb`` (the same before the check, after the imports) and ``rows_read`` (rows that the database gave).
    """

    rows: int
    figures: dict[str, float]
    whole: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def bench_drift_check(
    root: Path, rows: int = 1_000_000, told: Callable[[str], None] = lambda _: None
) -> DriftCheckFigures:
    """Train a model, log a week of answers and two days more, and check their drift.

    Args:
        root: folder that is emptied first.
        rows: answers of the matured week.
        told: hears what is being done.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with small_world(root, changes=_CHANGES) as world:
        told("a model")
        call(training, usecase=world.reference, source=LOG, until=world.live_from, reason="a benchmark")
        told(f"a week of {rows:,} answers")
        log_days(world, 7 + _YOUNG_DAYS, rows // 7)
        told("checks")
        checks = [check_apart(world.reference, world.day(7 + _YOUNG_DAYS), whole=whole) for whole in (False, True)]
    return DriftCheckFigures(rows, *checks)


def log_days(world: World, days: int, rows: int, seed: int = 11) -> None:
    """Answer so many events a day as the champion would, from features that vary around those of its reference."""
    usecase, store, model = world.workspace.usecase, world.workspace.store, world.model()
    champion, rng = LoadedVersion(ModelRef(world.workspace.model, "1"), model), np.random.default_rng(seed)
    for day in range(days):
        for start in range(0, rows, _CHUNK):
            size = min(_CHUNK, rows - start)
            events = _events(world.day(day), start, size, rows, rng)
            features = rng.gamma(2.0, 20.0, (size, len(model.plan.names))).astype(np.float32)
            log_answers(store, usecase, champion, EventBatch(events, features, world.day(day)))
            positives = events[usecase.event_id][rng.random(size) < _POSITIVES]
            known = to_us(world.day(day) + DAY)
            records = [LabelRecord(usecase.name, name, 1, known, "chargeback", known) for name in positives]
            store.labels.add(records, usecase.label)


def _events(day: datetime, start: int, size: int, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Some events of one day, spread evenly over it."""
    offsets = np.arange(start, start + size) * (86_400_000_000 // rows)
    return pd.DataFrame(
        {
            "transaction_id": [f"{day:%m%d}-{n:08d}" for n in range(start, start + size)],
            "tx_time": pd.to_datetime(to_us(day) + offsets, unit="us", utc=True).as_unit("us"),
            "customer_id": [f"c-{n:08d}" for n in rng.integers(0, 50_000, size)],
            "terminal_id": [f"m-{n:08d}" for n in rng.integers(0, 10_000, size)],
            "amount": rng.gamma(2.0, 30.0, size).round(2),
        }
    )


def check_apart(reference: str, as_of: datetime, *, whole: bool) -> dict[str, float]:
    """One check in a process of its own: here memory that was freed would be taken again; a second counts the rows."""
    done, counted = (_run_check(reference, as_of, whole, count=count) for count in (False, True))
    return {name: round(value, 1) for name, value in done.items()} | {"rows_read": counted["rows_read"]}


def _run_check(reference: str, as_of: datetime, whole: bool, *, count: bool) -> dict[str, float]:
    words = [reference, as_of.isoformat(), str(int(whole)), str(int(count))]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __name__, *words]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


_rows_read = [0]


def _count_row(_: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
    _rows_read[0] += 1
    return row


def _count_rows(connection: Any, _: object) -> None:
    connection.row_factory = _count_row


def _check(reference: str, as_of: str, whole: str, count: str) -> None:
    """Check once and print what it took."""
    import river.drift  # noqa: F401  # imports are not the speed of a check

    if count == "1":
        event.listen(Engine, "connect", _count_rows)
    settings = {} if whole == "1" else {"skew": False, "html": "never"}
    start_mb, started, worked = _peak_mb(), time.perf_counter(), time.process_time()
    call(drift, usecase=reference, as_of=datetime.fromisoformat(as_of), **settings)
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - worked}
    print(json.dumps(spent | {"start_mb": start_mb, "peak_mb": _peak_mb(), "rows_read": _rows_read[0]}))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    _check(*sys.argv[1:])
