from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from monitoring.policies import CapacityPolicy, CostModel, DriftPolicy, GatePolicy, LabelPolicy, Policy, RetrainPolicy
from monitoring.policies.promotion import PromotionPolicy

POLICIES: list[type[Policy]] = [CostModel, CapacityPolicy, GatePolicy, PromotionPolicy, DriftPolicy, RetrainPolicy]


def label(**changes: Any) -> LabelPolicy:
    return LabelPolicy.model_validate({"column": "y", "matures_after": timedelta(days=7)} | changes)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_has_defaults_is_frozen_and_closed(policy: type[Policy]) -> None:
    made = policy()
    name = next(iter(policy.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, name, None)
    with pytest.raises(ValidationError, match="Extra inputs"):
        policy.model_validate({"surprise": 1})
    assert policy.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize("policy", POLICIES)
def test_every_field_of_a_policy_is_explained(policy: type[Policy]) -> None:
    assert all(field.description for field in policy.model_fields.values())


def test_the_defaults_are_those_of_the_fraud_case() -> None:
    assert (CostModel().false_negative, CostModel().false_positive) == (100, 1)
    assert (DriftPolicy().psi_warning, DriftPolicy().psi_severe, DriftPolicy().ks_warning) == (0.1, 0.25, 0.1)
    promotion = PromotionPolicy()
    assert (promotion.alpha, promotion.min_matured_days, promotion.min_matured_positives) == (0.05, 14, 200)
    assert (GatePolicy().max_single_event_p99_ms, GatePolicy().max_model_mb) == (100, 500)
    assert GatePolicy().min_matured_rows == 10_000
    assert (RetrainPolicy().max_age, RetrainPolicy().max_new_rows) == (timedelta(days=30), 100_000)


@pytest.mark.parametrize(
    ("changes", "gain"),
    [({}, 0.01), ({"min_recall_gain": 0.02}, 0.02), ({"recall_non_inferiority_margin": 0.03}, -0.03)],
)
def test_a_challenger_must_gain_recall_unless_a_margin_is_declared(changes: dict[str, float], gain: float) -> None:
    assert PromotionPolicy(**changes).required_recall_gain == gain


@pytest.mark.parametrize(
    ("policy", "values", "said"),
    [
        (PromotionPolicy, {"min_recall_gain": 0.01, "recall_non_inferiority_margin": 0.01}, "not both"),
        (PromotionPolicy, {"alpha": 0.0}, "greater than 0"),
        (PromotionPolicy, {"alpha": float("nan")}, "finite number"),
        (GatePolicy, {"min_baseline_gain": float("-inf")}, "finite number"),
        (DriftPolicy, {"psi_warning": 0.3}, "must lie above"),
        (DriftPolicy, {"windows_needed": 4}, "exceeds windows"),
        (GatePolicy, {"min_recall": 1.1}, "less than or equal"),
        (GatePolicy, {"min_recall": "0.5"}, "valid number"),
        (GatePolicy, {"min_matured_rows": True}, "valid integer"),
        (CapacityPolicy, {"alerts_per_day": 0}, "greater than or equal to 1"),
        (CostModel, {"false_positive": -1}, "greater than or equal to 0"),
        (RetrainPolicy, {"cooldown": "soon"}, "for example '7d'"),
        (RetrainPolicy, {"train": "12h"}, "at least a day"),
        (PromotionPolicy, {"takes_office": "after_gates", "approval": "required"}, "waits for nobody"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy: type[Policy], values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        policy(**values)


def test_label_sources_are_ranked_strongest_first() -> None:
    policy = label(sources=("chargeback", "analyst"))
    assert (policy.rank("chargeback"), policy.rank("analyst")) == (0, 1)
    with pytest.raises(ValueError, match=r"'rumour' is not ranked; allowed: chargeback, analyst"):
        policy.rank("rumour")


def test_the_absence_of_a_label_means_unknown_unless_declared_negative() -> None:
    assert label().absent_after_maturity == "unknown"
    with pytest.raises(ValidationError, match="'negative' or 'unknown'"):
        label(absent_after_maturity="zero")
