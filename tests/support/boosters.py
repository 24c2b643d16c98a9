"""A booster of another library than XGBoost, as someone would add it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

from bentos.model.booster import Matrix, Predict
from bentos.model.calibration import Calibrator
from bentos.model.contract import golden_rows
from bentos.model.scoring_model import ScoringModel
from tests.support.builders import tiny_model


class LinearBooster:
    """A logistic regression of scikit-learn behind the port, stored as JSON."""

    kind: ClassVar[str] = "linear"
    mlflow_flavor: ClassVar[str] = "sklearn"
    mlflow_options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, native: LogisticRegression) -> None:
        self.native = native

    def predict(self, rows: Matrix) -> Matrix:
        # In float64 and in one order, so that a stored and a loaded model give the same bits.
        margins = (rows.astype(np.float64) * self.native.coef_[0].astype(np.float64)).sum(axis=1)
        return (1 / (1 + np.exp(-margins - float(self.native.intercept_[0])))).astype(np.float32)

    def contributions(self, rows: Matrix) -> Matrix:
        each = rows * self.native.coef_[0]
        return np.column_stack([each, np.full(len(rows), self.native.intercept_[0])]).astype(np.float32)

    def quick_predict(self, known: Matrix) -> Predict:
        return self.predict

    def quick_contributions(self, known: Matrix) -> Predict:
        return self.contributions

    def importance(self, names: Sequence[str]) -> Mapping[str, float]:
        return dict(zip(names, np.abs(self.native.coef_[0]).tolist(), strict=True))

    def use_threads(self, count: int) -> None:
        pass

    def save(self) -> bytes:
        return json.dumps([self.native.coef_[0].tolist(), float(self.native.intercept_[0])]).encode()

    @classmethod
    def load(cls, data: bytes) -> Self:
        coefficients, intercept = json.loads(data)
        native = LogisticRegression()
        native.coef_, native.intercept_ = np.array([coefficients]), np.array([intercept])
        native.classes_ = np.array([0, 1])
        return cls(native)

    @staticmethod
    def requirement() -> str:
        return f"scikit-learn=={sklearn.__version__}"


def linear_model() -> ScoringModel:
    """A tiny model whose booster is a logistic regression on the same rows."""
    trees = tiny_model()
    rows = np.nan_to_num(np.tile(trees.golden.features, (8, 1)))
    y = (rows[:, 0] > np.median(rows[:, 0])).astype(np.int8)
    booster, calibrator = LinearBooster(LogisticRegression(max_iter=2_000).fit(rows, y)), Calibrator("none")
    return replace(trees, booster=booster, calibrator=calibrator, golden=golden_rows(booster, calibrator, rows))
