"""Labelled rows with features, kept by part: long folds stay on the workers, short ones come home."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.features.plan import FeaturePlan
from bentos.usecase.definition import UseCase
from flows.distributed.row_groups import read_frame, write_frame
from flows.distributed.shuffle import Shuffle
from flows.distributed.slices import final_labels_of
from flows.errors import TooFewRows
from flows.steps.data.folds import Fold, fold_rows, usable_rows
from monitoring.core.calendar import TimeWindow
from monitoring.stats.label_weights import WEIGHT

FEATURE = "feature."
"""Prefix of the columns that hold features, numbered in the order of the union of plans."""
LABEL = "label.y"
"""Column of the label beside features, whose names hold no dot."""
STANDS_FOR = "label.weight"
"""Column of how many events a row stands for, where the use case blocks what it flags."""


@dataclass(frozen=True)
class PartRows:
    """Rows of one part in each window that was asked about: how many, and how many positives.

    Attributes:
        span: the first and the last time of its rows; none without rows.
        weighted: whether its rows say how many events they stand for.
    """

    part: int
    rows: tuple[int, ...]
    positives: tuple[int, ...]
    span: tuple[datetime, datetime] | None
    weighted: bool = False

    def overlaps(self, window: TimeWindow) -> bool:
        """Whether any of its rows may lie in a window."""
        return self.span is not None and self.span[0] < window.end and self.span[1] >= window.start


def keep_rows(
    shuffle: Shuffle, usecase: UseCase, inside: TimeWindow, windows: Sequence[TimeWindow], part: int
) -> PartRows:
    """Put features and labels of one part side by side and keep the labelled rows; runs on a worker."""
    events, features = shuffle.features(part)
    rows = fold_rows(usecase, events, final_labels_of(shuffle.folder, part))
    times = rows["event_time"]
    mask = (usable_rows(rows) & (times >= inside.start) & (times < inside.end)).to_numpy()
    matrix = features.to_numpy(dtype=np.float32)[mask]
    rows = rows[mask].reset_index(drop=True).astype({"y": np.int8})
    columns = pd.DataFrame(matrix, columns=[f"{FEATURE}{n}" for n in range(matrix.shape[1])])
    write_frame(_path(shuffle.folder, part), pd.concat([rows, columns], axis=1))
    masks = [_within(rows, window) for window in windows]
    y = rows["y"].to_numpy()
    times = rows["event_time"]
    span = (times.min().to_pydatetime(), times.max().to_pydatetime()) if len(rows) else None
    counts = tuple(int(w.sum()) for w in masks), tuple(int(y[w].sum()) for w in masks)
    return PartRows(part, *counts, span, WEIGHT in rows)


def read_fold(
    name: str, folder: Path, parts: Sequence[int], window: TimeWindow, positions: Any, share: float = 1.0, seed: int = 0
) -> Fold:
    """The rows of a window with the features at ``positions``, or a seeded share of them.

    Raises:
        TooFewRows: no part may hold a row of it.
    """
    if not parts:
        raise TooFewRows(f"the {name} fold has no labelled row; read another window")
    matrices, frames = [], []
    for part in parts:
        frame = read_frame(_path(folder, part))
        mask = _within(frame, window)
        if share < 1.0:
            mask &= np.random.default_rng([seed, part]).random(len(frame)) < share
        frame = frame[mask]
        matrices.append(frame[[f"{FEATURE}{n}" for n in positions]].to_numpy(dtype=np.float32))
        frames.append(frame.loc[:, [c for c in frame if not str(c).startswith(FEATURE)]])
    return Fold(name, window, np.ascontiguousarray(np.concatenate(matrices)), pd.concat(frames, ignore_index=True))


def training_part(
    folder: Path, window: TimeWindow, positions: Any, names: Sequence[str], cuts: Sequence[Any] | None, weighted: bool,
    part: int,
) -> pd.DataFrame:  # fmt: skip
    """What one part gives to the booster: features under their names, ``label.y``, where asked for ``label.weight``.

    It runs on a worker.

    With ``cuts`` each value becomes the lower edge of its bin, so that every worker finds the same bins.
    """
    columns = [f"{FEATURE}{n}" for n in positions]
    extra = [WEIGHT] if weighted else []
    frame = read_frame(_path(folder, part), ["event_time", "y", *extra, *columns])
    frame = frame[_within(frame, window)]
    matrix = frame[columns].to_numpy(dtype=np.float32)
    for column, edges in enumerate(cuts or ()):
        present = ~np.isnan(matrix[:, column])
        bins = np.searchsorted(edges, matrix[present, column], side="right") - 1
        matrix[present, column] = edges[np.maximum(bins, 0)]
    rows = pd.DataFrame(matrix, columns=list(names))
    rows = rows.assign(**{LABEL: frame["y"].to_numpy(dtype=np.float32)})
    return rows.assign(**{STANDS_FOR: frame[WEIGHT].to_numpy(dtype=np.float32)}) if weighted else rows


def column_cuts(
    folder: Path, window: TimeWindow, parts: Sequence[int], max_bin: int, weighted: bool, position: int
) -> Any:
    """The edges of one feature's bins over all training rows, as one process finds them; runs on a worker."""
    import xgboost

    columns = [f"{FEATURE}{position}", *([WEIGHT] if weighted else [])]
    frames = []
    for part in parts:
        frame = read_frame(_path(folder, part), ["event_time", *columns])
        frames.append(frame.loc[_within(frame, window), columns])
    rows = pd.concat(frames, ignore_index=True)
    column = rows[[columns[0]]].to_numpy(dtype=np.float32)
    weight = rows[WEIGHT].to_numpy() if weighted else None
    if np.isnan(column).all():
        return np.zeros(1, dtype=np.float32)
    return xgboost.QuantileDMatrix(column, weight=weight, max_bin=max_bin, nthread=1).get_quantile_cut()[1]


def positions_of(plan: FeaturePlan, union: FeaturePlan) -> tuple[int, ...]:
    """Where a plan's features stand among those that were kept."""
    return tuple(plan.positions_in(union).tolist())


def _path(folder: Path, part: int) -> Path:
    return folder / "rows" / f"{part:06d}.parquet"


def _within(rows: pd.DataFrame, window: TimeWindow) -> Any:
    times = rows["event_time"]
    return ((times >= window.start) & (times < window.end)).to_numpy()
