"""A booster of another library joins by one class and one row, and stored versions stay what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bentos.errors import ModelCorrupt
from bentos.model.booster_adapters import ADAPTERS
from bentos.model.scoring_model import CONTRACT_FILE, ScoringModel
from bentos.registry.ports import ModelRef
from bentos.scoring.active_models import ModelHolder
from bentos.scoring.explanations import explain
from flows.steps.fitting.contributions import mean_contributions
from tests.support.boosters import LinearBooster, linear_model
from tests.support.builders import tiny_model


@pytest.fixture
def _linear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, LinearBooster.kind, LinearBooster)


@pytest.mark.usefixtures("_linear")
def test_another_booster_is_stored_loaded_served_and_explained(tmp_path: Path) -> None:
    made = linear_model()
    made.save(tmp_path)
    model = ScoringModel.load(tmp_path, made.contract_digest)
    model.check_golden()
    holder, rows = ModelHolder(ModelRef("dev-fraud", "1"), model, made.contract_digest), made.golden.features
    holder.warm_up()
    scores = holder.scores([], rows, np.arange(rows.shape[1]))
    assert np.array_equal(scores.raw, made.golden.raw)
    contributions = model.booster.quick_contributions(rows[:1])(rows)
    total = explain(model.plan.names, rows[0], contributions[0])["margin"]["total"]
    assert 1 / (1 + np.exp(-total)) == pytest.approx(float(scores.raw[0]), abs=1e-5)
    assert len(mean_contributions(model.booster, rows)) == len(model.plan.names)


def test_a_version_of_a_booster_that_is_not_installed_is_refused_by_name(tmp_path: Path) -> None:
    linear_model().save(tmp_path)
    with pytest.raises(ModelCorrupt, match="made by booster 'linear'; this installation reads xgboost"):
        ScoringModel.load(tmp_path)


def test_the_contract_of_an_xgboost_version_names_no_booster() -> None:
    """What was stored before there was a second library keeps its bytes and its digest."""
    assert "booster" not in json.loads(tiny_model().files[CONTRACT_FILE])
