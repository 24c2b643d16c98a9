"""Stratified k-fold: figures of data without a time, from scores that no row's own label touched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bentos.model.calibration import Floats
from bentos.model.scoring_model import ScoringModel
from bentos.usecase.definition import TrainingPolicy, UseCase
from flows.errors import TooFewRows
from flows.steps.data.folds import Fold
from flows.steps.evaluation.evaluate import ScoredFold, flag_top
from flows.steps.fitting.baseline import baseline_scores
from flows.steps.fitting.build import fit_threshold
from flows.steps.fitting.calibrate import fit_by_policy
from flows.steps.fitting.fit import fit_booster, require_both_classes
from monitoring.core.verdict import Evidence


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Every row scored by a model that was fitted on the other folds.

    Attributes:
        judged: calibrated scores and decisions; calibrator and threshold too are those of other folds.
        baseline: scores of the logistic regression on the same folds.
    """

    judged: ScoredFold
    baseline: Floats


def cross_fit(usecase: UseCase, feature_names: tuple[str, ...], rows: Fold, seed: int) -> CrossFit:
    """Fit and score ``[evaluation] folds`` times.

    Args:
        usecase: settings of the booster, calibration, costs.
        feature_names: of the features.
        rows: every labelled row.
        seed: of the folds and the boosters.

    Raises:
        OneClass: all labels are the same.
        TooFewRows: a class has fewer rows than there are folds.
    """
    fold_index = assign_folds(rows.y, usecase.evaluation.folds, seed)
    raw, baseline = np.empty(len(rows), dtype=np.float32), np.empty(len(rows), dtype=np.float64)
    for fold in range(usecase.evaluation.folds):
        train, held_out = select_rows(rows, fold_index != fold), select_rows(rows, fold_index == fold)
        booster = fit_booster(train.features, train.y, feature_names, usecase.training, seed, weight=train.weight)
        raw[fold_index == fold] = booster.predict(held_out.features)
        baseline[fold_index == fold] = baseline_scores(train, held_out)
    scores = np.empty(len(rows), dtype=np.float64)
    for fold in range(usecase.evaluation.folds):
        rest = fold_index != fold
        weight = None if rows.weight is None else rows.weight[rest]
        scores[~rest] = fit_by_policy(raw[rest], rows.y[rest], usecase.training, weight).apply(raw[~rest])
    flags = np.empty(len(rows), dtype=np.bool_)
    for fold in range(usecase.evaluation.folds):
        rest = select_rows(rows, fold_index != fold)
        threshold = fit_threshold(usecase, rest, scores[fold_index != fold], seed)
        amounts = (
            None
            if threshold.amount is None
            else rows.features[fold_index == fold][:, list(feature_names).index(threshold.amount)]
        )
        flags[fold_index == fold] = threshold.flags(
            scores[fold_index == fold], None if amounts is None else threshold.cuts(amounts)
        )
    return CrossFit(ScoredFold(rows, scores, flags), baseline)


def cross_fit_evidence(usecase: UseCase, model: ScoringModel, label: str, rows: Fold, latency_ms: float) -> Evidence:
    """What is known of a model's recipe: out-of-fold figures of all rows, its latency and size.

    Raises:
        OneClass, TooFewRows: as :func:`cross_fit`.
    """
    seed = model.metadata.seed
    cross_fitted = cross_fit(_own_settings(usecase, model), model.plan.names, rows, seed)
    flags = flag_top(cross_fitted.baseline, cross_fitted.judged.flags, rows.weight)
    performance = cross_fitted.judged.performance(usecase, seed)
    return Evidence(
        model=label,
        metrics=performance.metrics,
        rows=len(rows),
        positives=performance.positives,
        window=rows.window,
        baseline=ScoredFold(rows, cross_fitted.baseline, flags).performance(usecase, seed).metrics,
        latency_p99_ms=latency_ms,
        model_mb=sum(len(data) for data in model.files.values()) / 1e6,
        fairness=cross_fitted.judged.fairness(usecase).checks(usecase.fairness),
    )


def _own_settings(usecase: UseCase, model: ScoringModel) -> UseCase:
    """The settings that the model was fitted with: a search may have found others than the file's."""
    parameters = {
        name: value for name, value in model.metadata.parameters.items() if name in TrainingPolicy.model_fields
    }
    return usecase.model_copy(update={"training": TrainingPolicy(**parameters)}) if parameters else usecase


def assign_folds(y: NDArray[np.int8], folds: int, seed: int) -> NDArray[np.intp]:
    """The fold of each row, 0 to ``folds`` - 1; every fold has the same share of positives.

    Raises:
        OneClass: all labels are the same.
        TooFewRows: a class has fewer rows than there are folds.
    """
    require_both_classes(y, "cross-validation")
    positives = int(y.sum())
    if min(positives, len(y) - positives) < folds:
        raise TooFewRows(f"{positives} positives of {len(y)} rows are too few for {folds} folds")
    fold_index = np.empty(len(y), dtype=np.intp)
    rng = np.random.default_rng(seed)
    # One class after the other around the folds, so that both classes and all rows are spread evenly.
    rows = np.concatenate([rng.permutation(np.flatnonzero(y == value)) for value in (0, 1)])
    fold_index[rows] = np.arange(len(rows)) % folds
    return fold_index


def select_rows(rows: Fold, inside: NDArray[np.bool_]) -> Fold:
    """Some rows of a fold."""
    return Fold(rows.name, rows.window, rows.features[inside], rows.rows[inside].reset_index(drop=True))
