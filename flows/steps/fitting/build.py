"""From folds to a :class:`~bentos.model.scoring_model.ScoringModel`: fit, calibrate, choose the threshold, freeze the
reference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.features.plan import FeaturePlan
from bentos.model.calibration import Floats, Threshold
from bentos.model.scoring_model import ModelMetadata, ScoringModel, golden_rows
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import CalendarFeature, ColumnFeature, UseCase, amount_feature
from flows.steps.data.folds import Fold
from flows.steps.data.split import business_time_before
from flows.steps.fitting.calibrate import fit_by_policy
from flows.steps.fitting.contributions import mean_contributions
from flows.steps.fitting.fit import fit_booster, require_both_classes
from monitoring.core.calendar import TimeWindow
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.performance.cost import expected_gain
from monitoring.performance.cost_curve import CostCurve
from monitoring.performance.thresholds import choose_least_saving, choose_threshold, cost_curve
from monitoring.stats.bootstrap import Bootstrap

if TYPE_CHECKING:
    from bentos.model.booster import Booster

WEEK = timedelta(days=7)
CURVE_POINTS = 98
"""Observed thresholds of a version's curve; with the one that flags nothing and the one in use at most a hundred."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a model is made of, apart from its rows.

    Attributes:
        usecase: policies.
        plan: features, with categories learnt.
        seed: of everything random.
    """

    usecase: UseCase
    plan: FeaturePlan
    seed: int


@dataclass(frozen=True, eq=False)
class FittedBooster:
    """A booster, and the rows that it was fitted on."""

    booster: Booster
    window: TimeWindow
    rows: int
    positives: int


def build_model(recipe: Recipe, fit: Fold, calibration: Fold, reference: Fold, metadata: ModelMetadata) -> ScoringModel:
    """Fit a booster on the rows of ``fit`` and make a model of it: see :func:`complete_model`."""
    booster = fit_booster(
        fit.features, fit.y, recipe.plan.names, recipe.usecase.training, recipe.seed, weight=fit.weight
    )
    fitted_booster = FittedBooster(booster, fit.window, len(fit), fit.positives)
    return complete_model(recipe, fitted_booster, calibration, reference, metadata)


def complete_model(
    recipe: Recipe, fitted_booster: FittedBooster, calibration: Fold, reference: Fold, metadata: ModelMetadata
) -> ScoringModel:
    """Make a model of a fitted booster.

    Args:
        recipe: policies, features, seed.
        fitted_booster: the booster, wherever it was fitted.
        calibration: later rows; the first half by time fits the calibrator, the second the threshold. Without
            a calibrator all of them choose the threshold.
        reference: rows whose features are the frozen reference; its scores are those of ``calibration``.
        metadata: lineage; windows, counts and parameters are filled in here.

    Raises:
        TooFewRows: a fold has no row.
        OneClass: a fold holds one class only.
    """
    usecase, policy, booster = recipe.usecase, recipe.usecase.training, fitted_booster.booster
    # Without a calibrator no half is set aside for it.
    first, second = (calibration, calibration) if policy.calibration == "none" else calibration.halves()
    require_both_classes(first.y, first.name)
    calibrator = fit_by_policy(booster.predict(first.features), first.y, policy, first.weight)
    scores = calibrator.apply(booster.predict(calibration.features))
    later = calibrator.apply(booster.predict(second.features))
    threshold = fit_threshold(usecase, second, later, recipe.seed)
    return ScoringModel(
        booster=booster,
        plan=recipe.plan,
        calibrator=calibrator,
        threshold=threshold,
        cost_curve=fit_cost_curve(usecase, second, later, threshold),
        profile=freeze_reference(recipe, reference, calibration, scores, booster),
        schema_fingerprint=EventSchema.of(usecase).fingerprint,
        golden=golden_rows(booster, calibrator, second.features),
        metadata=_complete_metadata(metadata, recipe, fitted_booster, calibration),
    )


def reference_window(usecase: UseCase, matured: TimeWindow) -> TimeWindow:
    """The newest part of the matured rows: as long as the test fold, at least a week for every weekday."""
    start = business_time_before(usecase.calendar, matured.end, max(usecase.split.test, WEEK))
    return TimeWindow(max(start, matured.start), matured.end)


def freeze_reference(
    recipe: Recipe, reference: Fold, calibration: Fold, scores: Floats, booster: Booster
) -> ReferenceProfile:
    """Features of ``reference``, scores of ``calibration``: the booster was not fitted on the latter."""
    definitions = recipe.usecase.features
    types = {column.name: column.type for column in recipe.usecase.columns}
    frame = pd.DataFrame(reference.features, columns=list(recipe.plan.names))
    kinds = {
        "calendar_features": [f.name for f in definitions if isinstance(f, CalendarFeature)],
        "categorical_features": [
            f.name for f in definitions if isinstance(f, ColumnFeature) and types[f.column] == "category"
        ],
    }
    policy = recipe.usecase.drift
    days, score_days = reference.rows["day"], calibration.rows["day"]
    importance = mean_contributions(booster, reference.features, recipe.seed)
    return ReferenceProfile.fit(
        frame, scores, policy, days=days, score_days=score_days, labels=reference.y, importance=importance, **kinds
    )


def fit_threshold(usecase: UseCase, fold: Fold, scores: Floats, seed: int) -> Threshold:
    """The cheapest threshold under the capacity, with its bootstrap interval; by the amount where policy says so."""
    days: NDArray[np.generic] = fold.rows["day"].to_numpy()
    amount = amount_feature(usecase)
    if amount is None:
        choice = choose_threshold(
            scores,
            days,
            fold.prices(usecase),
            usecase.capacity,
            y=fold.y,
            weight=fold.weight,
            bootstrap=Bootstrap(seed=seed),
        )
    else:
        choice = choose_least_saving(
            scores, days, fold.prices(usecase), usecase.capacity, weight=fold.weight, bootstrap=Bootstrap(seed=seed)
        )
    return Threshold(
        amount=amount,
        value=choice.value,
        low=min(choice.low, choice.value),
        high=max(choice.high, choice.value),
        cost_optimal=choice.uncapped,
        alerts_per_day=usecase.capacity.alerts_per_day,
        false_negative=usecase.cost.false_negative,
        false_positive=usecase.cost.false_positive,
    )


def fit_cost_curve(usecase: UseCase, fold: Fold, scores: Floats, threshold: Threshold) -> CostCurve:
    """What the fold that chose the threshold would have cost at others: part of the version."""
    prices = fold.prices(usecase)
    ranked = scores if threshold.amount is None else expected_gain(scores, prices)
    return cost_curve(fold.y, ranked, prices, points=CURVE_POINTS, threshold_in_use=threshold.value, weight=fold.weight)


def _complete_metadata(
    metadata: ModelMetadata, recipe: Recipe, fitted_booster: FittedBooster, calibration: Fold
) -> ModelMetadata:
    return replace(
        metadata,
        usecase=recipe.usecase.name,
        training_start=fitted_booster.window.start.isoformat(),
        training_end=fitted_booster.window.end.isoformat(),
        calibration_start=calibration.window.start.isoformat(),
        calibration_end=calibration.window.end.isoformat(),
        rows=fitted_booster.rows,
        positives=fitted_booster.positives,
        seed=recipe.seed,
        parameters=recipe.usecase.training.model_dump(mode="json"),
    )
