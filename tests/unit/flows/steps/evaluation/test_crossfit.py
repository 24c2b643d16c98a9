"""Figures of cross-validation are those of the model's own settings, wherever these came from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bentos.usecase.definition import TrainingPolicy, UseCase
from flows.steps.data.folds import Fold
from flows.steps.evaluation.crossfit import cross_fit_evidence
from monitoring.core.verdict import Evidence
from tests.support.builders import case, tiny_model
from tests.support.folds import fold_of, noise


def rows(width: int) -> Fold:
    x, y = noise(300)
    return fold_of(np.tile(x, (1, width))[:, :width].astype(np.float32), y)


def evidence(usecase: UseCase, parameters: dict[str, object]) -> Evidence:
    model = tiny_model(usecase)
    model = replace(model, metadata=replace(model.metadata, parameters=parameters))
    return cross_fit_evidence(usecase, model, "dev-cards/1", rows(len(model.plan.names)), 1.0)


def test_a_model_with_other_settings_than_the_file_is_measured_with_its_own() -> None:
    file, tuned = TrainingPolicy(trees=60), TrainingPolicy(trees=1, max_depth=1, calibration="platt")
    plain = case(evaluation={"folds": 3})
    own = evidence(plain.model_copy(update={"training": file}), tuned.model_dump(mode="json"))
    declared = evidence(plain.model_copy(update={"training": tuned}), {})
    other = evidence(plain.model_copy(update={"training": file}), {})
    assert own.metrics == declared.metrics
    assert own.metrics["average_precision"] != other.metrics["average_precision"]


def test_a_declared_offer_is_measured_for_the_model_and_for_its_baseline() -> None:
    offer = {"offer_cost": 10, "saved_value": 100, "acceptance_rate": 0.3}
    plain, declared = (case(evaluation={"folds": 3}, gates=gates) for gates in ({}, {"profit": offer}))
    assert "profit_per_customer" not in evidence(plain, {}).metrics
    found = evidence(declared, {})
    assert found.metrics["profit_per_customer"].low is not None
    assert "profit_per_customer" in found.baseline
