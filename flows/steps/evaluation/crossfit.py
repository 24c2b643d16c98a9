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
from flows.steps.evaluation.evaluate import Judged, top
from flows.steps.fitting.baseline import baseline_scores
from flows.steps.fitting.build import choose_cut
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

    judged: Judged
    baseline: Floats


def cross_fit(usecase: UseCase, names: tuple[str, ...], rows: Fold, seed: int) -> CrossFit:
    """Fit and score ``[evaluation] folds`` times.

    Args:
        usecase: settings of the booster, calibration, costs.
        names: of the features.
        rows: every labelled row.
        seed: of the folds and the boosters.

    Raises:
        OneClass: all labels are the same.
        TooFewRows: a class has fewer rows than there are folds.
    """
    place = places(rows.y, usecase.evaluation.folds, seed)
    raw, baseline = np.empty(len(rows), dtype=np.float32), np.empty(len(rows), dtype=np.float64)
    for fold in range(usecase.evaluation.folds):
        fit, out = part(rows, place != fold), part(rows, place == fold)
        booster = fit_booster(fit.features, fit.y, names, usecase.training, seed, weight=fit.weight)
        raw[place == fold] = booster.predict(out.features)
        baseline[place == fold] = baseline_scores(fit, out)
    scores = np.empty(len(rows), dtype=np.float64)
    for fold in range(usecase.evaluation.folds):
        rest = place != fold
        weight = None if rows.weight is None else rows.weight[rest]
        scores[~rest] = fit_by_policy(raw[rest], rows.y[rest], usecase.training, weight).apply(raw[~rest])
    flags = np.empty(len(rows), dtype=np.bool_)
    for fold in range(usecase.evaluation.folds):
        rest = part(rows, place != fold)
        cut = choose_cut(usecase, rest, scores[place != fold], seed)
        amounts = None if cut.amount is None else rows.features[place == fold][:, list(names).index(cut.amount)]
        flags[place == fold] = cut.flags(scores[place == fold], None if amounts is None else cut.cuts(amounts))
    return CrossFit(Judged(rows, scores, flags), baseline)


def crossed_evidence(usecase: UseCase, model: ScoringModel, label: str, rows: Fold, latency_ms: float) -> Evidence:
    """What is known of a model's recipe: out-of-fold figures of all rows, its latency and size.

    Raises:
        OneClass, TooFewRows: as :func:`cross_fit`.
    """
    seed = model.metadata.seed
    crossed = cross_fit(_own_settings(usecase, model), model.plan.names, rows, seed)
    flags = top(crossed.baseline, crossed.judged.flags, rows.weight)
    found = crossed.judged.performance(usecase, seed)
    return Evidence(
        model=label,
        metrics=found.metrics,
        rows=len(rows),
        positives=found.positives,
        window=rows.window,
        baseline=Judged(rows, crossed.baseline, flags).performance(usecase, seed).metrics,
        latency_p99_ms=latency_ms,
        model_mb=sum(len(data) for data in model.files.values()) / 1e6,
        fairness=crossed.judged.fairness(usecase).checks(usecase.fairness),
    )


def _own_settings(usecase: UseCase, model: ScoringModel) -> UseCase:
    """The settings that the model was fitted with: a search may have found others than the file's."""
    own = {k: v for k, v in model.metadata.parameters.items() if k in TrainingPolicy.model_fields}
    return usecase.model_copy(update={"training": TrainingPolicy(**own)}) if own else usecase


def places(y: NDArray[np.int8], folds: int, seed: int) -> NDArray[np.intp]:
    """The fold of each row, 0 to ``folds`` - 1; every fold has the same share of positives.

    Raises:
        OneClass: all labels are the same.
        TooFewRows: a class has fewer rows than there are folds.
    """
    require_both_classes(y, "cross-validation")
    positives = int(y.sum())
    if min(positives, len(y) - positives) < folds:
        raise TooFewRows(f"{positives} positives of {len(y)} rows are too few for {folds} folds")
    place = np.empty(len(y), dtype=np.intp)
    rng = np.random.default_rng(seed)
    # One class after the other around the folds, so that both classes and all rows are spread evenly.
    rows = np.concatenate([rng.permutation(np.flatnonzero(y == value)) for value in (0, 1)])
    place[rows] = np.arange(len(rows)) % folds
    return place


def part(rows: Fold, inside: NDArray[np.bool_]) -> Fold:
    """Some rows of a fold."""
    return Fold(rows.name, rows.window, rows.features[inside], rows.rows[inside].reset_index(drop=True))
