"""What was answered in one window, read part by part: its drift, and a sample of its rows.

A million answers take 93 MB so, instead of 886 MB; the sample keeps the rows with the smallest seeded numbers, so it
does not depend on how the rows were cut.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.usecase.definition import UseCase
from flows.steps.fitting.contributions import EXPLAINED_ROWS
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow
from monitoring.drift.feature_drift import DriftReport, report_window
from monitoring.drift.window_counts import WindowCounter
from monitoring.store.predictions.answered_batches import CHUNK, read_answered_parts

if TYPE_CHECKING:
    from bentos.model.booster import Matrix
    from bentos.model.scoring_model import ScoringModel
    from monitoring.store import Store


log = logging.getLogger("incumbent.flows")


SAMPLE_ROWS: Final = 20_000
"""Rows of a window that its page shows."""


@dataclass(frozen=True, eq=False)
class ServedWindow:
    """One window against a model's reference, read once for everything that is said of it.

    Attributes:
        report: its drift.
        sample: some of its rows, float32 in the order of the model's plan.
        explained: fewer of them, for what the model leans on.
        features: every row by event id where they were asked for, else none.
    """

    report: DriftReport
    sample: Matrix
    explained: Matrix
    features: pd.DataFrame | None = None


@step(
    name="compare a window",
    run_name="compare {window.start:%Y-%m-%d} to {window.end:%Y-%m-%d} of {usecase.name} with the reference",
    tags=("database",),
    retried=True,
)
def measure_window(
    store: Store,
    usecase: UseCase,
    model: ScoringModel,
    window: TimeWindow,
    *,
    rows: int = SAMPLE_ROWS,
    chunk: int = CHUNK,
    with_features: bool = False,
) -> ServedWindow:
    """Count a window against the model's reference, ``chunk`` rows at a time, and keep at most ``rows`` of it.

    ``with_features`` keeps every row as well: feature skew compares them one by one.
    """
    counter, sample, frames = WindowCounter(model.profile), RowSample(rows), []
    for part in read_answered_parts(store.database, usecase.name, window, model.plan.names, chunk):
        values = part.features.to_numpy()
        # Another version may have answered some of these events: its scores have another distribution.
        counter.add(part.features, model.score(values).calibrated, usecase.calendar.days_of(part.times))
        sample.add(values)
        if with_features:
            frames.append(part.features.set_index(part.ids))
    report = report_window(counter, usecase.drift, window)
    log.info(
        "read %d answers of %s: %s", report.rows, f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}", report.status
    )
    width = len(model.plan.names)
    features = pd.concat(frames) if frames else pd.DataFrame(columns=list(model.plan.names), dtype="float32")
    return ServedWindow(
        report, sample.rows(width), sample.rows(width, EXPLAINED_ROWS), features if with_features else None
    )


class RowSample:
    """At most ``size`` of all rows added, each as likely as any other, in the order of their arrival.

    The same seed and rows give the same sample, however the rows are cut into parts.

    Args:
        size: rows that are kept.
        seed: of the draw.
    """

    def __init__(self, size: int, seed: int = 7) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._keys: NDArray[np.float64] = np.empty(0)
        self._rows: NDArray[np.float32] | None = None

    def add(self, rows: NDArray[np.float32]) -> None:
        """Consider some rows."""
        self._keys = np.concatenate([self._keys, self._random.random(len(rows))])
        all_rows = rows if self._rows is None else np.concatenate([self._rows, rows])
        chosen = self._smallest(self._size)
        self._keys, self._rows = self._keys[chosen], np.array(all_rows[chosen], dtype=np.float32)  # the part may go

    def rows(self, width: int, size: int | None = None) -> NDArray[np.float32]:
        """The sample, or what it would be with a smaller ``size``; ``width`` columns where nothing was added."""
        if self._rows is None:
            return np.empty((0, width), dtype=np.float32)
        return self._rows if size is None else self._rows[self._smallest(size)]

    def _smallest(self, size: int) -> NDArray[np.intp] | slice:
        """Those with the smallest keys stay, so nothing depends on how many rows there will be."""
        if len(self._keys) <= size:
            return slice(None)
        return np.sort(np.argpartition(self._keys, size)[:size])
