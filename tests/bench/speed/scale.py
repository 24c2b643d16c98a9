"""The same training and the same list of scores in one process and on a local cluster of two workers."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from bentos.model.scoring_model import ModelMetadata, ScoringModel
from bentos.registry.ports import ModelRef
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from bentos.usecase.options import SimulatorOptions
from flows.distributed.dask_cluster import Cluster, open_cluster, require_dask
from flows.distributed.folds import positions_of, read_fold
from flows.distributed.scoring import score_on_cluster
from flows.distributed.slices import SourceCall
from flows.distributed.training import OnCluster, prepare
from flows.snapshots.store import SnapshotStore
from flows.sources import open_source
from flows.sources.worlds.card_transactions import make_world, simulate
from flows.steps.bulk.input import BulkInput
from flows.steps.bulk.output import BulkOutput
from flows.steps.bulk.score_table import score_table
from monitoring.core.calendar import TimeWindow
from monitoring.core.hashing import sha256_file
from tests.bench.speed.whole_table import figures_of, peak_mb

WORKERS: Final = 2
DAYS: Final = 120
"""Days of the simulated set: what windows, folds and label delays need, and a month more."""
_DAILY: Final = 1.9
"""Transactions a day of a simulated customer, a little fewer than on average."""
_SPARE_MB: Final = 1500
"""Memory of the machine that the single process leaves to others; it is stopped before."""
_LIST_ROWS: Final = 3_000_000
"""Rows up to which a list is scored: for each chunk one process looks at all rows within a window's reach."""
_MODEL: Final = ModelRef("bench", "1")

Told = Callable[[str], None]


def bench_scale(root: Path, data: Path | None, rows: int, memory_mb: int, told: Told) -> dict[str, Any]:
    """Measure both engines.

    Args:
        root: a folder that is emptied first.
        data: the handbook's transactions, a file or a folder; none simulates a set.
        rows: about how many rows that has.
        memory_mb: limit of each worker; a worker that exceeds it is stopped.
        told: what begins.

    Returns:
        The keys of docs/reference/benchmarks.md. Where one process is stopped for want of memory, what compares with
        it is null.
    """
    require_dask()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    if data is None:
        told(f"a simulated set of {rows:,} rows")
        data = simulated(root / "events", rows)
    cluster = _cluster(root, data, memory_mb, told)
    told("one process")
    single = _single(root, data)
    found = {"rows": cluster.pop("rows"), "single": single, "cluster": cluster}
    found["metric_difference"] = _metric_difference(single, cluster)
    found["max_feature_difference"] = _feature_difference(root, single)
    found["peak_mb_per_worker"] = max(cluster["peaks_mb"])
    found["scores_equal"] = None
    if found["rows"] <= _LIST_ROWS:
        told("the list of scores by one process")
        found["scores_equal"] = _single_scores(root, data)
    return found


def simulated(folder: Path, rows: int) -> Path:
    """A world of about so many transactions, one Parquet file a day, in the handbook's column names."""
    customers = max(10, round(rows / (DAYS * _DAILY)))
    options = SimulatorOptions(
        customers=customers, terminals=2 * customers, days=DAYS, radius=min(5.0, 5.0 * math.sqrt(1000 / customers))
    )
    world = make_world(options)
    folder.mkdir(parents=True)
    names = {
        "event_id": "TRANSACTION_ID", "event_time": "TX_DATETIME", "customer_id": "CUSTOMER_ID",
        "terminal_id": "TERMINAL_ID", "amount": "TX_AMOUNT", "fraud": "TX_FRAUD",
    }  # fmt: skip
    for day in range(DAYS):
        made = simulate(world, day, day + 1)[list(names)].rename(columns=names)
        made.to_parquet(folder / f"day-{day:03d}.parquet", index=False)
    return folder


@contextmanager
def local_cluster(memory_mb: int, told: Told, root: Path) -> Iterator[Cluster]:
    """Two worker processes of one thread each, with a limit on their memory."""
    from distributed import LocalCluster

    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, host="127.0.0.1", memory_limit=memory_mb * 10**6,
            dashboard_address="127.0.0.1:0",
        ) as made,
        open_cluster(made.scheduler_address, root, lambda step, *done: told(f"cluster: {step} {done}")) as on,
    ):  # fmt: skip
        yield on


def _cluster(root: Path, data: Path, memory_mb: int, told: Told) -> dict[str, Any]:
    usecase = load_usecase("fraud")
    source = open_source(usecase, "parquet", path=str(data))
    window, rows = source.extent(), source.rows()  # type: ignore[attr-defined]  # a Parquet source knows its rows
    with local_cluster(memory_mb, told, root) as on:
        began = time.perf_counter()
        call = SourceCall(usecase, "parquet", {"path": str(data)})
        material = prepare(on, call, window, SnapshotStore(root / "snapshots"), rows=rows, keep=window)
        built = time.perf_counter()
        fitted = material.fitted_twin()
        test = material.rows_of(material.recipe.plan)
        figures = figures_of(test.y, fitted.booster.predict(test.features))
        spent = time.perf_counter() - began
        _keep_features(root, material, window)
        scored = None
        if material.snapshot.rows <= _LIST_ROWS:
            told("cluster: a list of scores")
            scored = _cluster_scores(on, root, data, material, window)
        peaks = [round(mb, 1) for mb in on.client.run(peak_mb).values()]
    return {
        **figures, "rows": material.snapshot.rows, "features_s": round(built - began, 1), "seconds": round(spent, 1),
        "scores_s": scored, "workers": WORKERS, "memory_mb": memory_mb,
        "peak_mb_here": round(peak_mb(), 1), "peaks_mb": peaks,
    }  # fmt: skip


def _cluster_scores(on: Cluster, root: Path, data: Path, material: OnCluster, window: TimeWindow) -> float:
    """Make the model whole, keep it, and score the table; returns the seconds of the latter."""
    usecase = material.recipe.usecase
    model = material.twin(material.folds(), ModelMetadata(usecase.name, "0.0.0"))
    model.save(root / "model")
    began = time.perf_counter()
    target = BulkOutput(str(root / "cluster.parquet"), root)
    score_on_cluster(on, usecase, model, _MODEL, BulkInput(usecase, str(data)), target, window.end)
    return round(time.perf_counter() - began, 1)


def _keep_features(root: Path, material: OnCluster, window: TimeWindow) -> None:
    """The features by part, in files that outlive the cluster."""
    places = positions_of(material.recipe.plan, material.union)
    for fact in material.facts:
        part = read_fold("part", material.cluster.folder, [fact.part], window, places)
        np.save(root / f"features-{fact.part:06d}.npy", part.features)


def _single(root: Path, data: Path) -> dict[str, Any]:
    """The figures of one process; its peak alone where memory ran out."""
    command = [sys.executable, "-m", "tests.bench.speed.whole_table", str(data), str(root)]
    process = subprocess.Popen(command, stdout=sys.stderr)
    peak = 0.0
    while process.poll() is None:
        time.sleep(0.2)
        peak = max(peak, _resident_mb(process.pid))
        if _available_mb() < _SPARE_MB:
            process.kill()
            process.wait()
            return {"finished": False, "peak_mb": round(peak, 1)}
    if process.returncode:
        return {"finished": False, "peak_mb": round(peak, 1)}
    return {"finished": True, **json.loads((root / "whole.json").read_text())}


def _metric_difference(single: dict[str, Any], cluster: dict[str, Any]) -> float | None:
    if not single["finished"]:
        return None
    return float(max(abs(single[name] - cluster[name]) for name in ("average_precision", "auc_roc")))


def _feature_difference(root: Path, single: dict[str, Any]) -> float | None:
    """The largest difference of any feature of any row; a value that only one side has counts as 1 or more."""
    if not single["finished"]:
        return None
    one, at, worst = np.load(root / "features.npy", mmap_mode="r"), 0, 0.0
    for file in sorted(root.glob("features-*.npy")):
        two = np.load(file)
        mine = np.asarray(one[at : at + len(two)])
        at += len(two)
        lone = np.isnan(mine) != np.isnan(two)
        gap = np.abs(np.nan_to_num(mine) - np.nan_to_num(two)) + lone
        worst = max(worst, float(gap.max(initial=0.0)))
    return worst if at == len(one) else float(abs(at - len(one)) + 1)


def _single_scores(root: Path, data: Path) -> bool:
    """Whether one process writes the same list, byte by byte."""
    usecase: UseCase = load_usecase("fraud")
    model = ScoringModel.load(root / "model")
    as_of = open_source(usecase, "parquet", path=str(data)).extent().end
    target = BulkOutput(str(root / "single.parquet"), root)
    score_table(usecase, model, _MODEL, BulkInput(usecase, str(data)), target, as_of)
    return sha256_file(root / "single.parquet") == sha256_file(root / "cluster.parquet")


def _resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _available_mb() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024 / 1e6
