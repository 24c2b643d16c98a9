"""The same rows, settings and seed give the same booster; rows that teach nothing are refused."""

from __future__ import annotations

import numpy as np
import pytest

from bentos.usecase.definition import TrainingPolicy
from flows.errors import OneClass, TooFewRows
from flows.steps.fitting.baseline import baseline_scores
from flows.steps.fitting.fit import booster_parameters, fit_booster
from monitoring.core.hashing import sha256_hex
from monitoring.stats.ranking import auc_roc
from tests.support.folds import fold_of, noise

NAMES = ("a", "b", "c")


def digest(policy: TrainingPolicy, seed: int = 7, threads: int = 1) -> str:
    x, y = noise(3_000)
    return sha256_hex(bytes(fit_booster(x, y, NAMES, policy, seed, threads).save()))


@pytest.mark.parametrize("method", ["hist", "exact", "approx"])
def test_the_same_rows_and_seed_give_the_same_bytes(method: str):
    policy = TrainingPolicy(tree_method=method, trees=20, subsample=0.8, colsample_bytree=0.7)
    assert digest(policy) == digest(policy)


def test_another_seed_or_setting_gives_another_booster():
    policy = TrainingPolicy(trees=20, subsample=0.8)
    settings = [policy, policy.model_copy(update={"max_depth": 2}), policy.model_copy(update={"base_score": 0.1})]
    assert len({digest(settings[0], seed=8), *map(digest, settings)}) == 4


def test_base_score_and_bins_are_always_given():
    assert booster_parameters(TrainingPolicy(), 1)["base_score"] == 0.5
    assert booster_parameters(TrainingPolicy(), 1)["max_bin"] == 1024
    assert "max_bin" not in booster_parameters(TrainingPolicy(tree_method="exact"), 1)


def test_scores_find_what_decides_the_label():
    x, y = noise(4_000)
    booster = fit_booster(x[:2_000], y[:2_000], NAMES, TrainingPolicy(), 7)
    scores = booster.predict(x[2_000:])
    assert scores.dtype == np.float32
    assert auc_roc(y[2_000:], scores) > 0.9


@pytest.mark.parametrize(("positives", "rows", "error"), [(0, 5, OneClass), (5, 5, OneClass), (0, 0, TooFewRows)])
def test_rows_of_one_class_are_refused(positives: int, rows: int, error: type[Exception]):
    y = np.array([1] * positives + [0] * (rows - positives), dtype=np.int8)
    with pytest.raises(error, match="train fold"):
        fit_booster(np.zeros((rows, 3), dtype=np.float32), y, NAMES, TrainingPolicy(), 7)


def test_the_baseline_learns_from_standardised_features_and_fills_gaps():
    x, y = noise(4_000)
    x[:, 0] *= 1e6
    x[::7, 1] = np.nan
    x[:, 2] = 5.0
    train, test = fold_of(x[:2_000], y[:2_000]), fold_of(x[2_000:], y[2_000:])
    scores = baseline_scores(train, test)
    assert np.isfinite(scores).all()
    assert auc_roc(test.y, scores) > 0.9
    assert scores.tobytes() == baseline_scores(train, test).tobytes()
