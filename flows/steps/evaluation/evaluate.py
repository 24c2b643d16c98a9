"""Measure a model, a baseline and whoever is active on the same rows."""

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
from monitoring.performance.fairness import FairnessReport, assess_fairness
from monitoring.performance.measure import Performance, RowGroups, measure
from monitoring.performance.profit import measure_profit
from monitoring.stats.bootstrap import Bootstrap

LATENCY_CONTEXT = 20_000
LATENCY_EVENTS = 500
LATENCY_PASSES = 3
_WARM_UP = 50


@dataclass(frozen=True, eq=False)
class ScoredFold:
    """A scored fold: rows, calibrated scores and decisions."""

    fold: Fold
    scores: Floats
    flags: NDArray[np.bool_]

    def performance(self, usecase: UseCase, seed: int) -> Performance:
        """Every figure with its interval (:func:`monitoring.performance.measure.measure`)."""
        rows, profit, weight = self.fold.rows, usecase.gates.profit, self.fold.weight
        result = measure(
            self.fold.y,
            self.scores,
            self.flags,
            self.fold.prices(usecase),
            groups=RowGroups(rows["day"], rows.get("entity"), usecase.evaluation.top_k),
            weight=weight,
            bootstrap=Bootstrap(seed=seed),
        )
        if profit is None:
            return result
        offer = self.fold.offer(profit)
        profit_metrics = measure_profit(
            self.fold.y, self.flags, offer, days=rows["day"], weight=weight, bootstrap=Bootstrap(seed=seed)
        )
        return replace(result, metrics={**result.metrics, **profit_metrics})

    def fairness(self, usecase: UseCase) -> FairnessReport:
        """The decisions by sensitive group and slice (:func:`monitoring.performance.fairness.assess_fairness`)."""
        return assess_fairness(self.fold.groups, self.fold.y, self.flags, usecase.fairness, weight=self.fold.weight)


def score_fold(model: ScoringModel, fold: Fold) -> ScoredFold:
    """The model's calibrated scores and decisions on a fold of its own features."""
    scores = model.score(fold.features)
    return ScoredFold(fold, scores.calibrated, model.decide(scores.calibrated, scores.cuts))


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
    scored_test = score_fold(model, test)
    scored_baseline = ScoredFold(test, baseline, flag_top(baseline, scored_test.flags, test.weight))
    performance = scored_test.performance(usecase, seed)
    return Evidence(
        model=label,
        metrics=performance.metrics,
        rows=matured_rows,
        positives=performance.positives,
        window=test.window,
        baseline=scored_baseline.performance(usecase, seed).metrics,
        latency_p99_ms=latency_ms,
        model_mb=sum(len(data) for data in model.files.values()) / 1e6,
        trained_until=trained_until,
        fairness=scored_test.fairness(usecase).checks(usecase.fairness),
    )


def incumbent_evidence(
    usecase: UseCase, label: str, scored_fold: ScoredFold, window: TimeWindow, seed: int
) -> Evidence:
    """The figures of whoever is active on the same rows."""
    performance = scored_fold.performance(usecase, seed)
    return Evidence(label, performance.metrics, rows=performance.rows, positives=performance.positives, window=window)


def score_external(usecase: UseCase, fold: Fold) -> ScoredFold:
    """The external incumbent's score column against its declared threshold."""
    assert usecase.incumbent is not None
    scores = fold.rows["external"].to_numpy(dtype=np.float64)
    return ScoredFold(fold, scores, scores >= usecase.incumbent.threshold)


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
    event_count = min(LATENCY_EVENTS, len(events) // 2)
    context = events.iloc[max(0, len(events) - event_count - LATENCY_CONTEXT) : len(events) - event_count]
    schema = EventSchema.of(usecase)
    state = MemoryWindows(model.plan.specs)
    bodies = schema.bodies(events.iloc[len(events) - event_count :])
    model.plan.add((schema.decode(body) for body in schema.bodies(context)), state)
    model.warm_up()

    def seconds(body: bytes) -> float:
        started = clock()
        event = schema.decode(body)
        scores = model.score(model.plan.row(event, state)[None, :])
        model.decide(scores.calibrated, scores.cuts)
        return clock() - started

    timings = np.array([[seconds(body) for body in bodies] for _ in range(LATENCY_PASSES)])
    return float(np.percentile(timings.min(axis=0)[min(_WARM_UP, event_count // 2) :], 99.0) * 1000.0)


def constant_feature_notes(fold: Fold, plan: FeaturePlan) -> tuple[str, ...]:
    """A note for each feature that has one value, or none, in every row: it teaches nothing."""
    first = fold.features[:1]
    is_constant = ((fold.features == first) | (np.isnan(fold.features) & np.isnan(first))).all(axis=0)
    names = [name for name, constant in zip(plan.names, is_constant, strict=True) if constant]
    return tuple(f"feature {name} is constant in the {fold.name} fold" for name in names)


def flag_top(scores: Floats, flagged: NDArray[np.bool_], weight: Floats | None = None) -> NDArray[np.bool_]:
    """The rows of the highest scores, as many as are flagged; with weights, at most as many as those stand for."""
    weights = np.ones(len(scores)) if weight is None else weight
    order = np.argsort(-scores, kind="stable")
    flags = np.zeros(len(scores), dtype=np.bool_)
    flags[order] = np.cumsum(weights[order]) <= weights[flagged].sum() * (1.0 + 1e-12)
    return flags
