"""How many rows a second the log takes: straight in, as shadow scores, and through spool and scribe."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bentos.spool.shipper import Scribe, accounting
from bentos.spool.writer import SpoolWriter
from bentos.usecase.loading import load_usecase
from flows.drills.load.temporary_postgresql import temporary_postgresql
from flows.steps.operations.databases import find_postgresql_folder
from monitoring.store import PlanRecord, ScoreRecord, ShadowRecord, Store, open_store

Notice = Callable[[str], None]
_WIDTH = 15
_DAY_US = 86_400_000_000
_START_US = 1_772_409_600_000_000
_BODY = (
    b'{"transaction_id":"%d","ts":"2026-03-02T00:00:00Z","customer_id":"%d","terminal_id":"%d","amount":%d.25,"x":null}'
)


def bench_log(root: Path, notice: Notice, rows: int = 60_000, batch: int = 500) -> dict[str, Any]:
    """Rows a second into SQLite and into PostgreSQL (none where it is not installed).

    Args:
        root: folder of the bench; emptied first.
        notice: told what happens.
        rows: rows of each measurement, spread over three days of event time.
        batch: rows of a transaction where they go straight in.

    Returns:
        for ``sqlite`` and ``postgresql``: ``append_rows_per_s``, ``shadow_rows_per_s``, ``scribe_rows_per_s`` (from
        the spool's files, its own batches), ``cpu_us_per_row`` of this process in the last; and ``rows``, ``batch``.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    found: dict[str, Any] = {"rows": rows, "batch": batch}
    notice("sqlite")
    with _opened(f"sqlite:///{root / 'log.db'}") as store:
        found["sqlite"] = _measure(store, root / "spool-sqlite", rows, batch)
    found["postgresql"] = None
    if find_postgresql_folder() is not None:
        notice("postgresql")
        with temporary_postgresql() as server, _opened(server.url) as store:
            found["postgresql"] = _measure(store, root / "spool-postgresql", rows, batch)
    return found


@contextmanager
def _opened(url: str) -> Iterator[Store]:
    store = open_store(url)
    try:
        yield store
    finally:
        store.close()


def _measure(store: Store, spool: Path, rows: int, batch: int) -> dict[str, Any]:
    store.log.append(records("warm", batch))
    straight = records("a", rows)
    append = _rate(rows, lambda: _each(straight, batch, store.log.append))
    said = [_shadowed(record) for record in straight]
    shadow = _rate(rows, lambda: _each(said, batch, store.shadow.append))
    writer = SpoolWriter(spool)
    writer.declare(PlanRecord("bench", tuple(f"f{n}" for n in range(_WIDTH))))
    _each(records("s", rows), 32, writer.append)
    writer.close()
    policy = load_usecase("fraud").label
    cpu = time.process_time()
    shipped = _rate(rows, lambda: Scribe(store, spool, "bench", policy).run_once())
    cpu = time.process_time() - cpu
    found = accounting(store, spool, "bench")
    return {
        "append_rows_per_s": round(append),
        "shadow_rows_per_s": round(shadow),
        "scribe_rows_per_s": round(shipped),
        "cpu_us_per_row": round(cpu / rows * 1e6, 1),
        "balanced": found.is_balanced and found.spooled == 0 and found.stored == rows,
    }


def _rate(rows: int, action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return rows / (time.perf_counter() - started)


def _each(values: list[Any], size: int, action: Callable[[list[Any]], object]) -> None:
    for start in range(0, len(values), size):
        action(values[start : start + size])


def records(prefix: str, count: int) -> list[ScoreRecord]:
    """Answered events as the service logs them, with 15 features."""
    features = np.random.default_rng(7).random((count, _WIDTH), dtype=np.float32)
    now = time.time_ns() // 1000
    step = 3 * _DAY_US // max(1, count)
    return [
        ScoreRecord(
            "bench", f"{prefix}{n}", _START_US + n * step, now + n, "live", _BODY % (n, n % 4999, n % 997, n % 300),
            "bench", features[n].tobytes(), "dev-bench", "1", "champion", "c" * 64, 0.25, 0.2, 0.5, False,
        )
        for n in range(count)
    ]  # fmt: skip


def _shadowed(record: ScoreRecord) -> ShadowRecord:
    return ShadowRecord(
        "bench", record.event_id, "dev-bench", "2", "challenger", 0.5, 0.4, 0.6, False, None, record.received_at
    )
