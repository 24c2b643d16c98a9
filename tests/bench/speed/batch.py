"""How fast a table is scored, beside a bare loop of the booster over the same Parquet file."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import pandas as pd

from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.sources import open_source
from flows.steps.bulk.input import BulkInput
from flows.steps.bulk.output import BulkOutput
from flows.steps.bulk.score_table import CHUNK_ROWS, score_table
from tests.bench.serving.models import BenchModels, bench_models

_ROUNDS: Final = 3
_WINDOW_WORLD: Final[dict[str, Any]] = {"customers": 2000, "terminals": 4000, "days": 60, "seed": 7}
_AS_OF: Final = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(frozen=True)
class BatchFigures:
    """What was measured in one run; both sides read the same file, in turn, with all processors.

    Attributes:
        rows: of the table without windows.
        ours_rows_per_s: rows a second of the whole job: read, check, score, decide, write Parquet, reconcile.
        bare_rows_per_s: rows a second of ``Booster.inplace_predict`` over the file's batches; nothing is written.
        ratio: ours over bare, within each round; the median.
        cpu_ratio: processor time of the bare loop over that of ours, likewise: what ``ratio`` is where both keep all
            processors busy, and steadier on a machine that others use.
        peak_mb: most resident memory beyond the start of a process of its own, in 1e6 bytes, over the whole table.
        peak_mb_half: the same for the first half of the rows: near ``peak_mb`` where memory does not grow.
        windows_rows, windows_rows_per_s: a table whose features come from windows, by the same job.
    """

    rows: int
    ours_rows_per_s: float
    bare_rows_per_s: float
    ratio: float
    cpu_ratio: float
    peak_mb: float
    peak_mb_half: float
    windows_rows: int
    windows_rows_per_s: float

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def bench_batch(root: Path, rows: int = 2_000_000, told: Callable[[str], None] = lambda _: None) -> BatchFigures:
    """Measure in a folder that is emptied first; the models of an earlier run are taken again."""
    told("models")
    models = bench_models(root / "models")
    work = root / "batch"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    usecase, model = load_usecase(models.vector_usecase), models.vectors[0]
    told(f"a table of {rows:,} rows")
    table, half = _table(work / "events.parquet", models, rows), _table(work / "half.parquet", models, rows // 2)
    rounds = []
    for number in range(_ROUNDS):
        told(f"round {number + 1} of {_ROUNDS}")
        bare = _spent(lambda: _bare(model, table))
        rounds.append((bare, _spent(lambda: _score(usecase, model, table, work))))
    told("memory")
    peaks = [_peak_apart(root, path, work) for path in (half, table)]
    told("with windows")
    known = load_usecase("fraud")
    events, count = _events(work / "windows.parquet", known)
    spent = _spent(lambda: _score(known, models.events[0], events, work))
    return BatchFigures(
        rows=rows,
        ours_rows_per_s=round(median(rows / ours.seconds for _, ours in rounds)),
        bare_rows_per_s=round(median(rows / bare.seconds for bare, _ in rounds)),
        ratio=round(median(bare.seconds / ours.seconds for bare, ours in rounds), 3),
        cpu_ratio=round(median(bare.processor / ours.processor for bare, ours in rounds), 3),
        peak_mb=round(peaks[1], 1),
        peak_mb_half=round(peaks[0], 1),
        windows_rows=count,
        windows_rows_per_s=round(count / spent.seconds),
    )


def _table(path: Path, models: BenchModels, rows: int) -> Path:
    """Rows like those of the simulated world, written part by part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    base, rng = np.load(models.features), np.random.default_rng(11)
    writer: pq.ParquetWriter | None = None
    for start in range(0, rows, 250_000):
        size = min(250_000, rows - start)
        values = base[rng.integers(0, len(base), size)] * rng.uniform(0.9, 1.1, (size, 1)).astype(np.float32)
        frame = pd.DataFrame(values, columns=list(models.names))
        frame.insert(0, "transaction_id", [f"t-{n:09d}" for n in range(start, start + size)])
        at = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(start, start + size), unit="s")
        frame.insert(1, "tx_time", at)
        part = pa.Table.from_pandas(frame, preserve_index=False)
        writer = writer or pq.ParquetWriter(path, part.schema)
        writer.write_table(part)
    assert writer is not None
    writer.close()
    return path


def _events(path: Path, usecase: UseCase) -> tuple[Path, int]:
    source = open_source(usecase, "simulator", **_WINDOW_WORLD)
    read = source.read(source.extent())
    table = read.events.merge(read.labels[["event_id", "y"]], left_on=usecase.event_id, right_on="event_id", how="left")
    table = table.assign(**{usecase.label.column: table["y"].fillna(0).astype("int8")}).drop(columns=["event_id", "y"])
    table.to_parquet(path, index=False)
    return path, len(table)


def _bare(model: ScoringModel, path: Path) -> None:
    """The least that anybody has to do: read the features in batches, and predict."""
    import pyarrow.parquet as pq

    names = list(model.plan.names)
    model.booster.use_threads(os.cpu_count() or 1)
    for batch in pq.ParquetFile(path).iter_batches(CHUNK_ROWS, columns=names):
        rows = np.column_stack([batch.column(name).to_numpy() for name in names]).astype(np.float32)
        model.booster.predict(rows)
    model.booster.use_threads(1)


def _score(usecase: UseCase, model: ScoringModel, path: Path, work: Path) -> None:
    out = work / "scores.parquet"
    out.unlink(missing_ok=True)
    source, target = BulkInput(usecase, str(path)), BulkOutput(str(out), work)
    score_table(usecase, model, ModelRef("bench", "1"), source, target, _AS_OF)


@dataclass(frozen=True)
class _Spent:
    """Seconds that passed, and seconds of all processors that this process took."""

    seconds: float
    processor: float


def _spent(work: Callable[[], None]) -> _Spent:
    began, worked = time.perf_counter(), time.process_time()
    work()
    return _Spent(time.perf_counter() - began, time.process_time() - worked)


def _peak_apart(root: Path, path: Path, work: Path) -> float:
    """The peak of one job in a process of its own: here memory that an earlier one freed would be taken again."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_peak_of, root, path, work).result()


def _peak_of(root: Path, path: Path, work: Path) -> float:
    models = bench_models(root / "models")
    usecase, model = load_usecase(models.vector_usecase), models.vectors[0]
    return _peak(lambda: _score(usecase, model, path, work))


def _peak(work: Callable[[], None]) -> float:
    """Most resident memory of this process beyond what it had, sampled every 5 ms."""
    with _sampled() as seen:
        work()
    return (max(seen) - seen[0]) / 1e6


@contextmanager
def _sampled() -> Iterator[list[int]]:
    page, seen, over = os.sysconf("SC_PAGE_SIZE"), [_resident()], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            seen.append(_resident())

    seen[0] *= page
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        seen[1:] = [pages * page for pages in seen[1:]]
        seen.append(_resident() * page)


def _resident() -> int:
    """Resident pages of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1])
