"""Two arms in one batch: who answers, what is logged, and what a failing challenger costs (nothing)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from bentos.errors import EventError
from bentos.features.plan import FeaturePlan
from bentos.registry.ports import ModelRef
from bentos.registry.routing_policy import Router, RoutingPolicy, canary
from bentos.schema.event import Event
from bentos.scoring.active_models import ActiveModel, ActiveModels, ChallengerArm, ExternalHolder, ModelHolder
from bentos.usecase.definition import ExternalIncumbent
from bentos.windows.memory import MemoryWindows
from monitoring.metrics import serving as metrics
from tests.support.builders import fraud, tiny_model
from tests.unit.bentos.scoring.test_scorer import SCHEMA, Desk

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
POLICY = canary(RoutingPolicy("shadow", "dev-fraud", "3", "4", (), "salt", "customer_id", NOW, "me"), 0.4)
ONE, TWO = (
    tiny_model(seed=1, threshold=0.3),
    tiny_model(seed=2, threshold=0.6, features=["amount", "customer_count_7d"]),
)
Rows = np.ndarray[Any, Any]


def event(number: int) -> Event:
    values = {"transaction_id": f"t-{number}", "customer_id": f"c-{number % 17}", "terminal_id": "m-1"}
    minute = datetime(2026, 3, 1, 12, number % 60, tzinfo=UTC)
    return SCHEMA.event(values | {"amount": 3.0 + number, "tx_time": minute})


EVENTS = [event(number) for number in range(60)]


def holders() -> tuple[ModelHolder, ModelHolder]:
    made = (ModelHolder(ModelRef("dev-fraud", v), m, m.contract_digest) for v, m in (("3", ONE), ("4", TWO)))
    champion, challenger = made
    return champion, challenger.as_challenger()


def forked(champion: ActiveModel, challenger: ModelHolder, policy: RoutingPolicy = POLICY) -> ActiveModels:
    plan = FeaturePlan.union([champion.plan, challenger.plan])
    fork = ChallengerArm(Router(policy), challenger, np.empty(0, dtype=np.intp))
    return ActiveModels.of(champion, plan, MemoryWindows(plan.specs), datetime.now(UTC), fork)


def desk(predict: Callable[[Rows], Rows] | None = None) -> Desk:
    champion, challenger = holders()
    if predict is not None:
        challenger.__dict__["predict"] = predict
    return Desk(forked(champion, challenger))


def in_arm(events: list[Event] = EVENTS) -> list[bool]:
    router = Router(POLICY)
    return [router.is_challenger[place] for place in router.places(events)]


def fallbacks(reason: str) -> float:
    return float(metrics.ARM_FALLBACKS.labels("4", reason)._value.get())


def test_each_arm_answers_its_entities_with_its_own_score_threshold_and_name() -> None:
    said = [json.loads(a) for a in desk().ask(*EVENTS) if isinstance(a, bytes)]
    assert len(said) == len(EVENTS)
    assert 0 < sum(in_arm()) < len(EVENTS)
    for model, version, alias, wanted in ((ONE, "3", "champion", False), (TWO, "4", "challenger", True)):
        features = model.plan.rows(EVENTS, MemoryWindows(model.plan.specs))
        alone = model.score(features).calibrated.tolist()
        for answer, score, challenger in zip(said, alone, in_arm(), strict=True):
            if challenger == wanted:
                assert answer["score"] == score
                assert answer["threshold"] == model.threshold.value
                assert answer["model"] == {"name": "dev-fraud", "version": version, "alias": alias}


def test_the_log_is_in_the_order_of_the_events_and_names_arm_and_policy() -> None:
    here = desk()
    here.ask(*EVENTS)
    records = here.paper.records
    assert [r.event_id for r in records] == [e.event_id for e in EVENTS]
    assert len(here.paper.batches) == 1
    assert [r.arm == "challenger" for r in records] == in_arm()
    assert [r.alias for r in records] == [r.arm for r in records]
    assert {r.routing for r in records} == {POLICY.digest}
    assert {(r.arm, r.contract) for r in records} == {
        ("champion", ONE.contract_digest), ("challenger", TWO.contract_digest),
    }  # fmt: skip


def test_without_a_fork_no_arm_is_logged() -> None:
    alone = Desk()
    alone.ask(*EVENTS)
    assert {(r.arm, r.routing) for r in alone.paper.records} == {(None, None)}


def test_both_arms_predict_at_most_once_a_batch() -> None:
    champion, challenger = holders()
    counts = {"champion": 0, "challenger": 0}
    for name, holder in (("champion", champion), ("challenger", challenger)):
        holder.__dict__["predict"] = _counted(name, counts, holder.predict)
    Desk(forked(champion, challenger)).ask(*EVENTS)
    assert counts == {"champion": 1, "challenger": 1}


def _counted(name: str, counts: dict[str, int], real: Callable[[Rows], Rows]) -> Callable[[Rows], Rows]:
    def predict(rows: Rows) -> Rows:
        counts[name] += 1
        return real(rows)

    return predict


def test_a_batch_gives_the_answers_of_one_by_one() -> None:
    alone = desk()
    one_by_one = [alone.ask(e)[0] for e in EVENTS]
    assert desk().ask(*EVENTS) == one_by_one


def _raises(rows: Rows) -> Rows:
    raise RuntimeError("no")


def _nothing(rows: Rows) -> Rows:
    return np.empty(0, dtype=np.float32)


@pytest.mark.parametrize("fault", [_raises, _nothing])
def test_a_challenger_that_raises_is_answered_for_by_the_champion(fault: Callable[[Rows], Rows]) -> None:
    before = fallbacks("raised")
    here = desk(fault)
    assert here.ask(*EVENTS) == _champion_alone()
    assert {r.alias for r in here.paper.records} == {"champion"}
    assert [r.arm == "challenger" for r in here.paper.records] == in_arm()
    assert fallbacks("raised") - before == sum(in_arm())


def test_a_nan_is_answered_for_by_the_champion_and_the_rest_of_the_arm_is_not() -> None:
    _, real = holders()
    before = fallbacks("not_a_probability")

    def predict(rows: Rows) -> Rows:
        scores = real.predict(rows).copy()
        scores[::2] = np.nan
        return scores

    here = desk(predict)
    said = here.ask(*EVENTS)
    good, champion = desk().ask(*EVENTS), _champion_alone()
    theirs = [i for i, yes in enumerate(in_arm()) if yes]
    for i, answer in enumerate(said):
        failed = i in theirs and theirs.index(i) % 2 == 0
        assert answer == (champion[i] if failed else good[i])
    assert fallbacks("not_a_probability") - before == len(theirs[::2])


def _champion_alone() -> list[bytes | Exception]:
    """The champion's own answers."""
    champion, challenger = holders()
    plan = FeaturePlan.union([champion.plan, challenger.plan])
    active_models = ActiveModels.of(champion, plan, MemoryWindows(plan.specs), datetime.now(UTC))
    return Desk(active_models).ask(*EVENTS)


def test_beside_an_external_score_the_challenger_answers_its_share() -> None:
    _, challenger = holders()
    plan = FeaturePlan.of(fraud())
    outsider = ExternalHolder(ExternalIncumbent(column="amount", threshold=0.4), plan)
    fork = ChallengerArm(Router(POLICY), challenger, np.empty(0, dtype=np.intp))
    here = Desk(ActiveModels.of(outsider, plan, MemoryWindows(plan.specs), datetime.now(UTC), fork))
    said = here.ask(*EVENTS)
    for answer, theirs in zip(said, in_arm(), strict=True):
        # An amount above 1 is no score, which is the client's mistake where the external score answers.
        assert isinstance(answer, bytes if theirs else EventError)
    assert {r.alias for r in here.paper.records} == {"challenger"}


def test_the_time_that_the_challenger_takes_is_known_to_the_guard() -> None:
    here = desk()
    assert here.active_models is not None
    assert here.active_models.fork is not None
    assert here.active_models.fork.p99_ms() is None
    here.ask(*EVENTS)
    taken = here.active_models.fork.p99_ms()
    assert taken is not None
    assert taken > 0


def test_an_event_without_an_external_score_is_answered_in_the_challenger_s_arm_and_refused_in_the_other() -> None:
    _, challenger = holders()
    plan = FeaturePlan.union([FeaturePlan.of(fraud()), challenger.plan])
    # Amounts are no scores, so every event of the external arm is refused.
    found = Desk(forked(ExternalHolder(ExternalIncumbent(column="amount", threshold=0.4), plan), challenger))
    said = found.scorer.run(EVENTS)
    assert [isinstance(one, bytes) for one in said] == in_arm()
    assert [isinstance(one, EventError) for one in said] == [not arm for arm in in_arm()]
    assert [r.event_id for r in found.paper.records] == [
        e.event_id for e, arm in zip(EVENTS, in_arm(), strict=True) if arm
    ]
