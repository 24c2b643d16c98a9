"""The scoring core: answers, the log, repeated ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from bentos.errors import DuplicateEvent, EventError, ModelCorrupt, ModelNotReady, SpoolFull
from bentos.features.plan import FeaturePlan
from bentos.registry.ports import ModelRef
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.scoring.active_models import ActiveModels, ExternalHolder, ModelHolder
from bentos.scoring.intake import Intake
from bentos.scoring.scorer import Scorer, row_answers
from bentos.usecase.definition import ExternalIncumbent
from bentos.windows.memory import MemoryWindows
from monitoring.store.database.records import LabelRecord, PlanRecord, ScoreRecord
from tests.support.builders import fraud, tiny_model

SCHEMA = EventSchema.of(fraud())
NOW = 1_800_000_000_000_000


class Paper:
    """A spool that keeps what it is given."""

    def __init__(self) -> None:
        self.plans: list[PlanRecord] = []
        self.batches: list[list[ScoreRecord]] = []
        self.full = False
        self.broken = False

    def declare(self, plan: PlanRecord) -> None:
        self.plans.append(plan)

    def require_room(self, events: int) -> None:
        if self.full:
            raise SpoolFull("the spool is at its cap")

    def append(self, records: Sequence[ScoreRecord | LabelRecord]) -> None:
        if self.full or self.broken:
            raise SpoolFull("the disk is full")
        self.batches.append([r for r in records if isinstance(r, ScoreRecord)])

    @property
    def records(self) -> list[ScoreRecord]:
        return [record for batch in self.batches for record in batch]


def event(name: str = "t-1", amount: float = 57.16, minute: int = 0) -> Event:
    values = {"transaction_id": name, "customer_id": "c-1", "terminal_id": "m-1", "amount": amount}
    return SCHEMA.event(values | {"tx_time": datetime(2026, 3, 1, 12, minute, tzinfo=UTC)})


def active_models(seed: int = 1, threshold: float = 0.5, version: str = "3") -> ActiveModels:
    model = tiny_model(seed=seed, threshold=threshold)
    holder = ModelHolder(ModelRef("dev-fraud", version), model, model.contract_digest)
    plan = FeaturePlan.union([model.plan])
    return ActiveModels.of(holder, plan, MemoryWindows(plan.specs), datetime.now(UTC))


class Desk:
    def __init__(self, found: ActiveModels | None = None) -> None:
        self.active_models: ActiveModels | None = found or active_models()
        self.paper = Paper()
        self.scorer = Scorer(Intake("fraud", lambda: self.active_models, self.paper, clock=lambda: NOW))

    def ask(self, *events: Event) -> list[bytes | Exception]:
        return self.scorer.run(events)


def test_an_answer_names_the_event_the_score_the_decision_and_the_model() -> None:
    said = Desk().ask(event())[0]
    assert isinstance(said, bytes)
    found = json.loads(said)
    assert set(found) == {"event_id", "score", "decision", "threshold", "model"}
    assert found["model"] == {"name": "dev-fraud", "version": "3", "alias": "champion"}
    assert found["decision"] == (found["score"] >= found["threshold"])


def test_the_log_holds_each_batch_in_one_write_with_everything_that_was_served() -> None:
    desk = Desk()
    events = [event("t-1"), event("t-2", 10.0, 1)]
    answers = [json.loads(a) for a in desk.ask(*events) if isinstance(a, bytes)]
    assert len(desk.paper.batches) == 1
    assert desk.active_models is not None
    model = tiny_model()
    features = model.plan.rows(events, MemoryWindows(model.plan.specs))
    scores = model.score(features)
    for i, record in enumerate(desk.paper.records):
        assert record.features == features[i].astype("<f4").tobytes()
        assert (record.raw_score, record.score) == (scores.raw[i], scores.calibrated[i])
        assert record.score == answers[i]["score"]
        assert record.body == events[i].as_json()
        assert (record.model, record.version, record.alias) == ("dev-fraud", "3", "champion")
        assert (record.contract, record.received_at, record.origin) == (model.contract_digest, NOW, "live")
    assert [p.plan_id for p in desk.paper.plans] == [desk.paper.records[0].plan_id]
    assert desk.paper.plans[0].names == model.plan.names


def test_a_repeated_event_gets_its_first_answer_and_is_logged_once() -> None:
    desk = Desk()
    first = desk.ask(event())
    desk.active_models = ActiveModels.of(
        active_models(seed=2).holder, desk.active_models.plan, desk.active_models.windows, datetime.now(UTC)
    )  # type: ignore[union-attr]  # there is one
    assert desk.ask(event()) == first
    assert len(desk.paper.records) == 1


def test_a_repeated_id_with_another_body_is_a_conflict_for_itself_alone() -> None:
    desk = Desk()
    desk.ask(event())
    conflict, fine = desk.ask(event(amount=58.0), event("t-2"))
    assert isinstance(conflict, DuplicateEvent)
    assert isinstance(fine, bytes)
    assert "58" not in str(conflict)


def test_repeats_inside_one_batch_are_treated_like_repeats_after_it() -> None:
    desk = Desk()
    first, same, other, fresh = desk.ask(event(), event(), event(amount=1.0), event("t-2"))
    assert first == same
    assert isinstance(other, DuplicateEvent)
    assert isinstance(fresh, bytes)
    assert len(desk.paper.records) == 2


def test_a_batch_gives_the_answers_of_one_by_one() -> None:
    events = [event(f"t-{i}", 5.0 * i, i) for i in range(12)]
    alone = Desk()
    one_by_one = [alone.ask(e)[0] for e in events]
    assert Desk().ask(*events) == one_by_one


def test_nothing_is_answered_when_a_strict_log_is_full_and_a_retry_succeeds() -> None:
    desk = Desk()
    desk.paper.full = True
    with pytest.raises(SpoolFull):
        desk.ask(event())
    desk.paper.full = False
    assert desk.ask(event()) == Desk().ask(event())


def test_an_event_that_a_full_strict_log_refused_is_not_counted_in_later_windows() -> None:
    desk, fresh = Desk(), Desk()
    desk.paper.full = True
    for minute in range(5):
        with pytest.raises(SpoolFull):
            desk.ask(event(f"refused-{minute}", minute=minute))
    desk.paper.full = False
    desk.ask(event("t-2", minute=10))
    fresh.ask(event("t-2", minute=10))
    assert desk.paper.records[0].features == fresh.paper.records[0].features


def test_events_that_the_disk_refused_after_the_windows_counted_them_are_logged_before_the_next_ones() -> None:
    desk, fresh = Desk(), Desk()
    desk.paper.broken = True
    for minute in range(3):
        with pytest.raises(SpoolFull):
            desk.ask(event(f"refused-{minute}", minute=minute))
        with pytest.raises(SpoolFull):  # a retry owes nothing twice that would not be merged by its id
            desk.ask(event(f"refused-{minute}", minute=minute))
    desk.paper.broken = False
    desk.ask(event("t-2", minute=10))
    assert [(r.event_id, r.origin) for r in desk.paper.records][-1] == ("t-2", "live")
    assert {(r.event_id, r.origin) for r in desk.paper.records[:-1]} == {(f"refused-{n}", "event") for n in range(3)}
    fresh.ask(*(event(f"refused-{n}", minute=n) for n in range(3)))
    fresh.ask(event("t-2", minute=10))
    assert desk.paper.records[-1].features == fresh.paper.records[-1].features
    assert isinstance(desk.ask(event("refused-1", minute=1))[0], bytes)


def test_without_an_office_nothing_is_scored() -> None:
    desk = Desk()
    desk.active_models = None
    with pytest.raises(ModelNotReady):
        desk.ask(event())


def test_a_score_that_is_no_number_is_an_error_and_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = active_models()
    assert isinstance(found.holder, ModelHolder)
    found.holder.__dict__["predict"] = lambda rows: np.full(len(rows), np.nan, dtype=np.float32)
    desk = Desk(found)
    assert isinstance(desk.ask(event())[0], ModelCorrupt)
    # The windows have counted the event, so the log holds it, unanswered.
    assert [(r.event_id, r.origin, r.score) for r in desk.paper.records] == [("t-1", "event", None)]
    del found.holder.__dict__["predict"]
    later = desk.ask(event("t-2", minute=5))
    assert isinstance(later[0], bytes)
    assert isinstance(desk.ask(event())[0], bytes)
    fresh = Desk()
    fresh.ask(event())
    fresh.ask(event("t-2", minute=5))
    assert [r.features for r in desk.paper.records[1:]] == [r.features for r in fresh.paper.records[::-1]]


def test_answers_differ_by_decision_at_the_threshold() -> None:
    exact = json.loads(Desk().ask(event())[0])["score"]  # type: ignore[arg-type]  # an answer
    assert json.loads(Desk(active_models(threshold=exact)).ask(event())[0])["decision"]  # type: ignore[arg-type]  # an answer
    above = float(np.nextafter(exact, 1.0))
    assert not json.loads(Desk(active_models(threshold=above)).ask(event())[0])["decision"]  # type: ignore[arg-type]  # an answer


def test_a_list_tells_each_row_its_own_error() -> None:
    desk = Desk()
    desk.ask(event())
    rows = row_answers(desk.scorer.run, [event(amount=2.0), event("t-2")])
    assert rows[0]["error"]["code"] == "conflict"
    assert rows[1]["event_id"] == "t-2"
    desk.active_models = None
    assert [row["error"]["code"] for row in row_answers(desk.scorer.run, [event()])] == ["not_ready"]


def test_an_external_score_is_answered_and_logged_like_a_model() -> None:
    plan = FeaturePlan.union([FeaturePlan.of(fraud())])
    holder = ExternalHolder(ExternalIncumbent(column="amount", threshold=0.4), plan)
    desk = Desk(ActiveModels.of(holder, plan, MemoryWindows(plan.specs), datetime.now(UTC)))
    found = json.loads(desk.ask(event(amount=0.5))[0])  # type: ignore[arg-type]  # an answer
    assert (found["score"], found["decision"]) == (0.5, True)
    assert found["model"] == {"name": "amount", "version": "0", "alias": "external"}
    assert desk.paper.records[0].features is not None


def test_an_event_without_the_external_score_is_refused_as_the_client_s_mistake() -> None:
    plan = FeaturePlan.union([FeaturePlan.of(fraud())])
    holder = ExternalHolder(ExternalIncumbent(column="amount", threshold=0.4), plan)
    desk = Desk(ActiveModels.of(holder, plan, MemoryWindows(plan.specs), datetime.now(UTC)))
    refused, fine = desk.ask(event(amount=57.0), event("t-2", amount=0.1))
    assert isinstance(refused, EventError)
    assert isinstance(fine, bytes)
    alone = Desk(ActiveModels.of(holder, plan, MemoryWindows(plan.specs), datetime.now(UTC)))
    alone.ask(event("t-2", amount=0.1))
    assert [r.features for r in desk.paper.records] == [r.features for r in alone.paper.records]


def test_an_event_that_a_model_answered_keeps_its_answer_where_its_external_score_would_be_refused() -> None:
    desk = Desk()
    first = desk.ask(event(amount=57.0))
    assert desk.active_models is not None
    holder = ExternalHolder(ExternalIncumbent(column="amount", threshold=0.4), desk.active_models.plan)
    desk.active_models = ActiveModels.of(holder, desk.active_models.plan, desk.active_models.windows, datetime.now(UTC))
    assert desk.ask(event(amount=57.0)) == first
    assert isinstance(desk.ask(event(amount=58.0))[0], DuplicateEvent)


def test_the_quick_way_to_predict_gives_the_bits_of_the_long_one() -> None:
    model = tiny_model(trees=50)
    predict = model.booster.quick_predict(model.golden.features)
    rng = np.random.default_rng(5)
    for count in (1, 2, 7, 300):
        rows = rng.gamma(2.0, 30.0, (count, len(model.plan.names))).astype(np.float32)
        rows[rng.random(rows.shape) < 0.1] = np.nan
        assert np.array_equal(predict(rows), model.score(rows).raw)


def test_the_quick_way_refuses_rows_that_it_would_misread() -> None:
    model = tiny_model()
    predict = model.booster.quick_predict(model.golden.features)
    with pytest.raises(TypeError):
        predict(np.asfortranarray(model.golden.features))
    with pytest.raises(TypeError):
        predict(model.golden.features.astype(np.float64))  # type: ignore[arg-type]  # the point


def test_where_the_quick_way_differs_the_long_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(
        "bentos.model.xgboost_booster._direct", lambda booster: lambda rows: np.zeros(len(rows), dtype=np.float32)
    )
    predict = model.booster.quick_predict(model.golden.features)
    assert np.array_equal(predict(model.golden.features), model.golden.raw)
