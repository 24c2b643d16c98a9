"""The simple model that a new one must beat: logistic regression on standardised features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flows.errors import TrainingError
from flows.steps.data.folds import Fold
from flows.steps.fitting.fit import require_both_classes


def baseline_scores(train: Fold, test: Fold) -> NDArray[np.float64]:
    """Fit logistic regression on ``train``, with the weights of its rows, and score ``test``.

    A missing value becomes the mean.

    Raises:
        TooFewRows: without a training row.
        OneClass: when all training labels are the same.
        TrainingError: when scikit-learn refuses the rows.
    """
    require_both_classes(train.y, train.name)
    from sklearn.linear_model import LogisticRegression

    mean, scale = _moments(train.features)
    model = LogisticRegression(max_iter=1000)
    try:
        model.fit(_standardise(train.features, mean, scale), train.y, sample_weight=train.weight)
    except ValueError as exc:
        raise TrainingError(f"the logistic-regression baseline could not be fitted: {type(exc).__name__}") from exc
    scores: NDArray[np.float64] = model.predict_proba(_standardise(test.features, mean, scale))[:, 1]
    return scores


def _moments(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = features.astype(np.float64)
    present = ~np.isnan(values)
    count = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, values, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(present, (values - mean) ** 2, 0.0).sum(axis=0) / count)
    return mean, np.where(spread > 0.0, spread, 1.0)


def _standardise(
    features: NDArray[np.float32], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.nan_to_num((features.astype(np.float64) - mean) / scale, nan=0.0)
