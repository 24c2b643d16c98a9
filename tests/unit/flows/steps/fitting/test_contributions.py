from __future__ import annotations

import numpy as np
import pytest

from flows.steps.fitting.contributions import mean_contributions
from tests.support.builders import tiny_model


def test_the_feature_that_decides_the_label_has_most_importance() -> None:
    model = tiny_model(trees=20)
    rows = np.random.default_rng(3).gamma(2.0, 20.0, (1500, len(model.plan.names))).astype(np.float32)
    found = mean_contributions(model.booster, rows, rows=500)
    assert len(found) == len(model.plan.names)
    assert int(np.argmax(found)) == 0
    assert found == mean_contributions(model.booster, rows, rows=500), "the sample is seeded"
    assert mean_contributions(model.booster, rows[:0]) == ()


def test_contributions_are_those_of_xgboost() -> None:
    import xgboost

    model = tiny_model()
    rows = np.random.default_rng(4).gamma(2.0, 20.0, (50, len(model.plan.names))).astype(np.float32)
    theirs = model.booster.native.predict(xgboost.DMatrix(rows), pred_contribs=True, validate_features=False)
    expected = np.abs(theirs[:, :-1]).mean(axis=0)
    assert mean_contributions(model.booster, rows) == pytest.approx(tuple(expected), abs=1e-6)
