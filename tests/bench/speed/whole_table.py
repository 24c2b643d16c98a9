"""One process with the whole table: what a cluster is compared with. Run as a program of its own.

    python -m tests.bench.speed.whole_table PARQUET FOLDER

It writes ``whole.json`` with the figures, and ``features.npy`` with the features of every labelled row.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bentos.features.plan import FeaturePlan
from bentos.usecase.loading import load_usecase
from flows.sources import open_source
from flows.steps.data.folds import TrainingHistory, build_fold
from flows.steps.data.split import split_at
from flows.steps.fitting.fit import fit_booster
from monitoring.stats.ranking import auc_roc, average_precision


def whole(data: Path, folder: Path) -> dict[str, Any]:
    """Build every feature, fit on the training fold, measure on the test fold."""
    began = time.perf_counter()
    usecase = load_usecase("fraud")
    source = open_source(usecase, "parquet", path=str(data))
    window = source.extent()
    read = source.read(window, as_of=window.end)
    known = TrainingHistory.at(usecase, read.events, read.labels, read.revisions, window.end)
    every = build_fold(usecase, FeaturePlan.of(usecase), known, window)
    built = time.perf_counter()
    split = split_at(usecase, window.end)
    train, test = every.between("train", split.train), every.between("test", split.test)
    booster = fit_booster(train.features, train.y, FeaturePlan.of(usecase).names, usecase.training, 7, threads=2)
    figures = figures_of(test.y, booster.predict(test.features))
    spent = time.perf_counter() - began
    np.save(folder / "features.npy", every.features)
    return {
        **figures, "rows": len(read.events), "features_s": round(built - began, 1), "seconds": round(spent, 1),
        "peak_mb": round(peak_mb(), 1),
    }  # fmt: skip


def figures_of(y: Any, scores: Any) -> dict[str, float | None]:
    """Average precision and the area under the ROC curve."""
    return {"average_precision": average_precision(y, scores), "auc_roc": auc_roc(y, scores)}


def peak_mb() -> float:
    """Most resident memory that this process ever had, in 1e6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def main() -> None:
    """Run with the arguments of the command line."""
    data, folder = map(Path, sys.argv[1:])
    (folder / "whole.json").write_text(json.dumps(whole(data, folder)))


if __name__ == "__main__":
    main()
