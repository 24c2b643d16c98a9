"""Reasons of answers."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from bentos.errors import DuplicateEvent, ModelNotReady
from bentos.features.plan import FeaturePlan
from bentos.registry.ports import ModelRef
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.scoring.active_models import ActiveModels, ModelHolder
from bentos.scoring.explanations import Explainer, explain
from bentos.scoring.intake import Intake
from bentos.scoring.scorer import Scorer
from bentos.windows.memory import MemoryWindows
from tests.support.builders import fraud, tiny_model

SCHEMA = EventSchema.of(fraud())


class Paper:
    def declare(self, plan: object) -> None: ...

    def append(self, records: object) -> None: ...

    def require_room(self, events: int) -> None: ...


def event(name: str = "t-1", amount: float = 57.16, minute: int = 0) -> Event:
    values = {"transaction_id": name, "customer_id": "c-1", "terminal_id": "m-1", "amount": amount}
    return SCHEMA.event(values | {"tx_time": datetime(2026, 3, 1, 12, minute, tzinfo=UTC)})


class Desk:
    def __init__(self) -> None:
        model = tiny_model(seed=1)
        plan = FeaturePlan.union([model.plan])
        windows = MemoryWindows(plan.specs)
        self.active_models: ActiveModels | None = ActiveModels.of(self.holder(1), plan, windows, datetime.now(UTC))
        scorer = Scorer(Intake("fraud", lambda: self.active_models, Paper()))
        self.explainer = Explainer(lambda: self.active_models, scorer.run)

    def holder(self, seed: int) -> ModelHolder:
        model = tiny_model(seed=seed)
        return ModelHolder(ModelRef("dev-fraud", str(seed)), model, model.contract_digest)

    def ask(self, asked: Event) -> Any:
        said = self.explainer.answer(asked)
        assert isinstance(said, bytes)
        return json.loads(said)


def test_reasons_add_up_to_the_margin_of_the_very_score() -> None:
    desk = Desk()
    for minute in range(5):
        said = desk.ask(event(f"t-{minute}", 20.0 * minute + 1, minute))
        calibrator = tiny_model(seed=1).calibrator
        raw = 1.0 / (1.0 + math.exp(-said["margin"]["total"]))
        assert calibrator.apply(np.array([raw]))[0] == pytest.approx(said["score"], abs=1e-5)
        told = math.fsum(r["contribution"] for r in said["reasons"])
        assert said["margin"]["bias"] + told + said["margin"]["rest"] == pytest.approx(said["margin"]["total"])


def test_a_repeated_id_has_the_same_reasons_as_long_as_its_features_are_the_same() -> None:
    desk = Desk()
    first = desk.ask(event("t-1", 50.0, 30))
    assert desk.ask(event("t-1", 50.0, 30)) == first
    assert first["reasons"]


def test_reasons_of_another_score_are_never_told() -> None:
    desk = Desk()
    first = desk.ask(event("t-1"))
    assert desk.active_models is not None
    desk.active_models = replace(desk.active_models, holder=desk.holder(2))
    again = desk.ask(event("t-1"))
    assert (again.pop("reasons"), again.pop("margin")) == (None, None)
    assert again.items() <= first.items()


def test_what_cannot_be_answered_is_not_explained() -> None:
    desk = Desk()
    desk.ask(event("t-1"))
    assert isinstance(desk.explainer.answer(event("t-1", amount=1.0)), DuplicateEvent)
    desk.active_models = None
    with pytest.raises(ModelNotReady):
        desk.explainer.answer(event("t-2"))


def test_missing_values_are_explained_and_told_as_null() -> None:
    booster = tiny_model().booster
    rows = np.full((1, len(tiny_model().plan.names)), np.nan, dtype=np.float32)
    found = explain(tiny_model().plan.names, rows[0], booster.quick_contributions(rows)(rows)[0])
    margin = booster.native.predict(xgboost.DMatrix(rows, nthread=1), output_margin=True, validate_features=False)[0]
    assert found["margin"]["total"] == pytest.approx(margin, abs=1e-4)
    assert all(reason["value"] is None for reason in found["reasons"])
    json.dumps(found, allow_nan=False)


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=9), st.floats(-5, 5, width=32))
def test_the_strongest_five_are_told_and_nothing_is_lost(each: list[float], bias: float) -> None:
    names = [f"f{at}" for at in range(len(each))]
    contributions = np.array([*each, bias], dtype=np.float32)
    found = explain(names, np.zeros(len(each), dtype=np.float32), contributions)
    told = [r["contribution"] for r in found["reasons"]]
    assert len(told) == min(5, sum(value != 0 for value in each))
    assert sorted(map(abs, told), reverse=True) == sorted(map(abs, each), reverse=True)[: len(told)]
    total = math.fsum([*told, found["margin"]["bias"], found["margin"]["rest"]])
    assert total == pytest.approx(found["margin"]["total"], abs=1e-9)


def test_the_short_way_gives_the_bits_of_the_long_one() -> None:
    model = tiny_model()
    known = np.ascontiguousarray(model.golden.features[:8])
    expected = model.booster.native.predict(
        xgboost.DMatrix(known, nthread=1), pred_contribs=True, validate_features=False
    )
    assert np.array_equal(model.booster.quick_contributions(known)(known), expected)


def test_where_the_short_way_is_missing_the_long_one_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model()
    known = np.ascontiguousarray(model.golden.features[:2])
    monkeypatch.setattr("xgboost.core._LIB", object())
    with caplog.at_level(logging.WARNING):
        slow = model.booster.quick_contributions(known)
    monkeypatch.undo()
    assert "contributions" in caplog.text
    assert slow(known).shape == (2, len(model.plan.names) + 1)
