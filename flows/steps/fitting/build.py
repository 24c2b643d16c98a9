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
from flows.steps.data.split import back
from flows.steps.fitting.calibrate import fit_by_policy
from flows.steps.fitting.contributions import mean_contributions
from flows.steps.fitting.fit import fit_booster, require_both_classes
from monitoring.core.calendar import TimeWindow
from monitoring.drift.reference_profile import ReferenceProfile
from monitoring.performance.cost import expected_gain
from monitoring.performance.cost_curve import CostCurve
from monitoring.performance.thresholds import choose_least_saving, choose_threshold, cost_curve

if TYPE_CHECKING:
    from bentos.model.booster import Booster

WEEK = timedelta(days=7)
CURVE_KEPT = 98
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
class Fitted:
    """A booster, and the rows that it was fitted on."""

    booster: Booster
    window: TimeWindow
    rows: int
    positives: int


def build_model(recipe: Recipe, fit: Fold, calibration: Fold, reference: Fold, about: ModelMetadata) -> ScoringModel:
    """Fit a booster on the rows of ``fit`` and make a model of it: see :func:`complete_model`."""
    booster = fit_booster(
        fit.features, fit.y, recipe.plan.names, recipe.usecase.training, recipe.seed, weight=fit.weight
    )
    fitted = Fitted(booster, fit.window, len(fit), fit.positives)
    return complete_model(recipe, fitted, calibration, reference, about)


def complete_model(
    recipe: Recipe, fitted: Fitted, calibration: Fold, reference: Fold, about: ModelMetadata
) -> ScoringModel:
    """Make a model of a fitted booster.

    Args:
        recipe: policies, features, seed.
        fitted: the booster, wherever it was fitted.
        calibration: later rows; the first half by time fits the calibrator, the second the threshold. Without
            a calibrator all of them choose the threshold.
        reference: rows whose features are the frozen reference; its scores are those of ``calibration``.
        about: lineage; windows, counts and parameters are filled in here.

    Raises:
        TooFewRows: a fold has no row.
        OneClass: a fold holds one class only.
    """
    usecase, policy, booster = recipe.usecase, recipe.usecase.training, fitted.booster
    # Without a calibrator no half is set aside for it.
    first, second = (calibration, calibration) if policy.calibration == "none" else calibration.halves()
    require_both_classes(first.y, first.name)
    calibrator = fit_by_policy(booster.predict(first.features), first.y, policy, first.weight)
    scores = calibrator.apply(booster.predict(calibration.features))
    later = calibrator.apply(booster.predict(second.features))
    cut = choose_cut(usecase, second, later, recipe.seed)
    return ScoringModel(
        booster=booster,
        plan=recipe.plan,
        calibrator=calibrator,
        threshold=cut,
        cost_curve=curve_of(usecase, second, later, cut),
        profile=freeze_reference(recipe, reference, calibration, scores, booster),
        schema_fingerprint=EventSchema.of(usecase).fingerprint,
        golden=golden_rows(booster, calibrator, second.features),
        metadata=_filled(about, recipe, fitted, calibration),
    )


def reference_window(usecase: UseCase, matured: TimeWindow) -> TimeWindow:
    """The newest part of the matured rows: as long as the test fold, at least a week for every weekday."""
    start = back(usecase.calendar, matured.end, max(usecase.split.test, WEEK))
    return TimeWindow(max(start, matured.start), matured.end)


def freeze_reference(
    recipe: Recipe, reference: Fold, calibration: Fold, scores: Floats, booster: Booster
) -> ReferenceProfile:
    """Features of ``reference``, scores of ``calibration``: the booster was not fitted on the latter."""
    declared = recipe.usecase.features
    types = {column.name: column.type for column in recipe.usecase.columns}
    frame = pd.DataFrame(reference.features, columns=list(recipe.plan.names))
    kinds = {
        "calendar_features": [f.name for f in declared if isinstance(f, CalendarFeature)],
        "categorical_features": [
            f.name for f in declared if isinstance(f, ColumnFeature) and types[f.column] == "category"
        ],
    }
    policy = recipe.usecase.drift
    days, score_days = reference.rows["day"], calibration.rows["day"]
    importance = mean_contributions(booster, reference.features, recipe.seed)
    return ReferenceProfile.fit(
        frame, scores, policy, days=days, score_days=score_days, labels=reference.y, importance=importance, **kinds
    )


def choose_cut(usecase: UseCase, fold: Fold, scores: Floats, seed: int) -> Threshold:
    """The cheapest threshold under the capacity, with its bootstrap interval; by the amount where policy says so."""
    days: NDArray[np.generic] = fold.rows["day"].to_numpy()
    amount = amount_feature(usecase)
    if amount is None:
        chosen = choose_threshold(
            scores, days, fold.prices(usecase), usecase.capacity, y=fold.y, seed=seed, weight=fold.weight
        )
    else:
        chosen = choose_least_saving(
            scores, days, fold.prices(usecase), usecase.capacity, seed=seed, weight=fold.weight
        )
    return Threshold(
        amount=amount,
        value=chosen.value,
        low=min(chosen.low, chosen.value),
        high=max(chosen.high, chosen.value),
        cost_optimal=chosen.uncapped,
        alerts_per_day=usecase.capacity.alerts_per_day,
        false_negative=usecase.cost.false_negative,
        false_positive=usecase.cost.false_positive,
    )


def curve_of(usecase: UseCase, fold: Fold, scores: Floats, cut: Threshold) -> CostCurve:
    """What the fold that chose the threshold would have cost at others: part of the version."""
    prices = fold.prices(usecase)
    ranked = scores if cut.amount is None else expected_gain(scores, prices)
    return cost_curve(fold.y, ranked, prices, points=CURVE_KEPT, used=cut.value, weight=fold.weight)


def _filled(about: ModelMetadata, recipe: Recipe, fitted: Fitted, calibration: Fold) -> ModelMetadata:
    return replace(
        about,
        usecase=recipe.usecase.name,
        training_start=fitted.window.start.isoformat(),
        training_end=fitted.window.end.isoformat(),
        calibration_start=calibration.window.start.isoformat(),
        calibration_end=calibration.window.end.isoformat(),
        rows=fitted.rows,
        positives=fitted.positives,
        seed=recipe.seed,
        parameters=recipe.usecase.training.model_dump(mode="json"),
    )
