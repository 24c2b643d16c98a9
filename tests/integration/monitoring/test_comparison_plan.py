"""The frozen plan of a comparison and its frozen days, on every kind of database."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from bentos.promotion.promote import ReleaseContext, Request
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused
from flows.snapshots.store import SnapshotStore
from flows.steps.comparison.compare import (
    LATENCY,
    ComparisonResult,
    ModelPair,
    compare,
    compared_models,
    drop_lagging_days,
    renew_plan,
    retire_challenger,
)
from flows.steps.comparison.replay_verdict import record_verdict, replay_decision
from monitoring.comparison.judge import judge_plan
from monitoring.comparison.plan import ComparisonPlan
from monitoring.errors import JournalConflict, MonitoringError
from monitoring.policies import CostModel
from monitoring.policies.label_rules import LabelRules
from monitoring.store import Report, Store
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.log.logged import START, at, label, scored, shadowed
from tests.support.release_requests import appoint, install_first
from tests.support.releases import MODEL, harmless, passed, promote, ref, registry_of

EASY = {"min_matured_days": 3, "min_matured_positives": 5, "max_false_positive_rate_increase": 0.1}


def case(**promotion: Any) -> UseCase:
    usecase = fraud()
    return usecase.model_copy(update={"promotion": usecase.promotion.model_copy(update=EASY | promotion)})


class Arena:
    """Version 1 active, version 2 appointed at the start; every day 40 events, the even ones fraud."""

    def __init__(self, store: Store, folder: Path, usecase: UseCase | None = None) -> None:
        self.store, self.usecase = store, usecase or case()
        self.snapshots = SnapshotStore(folder / "snapshots")
        self.registry: FakeRegistry = registry_of(folder)
        named: dict[str, Any] = {"usecase": self.usecase, "actor": "ann", "now": START, "check": harmless}
        install_first(self.registry, store, passed("1"), **named)
        appoint(self.registry, store, ref("2"), "challenger", reason="it passed", **named)

    @property
    def context(self) -> ReleaseContext:
        return ReleaseContext(self.registry, self.store, self.usecase, MODEL, harmless)

    def live(self, days: int, gain: float = 0.0, first: int = 0) -> None:
        rng = np.random.default_rng(first)
        for day in range(first, first + days):
            numbers = [day * 40 + n for n in range(40)]
            truth = {n: n % 2 == 0 for n in numbers}
            own = {n: bool(truth[n] and rng.random() < 0.5) for n in numbers}
            new = {n: own[n] or bool(truth[n] and n % 10 and rng.random() < gain) for n in numbers}
            body = b'{"customer_id":"c%d","amount":%d}'
            self.store.log.append([scored(n, day + 0.5, decision=own[n], body=body % (n % 7, n % 90)) for n in numbers])
            self.store.shadow.append([shadowed(n, decision=new[n]) for n in numbers])
            told = [label(n, 1, day + 1) for n in numbers if truth[n] and n % 10]
            self.store.labels.add(told, self.usecase.label)

    def duel(self, day: float) -> ModelPair:
        return compared_models(self.store, self.registry, self.usecase, MODEL, at(day))

    def compare(self, day: float, usecase: UseCase | None = None) -> ComparisonResult:
        return compare(self.store, usecase or self.usecase, self.snapshots, self.duel(day), at(day), "ann")


@pytest.fixture
def arena(store: Store, tmp_path: Path) -> Arena:
    return Arena(store, tmp_path)


def test_a_plan_is_frozen_when_the_challenger_enters_shadow_and_stands_in_the_chain(arena: Arena) -> None:
    (stored,) = arena.store.comparisons.list("fraud")
    assert (stored.plan.champion, stored.plan.challenger) == ("dev-fraud/1", "dev-fraud/2")
    assert stored.plan.first_day == START.date()
    assert stored.plan.promotion["min_matured_days"] == 3
    assert stored.plan_hash == stored.plan.digest
    (opened,) = arena.store.decisions.list("fraud", kinds=("comparison.opened",))
    assert opened.payload["plan_hash"] == stored.plan_hash
    assert ComparisonPlan.from_json(opened.payload["plan"]) == stored.plan
    assert arena.store.decisions.verify() == []


def test_a_changed_policy_file_does_not_reach_a_running_comparison(arena: Arena) -> None:
    arena.live(5, gain=0.5)
    before = arena.compare(12)
    changed = case(min_matured_positives=10_000).model_copy(update={"cost": CostModel(false_negative=7.0)})
    after = arena.compare(12, changed)
    assert after.verdict == before.verdict
    assert after.verdict.plan_hash == before.stored.plan_hash
    assert before.warnings == ()
    assert "promotion.min_matured_positives" in after.warnings[0]
    assert "cost.false_negative" in after.warnings[0]
    assert "--new-plan" in after.warnings[0]


def test_starting_anew_takes_a_reason_and_begins_on_the_next_day(arena: Arena) -> None:
    arena.live(5, gain=0.5)
    arena.compare(12)
    with pytest.raises(FlowRefused, match="reason"):
        renew_plan(arena.store, arena.usecase, arena.duel(12.5), Request("ann", " ", at(12.5)))
    changed = case(min_matured_positives=10_000)
    made = renew_plan(arena.store, changed, arena.duel(12.5), Request("ann", "the margin was wrong", at(12.5)))
    assert made.plan.first_day == date(2026, 3, 15)
    first, second = arena.store.comparisons.list("fraud")
    assert (first.outcome, second.outcome) == ("replaced", None)
    found = arena.compare(13, changed)
    assert (found.result.days, found.verdict.plan_hash) == (0, made.plan_hash)
    # The day before the change is still judged by the plan of that day.
    assert arena.compare(12).stored.id == first.id


def test_frozen_days_are_not_rewritten_and_late_labels_are_counted_beside_them(arena: Arena) -> None:
    arena.live(6, gain=0.5)
    before = arena.compare(11)
    late = [label(number, 1, 11.5) for number in (0, 10, 20)]
    arena.store.labels.add(late, arena.usecase.label)
    after = arena.compare(13)
    assert after.result.days == before.result.days + 2
    assert after.result.series[: before.result.days] == before.result.series
    assert (after.result.late.labels, after.result.late.positives) == (3, 3)
    assert "3 labels came after" in after.warnings[0]
    assert arena.compare(13).result == after.result


def test_a_past_day_is_judged_by_what_was_frozen_then(arena: Arena) -> None:
    arena.live(6, gain=0.5)
    late = arena.compare(13)
    arena.store.labels.add([label(0, 1, 12)], arena.usecase.label)
    early = arena.compare(11)
    assert early.result.days == 4
    assert early.result.late.labels == 0
    assert len(arena.store.comparisons.days(late.stored.id, at(13))) == 6


def test_a_look_into_the_future_freezes_nothing(arena: Arena) -> None:
    arena.live(3)
    found = arena.compare(4000)
    assert not found.current
    assert arena.store.comparisons.days(found.stored.id, at(4000)) == []


def test_the_database_refuses_to_change_a_frozen_day(arena: Arena) -> None:
    arena.live(3)
    found = arena.compare(10)
    for statement in ("UPDATE comparison_days SET payload = '{}'", "DELETE FROM comparison_days"):
        with pytest.raises(MonitoringError), arena.store.database.write() as connection:
            connection.execute(text(statement))
    assert arena.store.comparisons.freeze(found.stored.id, found.result.series, at(11)) == 0


def test_a_day_that_was_changed_behind_the_guards_is_noticed(tmp_path: Path) -> None:
    from monitoring.store import memory_store

    with_guards = memory_store()
    arena = Arena(with_guards, tmp_path)
    arena.live(3)
    found = arena.compare(10)
    with with_guards.database.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER comparison_days_no_update")
        connection.exec_driver_sql("""UPDATE comparison_days SET payload = replace(payload, '"tp_b":', '"tp_b":1')""")
    with pytest.raises(JournalConflict, match="changed"):
        with_guards.comparisons.days(found.stored.id, at(10))
    with_guards.close()


def test_a_candidate_enters_shadow_when_the_champion_is_kept(store: Store, tmp_path: Path) -> None:
    arena = Arena(store, tmp_path, case(max_shadow_days=12, min_matured_positives=1000))
    named: dict[str, Any] = {"usecase": arena.usecase, "actor": "ann", "check": harmless}
    appoint(arena.registry, store, ref("3"), "candidate", reason="it passed", now=at(5), **named)
    arena.live(12, gain=0.02)
    found = arena.compare(12)
    assert retire_challenger(arena.context, found, Request("ann", "", at(12)))
    assert arena.registry.roles(MODEL)["challenger"] == ref("3")
    assert "candidate" not in arena.registry.roles(MODEL)
    ended, begun = store.comparisons.list("fraud")
    assert (ended.outcome, ended.plan.challenger) == ("keep", "dev-fraud/2")
    assert (begun.closed_at, begun.plan.challenger) == (None, "dev-fraud/3")


def test_sixty_days_without_a_verdict_keep_the_champion_and_retire_the_challenger(store: Store, tmp_path: Path) -> None:
    arena = Arena(store, tmp_path, case(max_shadow_days=12, min_matured_positives=1000))
    arena.live(12, gain=0.02)
    waiting = arena.compare(11)
    assert not retire_challenger(arena.context, waiting, Request("ann", "", at(11)))
    found = arena.compare(12)
    assert found.verdict.outcome == "keep"
    past = replace(found, current=False)  # a look at a day that is over dismisses nobody
    assert not retire_challenger(arena.context, past, Request("ann", "", at(12)))
    assert arena.registry.roles(MODEL)["challenger"] == ref("2")
    assert "no verdict after 12 days" in found.verdict.reasons[0]
    assert retire_challenger(arena.context, found, Request("ann", "", at(12)))
    assert "challenger" not in arena.registry.roles(MODEL)
    assert store.decisions.role_at(MODEL, "challenger", at(12)) is None
    (ended,) = store.comparisons.list("fraud")
    assert (ended.outcome, ended.verdict_digest) == ("keep", found.verdict.digest)
    kinds = [d.kind for d in store.decisions.list("fraud")][-2:]
    assert kinds == ["dismissal", "comparison.closed"]
    with pytest.raises(FlowRefused, match="under comparison"):
        arena.duel(13)


def test_a_promotion_closes_the_comparison_once(arena: Arena) -> None:
    arena.live(14, gain=0.6)
    found = arena.compare(21)
    assert found.verdict.outcome == "promote", found.verdict.reasons
    for _ in range(2):  # asked again, it is one promotion
        promote(arena.registry, arena.store, found.verdict, usecase=arena.usecase, actor="ann", now=at(21),
                check=harmless)  # fmt: skip
    (ended,) = arena.store.comparisons.list("fraud")
    assert (ended.outcome, ended.verdict_digest) == ("promote", found.verdict.digest)
    assert len(arena.store.decisions.list("fraud", ("comparison.closed",))) == 1


def test_plan_rows_and_frozen_days_give_the_verdict_again_bit_for_bit(arena: Arena) -> None:
    arena.live(8, gain=0.4)
    arena.compare(12)
    found = arena.compare(15)
    (stored,) = arena.store.comparisons.list("fraud")
    duel = arena.duel(15)
    window_rows = arena.store.log.paired(
        "fraud", (duel.champion, duel.challenger), _window(), at(15),
        LabelRules(stored.plan.label_policy, stored.plan.calendar),
        {name: arena.usecase.column(name).type for name in stored.plan.columns},
    )  # fmt: skip
    again = judge_plan(stored.plan, window_rows, arena.store.comparisons.days(stored.id, at(15)), as_of=at(15))
    assert again.verdict.digest == found.verdict.digest


def _window() -> Any:
    from tests.support.log.logged import days

    return days(0, 15)


def test_the_cap_of_amounts_is_frozen_before_the_comparison_begins(store: Store, tmp_path: Path) -> None:
    usecase = case().model_copy(update={"cost": CostModel(false_negative="amount")})
    body = b'{"customer_id":"c1","amount":%d}'
    store.log.append([scored(90_000 + n, -2, decision=n < 10, body=body % n) for n in range(100)])
    arena = Arena(store, tmp_path, usecase)
    arena.live(3)
    (stored,) = store.comparisons.list("fraud")
    assert stored.plan.cost_cap == pytest.approx(98.9, abs=0.1)
    assert stored.plan.alert_rate == pytest.approx(0.1)
    assert arena.compare(10).result.cost_cap == stored.plan.cost_cap


def trained(arena: Arena, version: str, p99_ms: float) -> None:
    payload = {"evidence": {"latency_p99_ms": p99_ms}}
    arena.store.reports.add(Report("fraud", "training", START, "pass", payload, challenger=f"{MODEL}/{version}"))


def test_what_one_event_takes_is_a_guard_of_the_comparison_and_its_verdict_replays(arena: Arena) -> None:
    arena.live(5, gain=0.5)
    assert all(check.name != LATENCY for check in arena.compare(11).verdict.checks)
    trained(arena, "1", 0.9)
    trained(arena, "2", 250.0)
    found = arena.compare(12)
    guard = found.verdict.check(LATENCY)
    assert (guard.status, guard.value, guard.threshold) == ("FAIL", 250.0, 100.0)
    assert "0.9 ms with the champion" in guard.detail
    assert found.verdict.outcome == "keep"
    decision = record_verdict(arena.store, arena.usecase, found, at(12), "ann")
    assert decision is not None
    trained(arena, "2", 1.0)
    assert replay_decision(arena.store, [arena.snapshots], arena.usecase, decision).identical


def test_a_day_that_was_judged_waits_no_more_for_its_shadow() -> None:
    days = [date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4)]
    rows = pd.DataFrame({"day": pd.to_datetime(days), "event_id": ["a", "b", "c"]})
    rows.attrs["counts"] = SimpleNamespace(behind=((days[0], 4), (days[2], 2)))
    judged: Any = [SimpleNamespace(day=SimpleNamespace(day=days[0]))]

    kept, (said,) = drop_lagging_days(rows, judged)
    assert kept["event_id"].tolist() == ["a", "b"]
    assert said.startswith("the challenger's shadow is behind on 2 matured events: 2026-03-04")
    none, (said,) = drop_lagging_days(rows, ())
    assert none.empty
    assert said.startswith("the challenger's shadow is behind on 6 matured events: 2026-03-02")
