"""What was answered in one window, read part by part: its drift, and a sample of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.steps.attribution import ROWS
from monitoring.core.calendar import TimeWindow
from monitoring.drift.feature_drift import DriftReport, report_of
from monitoring.drift.window_counts import WindowCounter
from monitoring.sampling import RowSample
from monitoring.store.predictions.answered_batches import CHUNK, AnsweredPart, answered_parts

if TYPE_CHECKING:
    from bentos.model.contract import Matrix
    from bentos.model.scoring_model import ScoringModel
    from monitoring.store import Store


@dataclass(frozen=True, eq=False)
class Looked:
    """One window against a model's reference.

    Attributes:
        report: its drift.
        sample: some of its rows, float32 in the order of the model's plan.
    """

    report: DriftReport
    sample: Matrix


def parts_of(
    store: Store, usecase: UseCase, model: ScoringModel, window: TimeWindow, chunk: int = CHUNK
) -> Iterator[AnsweredPart]:
    """The answered events of a window with the features of one model as logged."""
    return answered_parts(store.database, usecase.name, window, model.plan.names, chunk)


def look_at(
    store: Store, usecase: UseCase, model: ScoringModel, window: TimeWindow, rows: int = ROWS, chunk: int = CHUNK
) -> Looked:
    """Count a window against the model's reference, ``chunk`` rows at a time, and keep at most ``rows`` of it."""
    counter, sample = WindowCounter(model.profile), RowSample(rows)
    for part in parts_of(store, usecase, model, window, chunk):
        values = part.features.to_numpy()
        # Another version may have answered some of these events: its scores have another distribution.
        counter.add(part.features, model.score(values).calibrated, usecase.calendar.days_of(part.times))
        sample.add(values)
    return Looked(report_of(counter, usecase.drift, window), sample.rows(len(model.plan.names)))


def sampled(store: Store, usecase: UseCase, model: ScoringModel, window: TimeWindow, rows: int) -> pd.DataFrame:
    """At most ``rows`` of a window's feature rows."""
    sample = RowSample(rows)
    for part in parts_of(store, usecase, model, window):
        sample.add(part.features.to_numpy())
    return pd.DataFrame(sample.rows(len(model.plan.names)), columns=list(model.plan.names))


def by_event(store: Store, usecase: UseCase, model: ScoringModel, window: TimeWindow) -> pd.DataFrame:
    """Every feature row of a window, by event id."""
    found = [part.features.set_index(part.ids) for part in parts_of(store, usecase, model, window)]
    return pd.concat(found) if found else pd.DataFrame(columns=list(model.plan.names), dtype="float32")
