"""Thresholds that fall with the amount: one rule for training, service, shadow and lists."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.errors import UseCaseError
from bentos.model.calibration import Threshold
from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from bentos.scoring.active_models import ActiveModels, ModelHolder
from bentos.scoring.intake import Intake
from bentos.shadow.channel import Score
from bentos.shadow.worker import _score
from bentos.usecase.definition import UseCase, amount_feature
from bentos.usecase.loading import parse_usecase
from bentos.windows.memory import MemoryWindows
from monitoring.performance.cost import Prices, expected_gain
from monitoring.performance.thresholds import choose_least_saving
from monitoring.policies import CapacityPolicy, CostModel
from monitoring.stats.bootstrap import Bootstrap
from tests.support.builders import fraud, tiny_model
from tests.unit.bentos.scoring.test_scorer import NOW, Desk, Paper, Scorer, event


def by_amount(saving: float = 0.0, alarm: float = 5.0) -> Threshold:
    return Threshold(saving, saving, saving, 0.0, None, "amount", alarm, "amount")


def model(saving: float = 0.0) -> ScoringModel:
    return replace(tiny_model(), threshold=by_amount(saving))


def costly(**changes: object) -> UseCase:
    cost = CostModel(false_negative="amount", false_positive=5.0, **changes)  # type: ignore[arg-type]  # literals
    return fraud().model_copy(update={"cost": cost})


def test_a_false_alarm_of_5_and_an_amount_of_50_give_one_eleventh() -> None:
    assert by_amount().cuts(np.array([50.0]))[0] == pytest.approx(0.0909090909, abs=5e-11)
    assert by_amount(2.0).cuts(np.array([50.0, 0.0, np.nan, -3.0])) == pytest.approx([7 / 55, 1.0, 1.0, 1.0])
    assert by_amount(alarm=0.0).cuts(np.array([0.0, 10.0])).tolist() == [1.0, 0.0]


@given(p=st.floats(0.0, 1.0), amount=st.floats(0.0, 1e6), saving=st.floats(0.0, 1e4), alarm=st.floats(0.0, 1e3))
def test_an_alert_is_what_is_expected_to_save_at_least_the_least_saving(
    p: float, amount: float, saving: float, alarm: float
) -> None:
    gain = float(expected_gain([p], Prices(np.array([amount]), alarm))[0])
    flagged = bool(by_amount(saving, alarm).flags(np.array([p]), by_amount(saving, alarm).cuts(np.array([amount])))[0])
    close = abs(gain - saving) <= 1e-9 * max(1.0, amount, saving, alarm)
    assert close or p == 1.0 or flagged == (gain >= saving)


def test_the_rule_survives_storing_and_one_threshold_is_stored_as_before(tmp_path: Path) -> None:
    model(1.5).save(tmp_path / "by")
    loaded = ScoringModel.load(tmp_path / "by")
    assert loaded.threshold == by_amount(1.5)
    assert "amount" not in tiny_model().threshold.to_json()
    with pytest.raises(ValueError, match="goes by 'amount'"):
        loaded.decide(np.array([0.5]))


def test_each_event_is_answered_and_logged_with_its_own_threshold() -> None:
    found = model()
    holder = ModelHolder(ModelRef("dev-fraud", "3"), found, found.contract_digest)
    desk = Desk(ActiveModels.of(holder, found.plan, MemoryWindows(found.plan.specs), datetime.now(UTC)))
    said = [json.loads(a) for a in desk.ask(event("t-1", 5.0), event("t-2", 495.0, 1)) if isinstance(a, bytes)]
    assert [one["threshold"] for one in said] == pytest.approx([0.5, 0.01])
    assert [one["decision"] for one in said] == [one["score"] >= one["threshold"] for one in said]
    assert [(r.threshold, r.decision) for r in desk.paper.records] == [(o["threshold"], o["decision"]) for o in said]


def test_a_threshold_that_people_ordered_holds_for_all_events() -> None:
    found = model()
    holder = ModelHolder(ModelRef("dev-fraud", "3"), found, found.contract_digest)
    active_models = ActiveModels.of(holder, found.plan, MemoryWindows(found.plan.specs), datetime.now(UTC))
    paper = Paper()
    scorer = Scorer(Intake("fraud", lambda: active_models, paper, clock=lambda: NOW), lambda *_: 0.25)
    scorer.run([event("t-1", 5.0), event("t-2", 495.0, 1)])
    assert [record.threshold for record in paper.records] == [0.25, 0.25]


def test_the_shadow_says_the_threshold_of_each_row() -> None:
    found = model()
    rows = found.golden.features[:3].copy()
    rows[:, found.plan.names.index("amount")] = [5.0, 45.0, 495.0]
    reply = _score(found, Score(rows.shape[1], rows.tobytes()))
    cuts, flags = np.frombuffer(reply.cuts), np.frombuffer(reply.flags, dtype=bool)
    assert cuts == pytest.approx([0.5, 0.1, 0.01])
    assert flags.tolist() == (np.frombuffer(reply.calibrated) >= cuts).tolist()
    assert _score(tiny_model(), Score(rows.shape[1], rows.tobytes())).cuts == b""


def test_capacity_raises_the_least_saving_until_the_analysts_can_cope() -> None:
    rng = np.random.default_rng(3)
    p, amounts, days = rng.beta(1, 9, 6000), rng.lognormal(3, 1, 6000), np.repeat(np.arange(20), 300)
    prices = Prices(amounts, 5.0)
    free = choose_least_saving(p, days, prices, CapacityPolicy(), bootstrap=Bootstrap(50))
    assert (free.value, free.low, free.high) == (0.0, 0.0, 0.0)
    tight = choose_least_saving(p, days, prices, CapacityPolicy(alerts_per_day=10), bootstrap=Bootstrap(50))
    assert 9.5 <= tight.alerts_per_day <= 10
    assert tight.low <= tight.value <= tight.high
    assert tight.low < tight.high


def test_the_rule_goes_by_the_amount_where_the_policy_and_the_features_allow_it() -> None:
    assert amount_feature(costly()) == "amount"
    assert amount_feature(costly(threshold="one")) is None
    assert amount_feature(fraud()) is None
    without = costly().model_copy(update={"features": tuple(f for f in fraud().features if f.name != "amount")})
    assert amount_feature(without) is None


@pytest.mark.parametrize(
    ("cost", "allowed"),
    [
        ({"false_negative": 10, "threshold": "by_amount"}, "'one' where false_negative is a constant"),
        ({"false_negative": "fee", "threshold": "by_amount"}, "a feature of kind 'column' on 'fee'"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(cost: dict[str, object], allowed: str) -> None:
    from tests.support.builders import case_data

    data = case_data(cost=cost)
    data["features"] = [f for f in data["features"] if f.get("column") != "fee"]
    with pytest.raises(UseCaseError, match=r"cost\.threshold") as refused:
        parse_usecase(data)
    assert allowed in str(refused.value)
