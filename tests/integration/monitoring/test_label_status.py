"""``incumbent labels status`` on a real database, days that wait for the shadow, comparisons that end."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from bentos.promotion.comparison_plans import end_comparisons
from bentos.promotion.request import Request
from bentos.usecase.options import InterventionPolicy
from flows.cli import main
from flows.sources.log import LogSource
from flows.steps.comparison.compare import compare, renew_plan
from flows.steps.comparison.replay_verdict import find_verdict, record_verdict, replay_decision
from flows.steps.drift.check import matured_fairness
from flows.steps.drift.matured_answers import read_matured_answers
from flows.steps.drift.recent_cost import daily_cost
from flows.steps.reports.label_status import read_label_status
from flows.steps.reports.month import build_month_report
from monitoring.store import ActionRecord, Store
from monitoring.store.database.frames import to_us
from tests.integration.monitoring.test_comparison_plan import Arena
from tests.support.log.logged import at, days, label, scored, shadowed
from tests.support.releases import harmless, promote


@pytest.fixture
def arena(store: Store, tmp_path: Path) -> Arena:
    return Arena(store, tmp_path)


def test_the_ledger_reads_the_log_and_tells_provisional_from_final_cost(arena: Arena) -> None:
    arena.live(20, gain=0.5)
    usecase, store = arena.usecase, arena.store
    store.labels.add([label(41, 1, 3), label(41, 0, 4)], usecase.label)  # one source says both
    store.labels.add([label(99_999, 1, 3)], usecase.label)
    found = read_label_status(store, usecase, at(20))
    assert len(found.days) == 20
    assert (found.days[1].conflicting, found.days[1].conflicting_amount) == (1, 41.0)
    assert found.parked == 1
    assert found.curve.share == pytest.approx(0.4, abs=0.03)
    assert found.days[0].matured
    assert found.days[-1].immature == 40
    assert found.final.cost > 0.0
    assert found.provisional.days == 7
    told = found.to_json()
    assert json.loads(json.dumps(told))["total"] == told["total"]
    assert told["total"]["events"] == 800


def test_days_that_have_matured_are_listed_too_however_long_labels_take(arena: Arena) -> None:
    arena.live(40, gain=0.5)
    slow = arena.usecase.label.model_copy(update={"matures_after": timedelta(days=30)})
    found = read_label_status(arena.store, arena.usecase.model_copy(update={"label": slow}), at(40))
    assert found.final.days == 10
    assert len(found.days) == 40
    assert len(read_label_status(arena.store, arena.usecase, at(40)).days) == 29  # the thirtieth has just begun
    assert len(read_label_status(arena.store, arena.usecase, at(40), 5).days) == 4


def test_a_list_of_days_without_events_says_where_the_events_are(arena: Arena) -> None:
    arena.live(3)
    assert not read_label_status(arena.store, arena.usecase, at(3)).warnings
    (warning,) = read_label_status(arena.store, arena.usecase, at(200)).warnings
    assert f"newest event of the log is of {at(2):%Y-%m-%d}" in warning
    assert "--as-of" in warning


def test_a_stronger_source_revises_and_the_history_shows_it(arena: Arena) -> None:
    arena.live(3)
    assert len(arena.usecase.label.sources) > 1
    strong, weak = arena.usecase.label.sources[:2]
    arena.store.labels.add([label(1, 1, 1, source=weak), label(1, 0, 2, source=strong)], arena.usecase.label)
    assert sum(day.revised for day in read_label_status(arena.store, arena.usecase, at(3)).days) == 1
    assert sum(day.revised for day in read_label_status(arena.store, arena.usecase, at(1.5)).days) == 0


def test_a_day_waits_until_the_shadow_has_caught_up(arena: Arena) -> None:
    arena.live(4, gain=0.5)
    numbers = range(4 * 40, 5 * 40)
    body = b'{"customer_id":"c1","amount":5}'
    arena.store.log.append([scored(n, 4.5, body=body) for n in numbers])
    arena.store.shadow.append([shadowed(n) for n in numbers[:-3]])
    failed = {"error": "no", "score": None, "decision": None}
    arena.store.shadow.append([shadowed(numbers[-3], **failed)])
    found = arena.compare(13)
    assert found.result.days == 4
    assert (found.result.challenger_errors, found.result.unscored) == (0, 0), "what fails on a day that waits, waits"
    assert "behind on 2 matured events" in found.warnings[-1]
    assert len(arena.store.comparisons.days(found.stored.id, at(13))) == 4
    # One is scored, the other fails: both are known now, and the failure is held against the challenger.
    arena.store.shadow.append([shadowed(numbers[-2]), shadowed(numbers[-1], **failed)])
    later = arena.compare(13)
    assert (later.result.days, later.result.challenger_errors) == (5, 2)
    assert not any("behind" in text for text in later.warnings)


def test_young_days_show_their_cost_beside_the_decision(arena: Arena) -> None:
    arena.live(8, gain=0.5)
    found = arena.compare(9)
    assert found.provisional is not None
    assert found.provisional.days == 6
    assert found.provisional.champion > found.provisional.challenger
    assert "provisional_cost" in found.to_json()["not_used_in_the_decision"]


def test_every_road_of_a_promotion_ends_the_comparison(arena: Arena) -> None:
    arena.live(20, gain=0.6)
    found = arena.compare(27)
    assert found.verdict.promotes
    promote(
        arena.registry, arena.store, found.verdict, usecase=arena.usecase, actor="ann", now=at(27), check=harmless
    )  # fmt: skip
    (stored,) = arena.store.comparisons.list("fraud")
    assert (stored.outcome, stored.verdict_digest) == ("promote", found.verdict.digest)
    assert end_comparisons(arena.store, "fraud", "dev-fraud/2", None, at(28), "ann") == 0


def test_a_promotion_without_a_verdict_replaces_the_comparison(arena: Arena) -> None:
    assert end_comparisons(arena.store, "fraud", "dev-fraud/2", None, at(3), "ann") == 1
    (stored,) = arena.store.comparisons.list("fraud")
    assert (stored.outcome, stored.verdict_digest) == ("replaced", None)


def test_the_command_prints_an_empty_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(tmp_path))
    assert main(["labels", "status", "--usecase", "fraud", "--as-of", "2026-03-01", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["days"], found["total"]["parked"]) == ([], 0)


def blocking(arena: Arena, share: float) -> Arena:
    policy = InterventionPolicy(blocks_flagged=True, exploration_share=share)
    arena.usecase = arena.usecase.model_copy(update={"intervention": policy})
    renew_plan(arena.store, arena.usecase, arena.duel(0.1), Request("ann", "flagged events are blocked", at(0)))
    return arena


def test_a_blocked_event_is_no_negative_and_its_verdict_replays(arena: Arena) -> None:
    blocking(arena, 0.0)
    blocked = 0
    for day in range(5):
        numbers = range(day * 40, day * 40 + 40)
        told = {"propensity": 0.0, "action": "block", "decision": True}
        free = {"propensity": 1.0, "action": "let_through", "decision": False}
        stopped = [n for n in numbers if n % 4 == 0 and n % 40 < 20 + 4 * day]
        blocked += len(stopped)
        arena.store.log.append([scored(n, day + 0.5, **(told if n in stopped else free)) for n in numbers])
        arena.store.shadow.append([shadowed(n, decision=n % 4 == 1) for n in numbers])
        arena.store.labels.add([label(n, 1, day + 1) for n in numbers if n % 8 == 1], arena.usecase.label)
    released = ActionRecord("fraud", "e00000", "let_through", "analyst", to_us(at(1)), 0)
    assert arena.store.actions.add([released, released]) == 1
    found = compare(arena.store, arena.usecase, arena.snapshots, arena.duel(13), at(13), "ann")
    first = found.result.series[0]
    assert found.result.unseen == blocked - 1  # one was released
    assert first.unseen is not None
    assert (first.unseen.a, first.rows) == (4, 36)
    assert found.verdict.outcome == "keep_watching"
    assert found.verdict.check("identification").status == "INSUFFICIENT"
    record_verdict(arena.store, arena.usecase, found, at(13), "ann")
    decision = find_verdict(arena.store, "fraud", found.verdict.digest)
    assert replay_decision(arena.store, [arena.snapshots], arena.usecase, decision).identical
    # The frozen days hold what was seen and what was not, and judge alike later on.
    assert arena.compare(13).verdict == found.verdict


def test_what_was_blocked_is_a_negative_nowhere(arena: Arena) -> None:
    blocking(arena, 0.0)
    store, usecase = arena.store, arena.usecase
    for day in range(12):
        numbers = range(day * 40, day * 40 + 40)
        told = {"propensity": 0.0, "action": "block", "decision": True}
        free = {"propensity": 1.0, "action": "let_through", "decision": False}
        store.log.append([scored(n, day + 0.5, **(told if n % 4 == 0 else free)) for n in numbers])
        store.shadow.append([shadowed(n, decision=n % 4 == 1) for n in numbers])
        store.labels.add([label(n, 1, day + 1) for n in numbers if n % 8 == 1], usecase.label)
    store.labels.add([label(0, 1, 2)], usecase.label)  # an analyst looked at it
    store.actions.add([ActionRecord("fraud", "e00004", "let_through", "analyst", to_us(at(1)), 0)])
    found = read_label_status(store, usecase, at(12))
    matured = [day for day in found.days if day.matured]
    assert sum(day.unknown for day in matured) == found.final.blocked == 10 * len(matured) - 2
    assert found.final.labelled == 40 * len(matured) - found.final.blocked
    assert found.final.false_alarms == 1  # the released one: its silence is a label
    assert "were blocked and have no label" in found.warnings[0]
    month = build_month_report(store, usecase, at(0).date(), at(12))
    assert month.unlabelled == 120 - 2
    assert month.final is not None
    spent = {day["state"]: day for day in daily_cost(usecase, read_matured_answers(store, usecase, at(12)))["days"]}
    assert (spent["provisional"]["alerts"], spent["provisional"]["positives"]) == (10, 5)
    assert arena.compare(12).provisional is None
    events = store.log.event_frame("fraud", days(0, 12), at(12), {})
    events = events.rename(columns={"event_id": usecase.event_id, "event_time": usecase.event_time})
    labels, _ = LogSource(usecase, store).labels(events, events, at(12))
    unseen = {f"e{n:05d}" for n in range(8, 40, 4)}
    assert unseen.isdisjoint(labels["event_id"])
    assert {"e00000", "e00004", "e00002"} <= set(labels["event_id"])


def test_fairness_of_a_use_case_that_blocks_compares_flags_alone(arena: Arena) -> None:
    fairness = arena.usecase.fairness.model_copy(update={"sensitive": ("customer_id",), "min_rows": 5})
    blocking(arena, 0.0)
    usecase = arena.usecase.model_copy(update={"fairness": fairness})
    for day in range(8):
        rows = [
            scored(
                n, day + 0.5, decision=n % 4 == 0, action="block" if n % 4 == 0 else "let_through",
                propensity=float(n % 4 > 0),
                body=b'{"transaction_id":"e%05d","customer_id":"c%d","amount":5}' % (n, n % 8 // 4),
            )
            for n in range(day * 40, day * 40 + 40)
        ]  # fmt: skip
        arena.store.log.append(rows)
        arena.store.labels.add([label(n, 1, day + 1) for n in range(day * 40, day * 40 + 40, 5)], usecase.label)
    report = matured_fairness(usecase, read_matured_answers(arena.store, usecase, at(15)))
    assert report is not None
    assert [one.flagged for one in report.slices] == [35, 35]
    assert all(one.recall.value is None and one.precision.value is None for one in report.slices)
    assert {one.status for one in report.comparisons if one.measure == "opportunity"} == {"INSUFFICIENT"}
