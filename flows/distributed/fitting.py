"""Fit a booster on rows that lie on the workers, with the parameters and the bins of the single engine.

XGBoost would estimate the bins of each feature on each worker and merge the estimates. Sharp limits move by that,
and figures with them. So the bins are found feature by feature over all rows, as one process does, and each
value is handed over as the lower edge of its bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.model.xgboost_booster import XGBoostBooster
from bentos.usecase.definition import TrainingPolicy
from flows.distributed.dask_cluster import Cluster
from flows.distributed.folds import LABEL, STANDS_FOR, PartRows, column_cuts, training_part
from flows.errors import OneClass, TooFewRows, TrainingError
from flows.steps.fitting.build import FittedBooster
from flows.steps.fitting.fit import booster_parameters
from monitoring.core.calendar import TimeWindow


def fit_on_cluster(
    cluster: Cluster,
    folder: Path,
    facts: Sequence[PartRows],
    fold: int,
    window: TimeWindow,
    positions: Sequence[int],
    names: Sequence[str],
    policy: TrainingPolicy,
    seed: int,
) -> FittedBooster:
    """Fit on the rows of one window.

    Args:
        cluster: the workers.
        folder: where :func:`flows.distributed.folds.keep_rows` kept the rows.
        facts: rows of each part; ``fold`` is the place of the window in them.
        window: event times of the rows.
        positions, names: the features of the plan.
        policy, seed: as for one machine.

    Raises:
        TooFewRows, OneClass, TrainingError: as on one machine.
        ClusterFailed: a worker died.
    """
    parts = [fact.part for fact in facts if fact.rows[fold]]
    rows, positives = sum(fact.rows[fold] for fact in facts), sum(fact.positives[fold] for fact in facts)
    require_hist(policy)
    if not rows:
        raise TooFewRows("the train fold has no labelled row; read another window")
    if positives in (0, rows):
        label_kind = "positive" if positives else "negative"
        raise OneClass(f"all {rows} rows of the train fold are {label_kind}; read a longer window, or check the labels")
    cuts, weighted = None, any(fact.weighted for fact in facts)
    if policy.tree_method == "hist":
        cuts = cluster.run(
            "bins", partial(column_cuts, folder, window, parts, policy.max_bin, weighted), list(positions)
        )
    load = partial(training_part, folder, window, tuple(positions), tuple(names), cuts, weighted)
    with cluster.translate_errors("fit"):
        booster = _train(cluster, load, parts, names, policy, seed, weighted)
    return FittedBooster(booster, window, rows, positives)


def require_hist(policy: TrainingPolicy) -> None:
    """Refuse a method that needs all rows in one place; raises ``TrainingError``."""
    if policy.tree_method == "exact":
        raise TrainingError(
            'tree_method "exact" needs all rows in one place; write tree_method = "hist" under [training], '
            "or use --engine single"
        )


def _train(
    cluster: Cluster,
    load: Any,
    parts: Sequence[int],
    names: Sequence[str],
    policy: TrainingPolicy,
    seed: int,
    weighted: bool,
) -> XGBoostBooster:
    import dask
    import dask.dataframe as dd
    import xgboost
    from xgboost import dask as cluster_xgboost

    columns = (*names, LABEL, *([STANDS_FOR] if weighted else []))
    meta = pd.DataFrame({name: pd.Series(dtype=np.float32) for name in columns})
    parameters = {k: v for k, v in booster_parameters(policy, seed).items() if k != "nthread"}
    with dask.config.set({"dataframe.convert-string": False}):
        frame = dd.from_map(load, list(parts), meta=meta)
        features, label = frame[list(names)], frame[LABEL]
        weight = frame[STANDS_FOR] if weighted else None
        try:
            rows = _matrix(cluster_xgboost, cluster.client, features, label, weight, policy)
            result = cluster_xgboost.train(cluster.client, parameters, rows, num_boost_round=policy.trees)
        except xgboost.core.XGBoostError as exc:
            raise TrainingError(f"XGBoost refused the rows: {str(exc).splitlines()[0]}") from exc
    # Out of the cluster, a plain booster on one thread, as every other.
    return XGBoostBooster.load(bytes(result["booster"].save_raw("ubj")))


def _matrix(module: Any, client: Any, features: Any, label: Any, weight: Any, policy: TrainingPolicy) -> Any:
    if policy.tree_method == "hist":
        return module.DaskQuantileDMatrix(client, features, label, weight=weight, max_bin=policy.max_bin)
    return module.DaskDMatrix(client, features, label, weight=weight)
