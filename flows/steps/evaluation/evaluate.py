"""Measure a model, a baseline and whoever is in office on the same rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.features.plan import FeaturePlan
from bentos.model.calibration import Floats
from bentos.model.scoring_model import ScoringModel
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from bentos.windows.memory import MemoryWindows
from flows.errors import EvaluationError
from flows.steps.data.folds import Fold
from flows.steps.fitting.baseline import baseline_scores
from flows.steps.fitting.fit import require_both_classes
from monitoring.core.calendar import TimeWindow
from monitoring.core.verdict import Evidence
from monitoring.performance.fairness import FairnessReport, assess
from monitoring.performance.measure import Performance, measure
from monitoring.performance.profit import measure_profit

LATENCY_CONTEXT = 20_000
LATENCY_EVENTS = 500
LATENCY_PASSES = 3
_WARM_UP = 50


@dataclass(frozen=True, eq=False)
class Judged:
    """A scored fold: rows, calibrated scores and decisions."""

    fold: Fold
    scores: Floats
    flags: NDArray[np.bool_]

    def performance(self, usecase: UseCase, seed: int) -> Performance:
        """Every figure with its interval (:func:`monitoring.performance.measure.measure`)."""
        rows, profit, weight = self.fold.rows, usecase.gates.profit, self.fold.weight
        found = measure(
            self.fold.y,
            self.scores,
            self.flags,
            self.fold.prices(usecase),
            days=rows["day"],
            entities=rows.get("entity"),
            top_k=usecase.evaluation.top_k,
            seed=seed,
            weight=weight,
        )
        if profit is None:
            return found
        offer = self.fold.offer(profit)
        earned = measure_profit(self.fold.y, self.flags, offer, days=rows["day"], seed=seed, weight=weight)
        return replace(found, metrics={**found.metrics, **earned})

    def fairness(self, usecase: UseCase) -> FairnessReport:
        """The decisions by sensitive group and slice (:func:`monitoring.performance.fairness.assess`)."""
        return assess(self.fold.groups, self.fold.y, self.flags, usecase.fairness, weight=self.fold.weight)


def scored(model: ScoringModel, fold: Fold) -> Judged:
    """The model's calibrated scores and decisions on a fold of its own features."""
    said = model.score(fold.features)
    return Judged(fold, said.calibrated, model.decide(said.calibrated, said.cuts))


def candidate_evidence(
    usecase: UseCase, model: ScoringModel, label: str, train: Fold, test: Fold, matured_rows: int, latency_ms: float
) -> Evidence:
    """What is known of a new model: its figures on ``test``, those of the baseline, latency and size.

    Args:
        usecase: policies.
        model: the evaluated twin.
        label: how the evidence names it.
        train: rows of the baseline, which are the twin's.
        test: rows later than everything the twin was made of.
        matured_rows: rows with matured labels in all folds.
        latency_ms: from :func:`single_event_p99_ms`.

    Raises:
        OneClass: the test fold holds one class only.
        EvaluationError: the test window does not lie after the training data.
    """
    require_both_classes(test.y, "test")
    trained_until = datetime.fromisoformat(model.metadata.calibration_end or model.metadata.training_end)
    if test.window.start < trained_until:
        raise EvaluationError(f"the test window starts at {test.window.start}, training ends at {trained_until}")
    seed = model.metadata.seed
    baseline = baseline_scores(train, test)
    # The baseline has no threshold of its own: it may flag as many rows as the model does.
    flagged = scored(model, test)
    simple = Judged(test, baseline, top(baseline, flagged.flags, test.weight))
    found = flagged.performance(usecase, seed)
    return Evidence(
        model=label,
        metrics=found.metrics,
        rows=matured_rows,
        positives=found.positives,
        window=test.window,
        baseline=simple.performance(usecase, seed).metrics,
        latency_p99_ms=latency_ms,
        model_mb=sum(len(data) for data in model.files.values()) / 1e6,
        trained_until=trained_until,
        fairness=flagged.fairness(usecase).checks(usecase.fairness),
    )


def incumbent_evidence(usecase: UseCase, label: str, judged: Judged, window: TimeWindow, seed: int) -> Evidence:
    """The figures of whoever is in office on the same rows."""
    found = judged.performance(usecase, seed)
    return Evidence(label, found.metrics, rows=found.rows, positives=found.positives, window=window)


def external_judged(usecase: UseCase, fold: Fold) -> Judged:
    """The external incumbent's score column against its declared threshold."""
    assert usecase.incumbent is not None
    scores = fold.rows["external"].to_numpy(dtype=np.float64)
    return Judged(fold, scores, scores >= usecase.incumbent.threshold)


def single_event_p99_ms(
    usecase: UseCase,
    model: ScoringModel,
    events: pd.DataFrame,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """99th percentile of one event's way through windows, features, booster and threshold, in milliseconds.

    The windows hold up to 20,000 earlier events, without labels: a look-up costs the same without them. Each event is
    timed in three passes and its shortest time counts. A dear event is dear in all of them; a pause by another process
    rarely meets the same event thrice, and the gate shall not refuse a model for its neighbours.

    Args:
        usecase: names the columns.
        model: the model.
        events: an events frame ordered by time; the last 500 are timed.
        clock: seconds, ever rising.
    """
    timed = min(LATENCY_EVENTS, len(events) // 2)
    warm = events.iloc[max(0, len(events) - timed - LATENCY_CONTEXT) : len(events) - timed]
    schema = EventSchema.of(usecase)
    state = MemoryWindows(model.plan.specs)
    bodies = schema.bodies(events.iloc[len(events) - timed :])
    model.plan.add((schema.decode(body) for body in schema.bodies(warm)), state)
    model.warm_up()

    def seconds(body: bytes) -> float:
        began = clock()
        event = schema.decode(body)
        said = model.score(model.plan.row(event, state)[None, :])
        model.decide(said.calibrated, said.cuts)
        return clock() - began

    passes = np.array([[seconds(body) for body in bodies] for _ in range(LATENCY_PASSES)])
    return float(np.percentile(passes.min(axis=0)[min(_WARM_UP, timed // 2) :], 99.0) * 1000.0)


def constant_features(fold: Fold, plan: FeaturePlan) -> tuple[str, ...]:
    """A note for each feature that has one value, or none, in every row: it teaches nothing."""
    first = fold.features[:1]
    same = ((fold.features == first) | (np.isnan(fold.features) & np.isnan(first))).all(axis=0)
    flat = [name for name, constant in zip(plan.names, same, strict=True) if constant]
    return tuple(f"feature {name} is constant in the {fold.name} fold" for name in flat)


def top(scores: Floats, flagged: NDArray[np.bool_], weight: Floats | None = None) -> NDArray[np.bool_]:
    """The rows of the highest scores, as many as are flagged; with weights, at most as many as those stand for."""
    each = np.ones(len(scores)) if weight is None else weight
    order = np.argsort(-scores, kind="stable")
    flags = np.zeros(len(scores), dtype=np.bool_)
    flags[order] = np.cumsum(each[order]) <= each[flagged].sum() * (1.0 + 1e-12)
    return flags
