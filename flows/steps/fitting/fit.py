"""Fit the booster: the same rows, settings and seed give the same bytes.

One thread: the order of XGBoost's sums depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bentos.model.xgboost_booster import XGBoostBooster
from bentos.usecase.definition import TrainingPolicy
from flows.errors import OneClass, TooFewRows, TrainingError

if TYPE_CHECKING:
    from xgboost import DMatrix


def booster_parameters(policy: TrainingPolicy, seed: int, threads: int = 1) -> dict[str, Any]:
    """Parameters of ``xgboost.train``.

    One thread by default: sums of floats depend on their order, and a digest that depends on the
    number of cores would be no digest. ``base_score`` and ``max_bin`` are always given: the automatic
    ones blur sharp limits.
    """
    parameters: dict[str, Any] = {
        "objective": "binary:logistic",
        "tree_method": policy.tree_method,
        "max_depth": policy.max_depth,
        "learning_rate": policy.learning_rate,
        "base_score": policy.base_score,
        "min_child_weight": policy.min_child_weight,
        "subsample": policy.subsample,
        "colsample_bytree": policy.colsample_bytree,
        "seed": seed,
        "nthread": threads,
        "verbosity": 0,
    }
    return parameters if policy.tree_method == "exact" else parameters | {"max_bin": policy.max_bin}


def fit_booster(
    features: NDArray[np.float32],
    y: NDArray[np.int8],
    names: Sequence[str],
    policy: TrainingPolicy,
    seed: int,
    threads: int = 1,
    weight: NDArray[np.float64] | None = None,
) -> XGBoostBooster:
    """Fit a booster on rows of ``features`` (float32, columns as ``names``) and labels ``y`` (0 or 1).

    ``weight`` says how many events each row stands for; without it each stands for itself.

    Raises:
        TooFewRows: without a row.
        OneClass: when every label is the same.
        TrainingError: when XGBoost refuses the rows.
    """
    require_both_classes(y, "train")
    import xgboost

    try:
        rows = _matrix(features, y, names, policy, threads, weight)
        native = xgboost.train(booster_parameters(policy, seed, threads), rows, num_boost_round=policy.trees)
    except xgboost.core.XGBoostError as exc:
        raise TrainingError(f"XGBoost refused {len(y)} rows: {str(exc).splitlines()[0]}") from exc
    return XGBoostBooster(native)


def require_both_classes(y: NDArray[np.int8], fold: str) -> None:
    """Refuse a fold that teaches nothing; see :func:`fit_booster` for the errors."""
    if not len(y):
        raise TooFewRows(f"the {fold} fold has no labelled row; read another window")
    positives = int(y.sum())
    if positives in (0, len(y)):
        only_class = "positive" if positives else "negative"
        raise OneClass(
            f"all {len(y)} rows of the {fold} fold are {only_class}; read a longer window, or check the labels"
        )


def _matrix(
    features: NDArray[np.float32],
    y: NDArray[np.int8],
    names: Sequence[str],
    policy: TrainingPolicy,
    threads: int,
    weight: NDArray[np.float64] | None,
) -> DMatrix:
    import xgboost

    arguments: dict[str, Any] = {"label": y, "weight": weight, "feature_names": list(names), "nthread": threads}
    if policy.tree_method == "hist":
        return xgboost.QuantileDMatrix(features, max_bin=policy.max_bin, **arguments)
    return xgboost.DMatrix(features, **arguments)
