"""What was answered in one window, read part by part: its drift, and a sample of its rows.

A million answers take 93 MB so, instead of 886 MB; the sample keeps the rows with the smallest seeded numbers, so it
does not depend on how the rows were cut.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.usecase.definition import UseCase
from flows.steps.fitting.contributions import EXPLAINED_ROWS
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow
from monitoring.drift.feature_drift import DriftReport, report_window
from monitoring.drift.window_counts import WindowCounter
from monitoring.store.predictions.answered_batches import CHUNK, AnsweredPart, read_answered_parts

if TYPE_CHECKING:
    from bentos.model.booster import Matrix
    from bentos.model.scoring_model import ScoringModel
    from monitoring.store import Store


log = logging.getLogger("incumbent.flows")


@dataclass(frozen=True, eq=False)
class WindowDrift:
    """One window against a model's reference.

    Attributes:
        report: its drift.
        sample: some of its rows, float32 in the order of the model's plan.
    """

    report: DriftReport
    sample: Matrix


def read_parts(
    store: Store, usecase: UseCase, model: ScoringModel, window: TimeWindow, chunk: int = CHUNK
) -> Iterator[AnsweredPart]:
    """The answered events of a window with the features of one model as logged."""
    return read_answered_parts(store.database, usecase.name, window, model.plan.names, chunk)


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
    rows: int = EXPLAINED_ROWS,
    chunk: int = CHUNK,
) -> WindowDrift:
    """Count a window against the model's reference, ``chunk`` rows at a time, and keep at most ``rows`` of it."""
    counter, sample = WindowCounter(model.profile), RowSample(rows)
    for part in read_parts(store, usecase, model, window, chunk):
        values = part.features.to_numpy()
        # Another version may have answered some of these events: its scores have another distribution.
        counter.add(part.features, model.score(values).calibrated, usecase.calendar.days_of(part.times))
        sample.add(values)
    report = report_window(counter, usecase.drift, window)
    days = f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}"
    log.info("read %d answers of %s: %s", report.rows, days, report.status)
    return WindowDrift(report, sample.rows(len(model.plan.names)))


def sample_window(store: Store, usecase: UseCase, model: ScoringModel, window: TimeWindow, rows: int) -> pd.DataFrame:
    """At most ``rows`` of a window's feature rows."""
    sample = RowSample(rows)
    for part in read_parts(store, usecase, model, window):
        sample.add(part.features.to_numpy())
    return pd.DataFrame(sample.rows(len(model.plan.names)), columns=list(model.plan.names))


def features_by_event(store: Store, usecase: UseCase, model: ScoringModel, window: TimeWindow) -> pd.DataFrame:
    """Every feature row of a window, by event id."""
    frames = [part.features.set_index(part.ids) for part in read_parts(store, usecase, model, window)]
    return pd.concat(frames) if frames else pd.DataFrame(columns=list(model.plan.names), dtype="float32")


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
        keys = np.concatenate([self._keys, self._random.random(len(rows))])
        all_rows = rows if self._rows is None else np.concatenate([self._rows, rows])
        if len(keys) > self._size:
            # Those with the smallest keys stay, so nothing depends on how many rows there will be.
            sample_index = np.sort(np.argpartition(keys, self._size)[: self._size])
            keys, all_rows = keys[sample_index], all_rows[sample_index]
        self._keys, self._rows = keys, np.array(all_rows, dtype=np.float32)  # a copy: the part may go

    def rows(self, width: int) -> NDArray[np.float32]:
        """The sample; ``width`` columns where nothing was added."""
        return np.empty((0, width), dtype=np.float32) if self._rows is None else self._rows
