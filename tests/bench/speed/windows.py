"""What window state costs: time to rebuild it from the log, memory of an entity, the trip to Redis."""

from __future__ import annotations

import gc
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import pandas as pd

from bentos.errors import WindowsUnavailable
from bentos.features.plan import FeaturePlan
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.serving.shared_windows import shared_windows_factory
from bentos.serving.window_history import LogHistory
from bentos.serving.window_keeper import make_memory_windows
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from bentos.windows.redis import RedisWindows
from bentos.windows.state import WindowState
from monitoring.store import Store, open_store

BATCH: Final = 32
"""Events of the micro-batches that are timed: what 32 connections bring."""
_BATCHES: Final = 300
_CHUNK: Final = 50_000
_DAYS: Final = 37
"""Days of history: the longest window and its delay reach no further."""
_TERMINALS: Final = 5
"""Customers for each terminal."""


@dataclass(frozen=True)
class WindowFigures:
    """What was measured; times in seconds or milliseconds, memory in bytes of resident set.

    Attributes:
        events: events in the log, and in the state after the rebuild.
        entities: customers and terminals that the state knows.
        rebuild_s: from an open database to a state that can be read.
        rebuild_cpu_s: processor time of the same: what remains on a machine that does nothing else.
        events_per_s: of the rebuild.
        bytes_per_entity: memory of the whole state by entity, at this number of events for each.
        bytes_per_million_entities: the same for a million.
        bytes_per_event: memory of the whole state by event.
        batch: events of one micro-batch in the next two figures.
        embedded_batch_ms: windows of one batch in this process, median.
        redis_batch_ms: the same with Redis on this machine; none without ``redis-server``.
        machine: where it was measured.
    """

    events: int
    entities: int
    rebuild_s: float
    rebuild_cpu_s: float
    events_per_s: float
    bytes_per_entity: float
    bytes_per_million_entities: float
    bytes_per_event: float
    batch: int
    embedded_batch_ms: float
    redis_batch_ms: float | None
    machine: str

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def bench_windows(
    folder: Path, events: int = 1_000_000, customers: int = 100_000, tell: Callable[[str], None] = lambda _: None
) -> WindowFigures:
    """Fill a SQLite log with events of the fraud case, rebuild the windows from it, and time batches.

    Args:
        folder: where the log is made; it is removed again.
        events: how many events the log gets, spread evenly over 37 days.
        customers: how many customers make them; there are a fifth as many terminals.
        tell: hears what is being done.
    """
    usecase = load_usecase("fraud")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place, closing(open_store(f"sqlite:///{place}/log.db")) as store:
        tell(f"writing {events} events")
        for frame in history(events, customers):
            store.log.import_history(usecase.name, frame, usecase.event_id, usecase.event_time)
        tell("rebuilding the windows")
        state, seconds, cpu, size = _rebuilt(store, usecase)
        found = state.stats()
        tell("timing batches")
        own, redis = _batch_ms(usecase, state), _redis_batch_ms(usecase)
    return WindowFigures(
        events=found.events,
        entities=found.entities,
        rebuild_s=round(seconds, 2),
        rebuild_cpu_s=round(cpu, 2),
        events_per_s=round(found.events / seconds),
        bytes_per_entity=round(size / found.entities),
        bytes_per_million_entities=round(1_000_000 * size / found.entities),
        bytes_per_event=round(size / found.events),
        batch=BATCH,
        embedded_batch_ms=round(own, 3),
        redis_batch_ms=None if redis is None else round(redis, 3),
        machine=_machine(),
    )


def history(events: int, customers: int, seed: int = 1) -> Iterator[pd.DataFrame]:
    """Events frames in time order, in parts."""
    rng = np.random.default_rng(seed)
    step = _DAYS * 86_400_000_000 // events
    for first in range(0, events, _CHUNK):
        numbers = np.arange(first, min(first + _CHUNK, events))
        times = np.datetime64("2026-01-01T00:00:00", "us") + (numbers * step).astype("timedelta64[us]")
        yield pd.DataFrame(
            {
                "transaction_id": [f"t-{n:09d}" for n in numbers],
                "tx_time": pd.Series(times).dt.tz_localize("UTC"),
                "customer_id": [f"c-{n:08d}" for n in rng.integers(0, customers, len(numbers))],
                "terminal_id": [f"m-{n:08d}" for n in rng.integers(0, max(1, customers // _TERMINALS), len(numbers))],
                "amount": rng.gamma(2.0, 30.0, len(numbers)).round(2),
            }
        )


def _rebuilt(store: Store, usecase: UseCase) -> tuple[WindowState, float, float, int]:
    """A state from the log, the seconds and processor seconds it took, and the bytes that the process grew by."""
    schema, plan = EventSchema.of(usecase), FeaturePlan.of(usecase)
    log = LogHistory(usecase.name, schema, usecase.label.sources, lambda: store, list, lambda: 2**62)
    state = make_memory_windows(plan)
    gc.collect()
    before, started, worked = _resident(), time.perf_counter(), time.process_time()
    log.fill(plan, state)
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    gc.collect()
    return state, seconds, cpu, _resident() - before


def _batch_ms(usecase: UseCase, state: WindowState) -> float:
    """Median milliseconds of one batch: claim, features, answers remembered."""
    plan, took = FeaturePlan.of(usecase), []
    for number, batch in enumerate(_batches(usecase)):
        started = time.perf_counter()
        plan.known(batch, state)
        plan.rows(batch, state)
        for event in batch:
            state.remember(event.event_id, event.body_hash, _ANSWER, time.time_ns() // 1000)
        state.settle()
        if number >= _BATCHES // 10:
            took.append(1000.0 * (time.perf_counter() - started))
    return median(took)


def _batches(usecase: UseCase) -> Iterator[Sequence[Event]]:
    schema = EventSchema.of(usecase)
    frame = next(history(_BATCHES * BATCH, 500, seed=2)).assign(
        transaction_id=lambda table: "timed-" + table["transaction_id"]
    )
    bodies = schema.bodies(frame)
    for start in range(0, len(bodies), BATCH):
        events = [schema.decode(body) for body in bodies[start : start + BATCH]]
        for event in events:
            event.as_json()  # the log needs it in any case
        yield events


def _redis_batch_ms(usecase: UseCase) -> float | None:
    program = shutil.which("redis-server")
    if program is None:
        return None
    with _redis(program) as url:
        state = shared_windows_factory(url, "bench", 7 * 86_400_000_000, EventSchema.of(usecase))(
            FeaturePlan.of(usecase)
        )
        _joined(state)
        try:
            return _batch_ms(usecase, state)
        finally:
            state.close()


@contextmanager
def _redis(program: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        socket = f"{folder}/redis.sock"
        words = [program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait(30)


def _joined(state: RedisWindows) -> None:
    for _ in range(200):
        try:
            state.join([])
        except WindowsUnavailable:
            time.sleep(0.05)
        else:
            return
    state.join([])


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _machine() -> str:
    names = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    cpus = list(names)
    return f"{len(cpus)} x {cpus[0] if cpus else platform.machine()}, Python {platform.python_version()}"


_ANSWER: Final = (
    b'{"event_id":"timed-t-000000000","score":0.0123,"decision":false,"threshold":0.5,"model":{"name":"dev-fraud"}}'
)
