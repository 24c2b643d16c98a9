"""``incumbent labels status`` on a real database, days that wait for the shadow, comparisons that end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bentos.plans import end_comparisons
from bentos.release import promote
from flows.cli import main
from flows.steps.labelstatus import label_status
from monitoring.store import Store
from tests.integration.test_comparison_plan import Arena
from tests.logged import at, label, scored, shadowed
from tests.releases import harmless


@pytest.fixture
def arena(store: Store, tmp_path: Path) -> Arena:
    return Arena(store, tmp_path)


def test_the_ledger_reads_the_log_and_tells_provisional_from_final_cost(arena: Arena) -> None:
    arena.live(20, gain=0.5)
    usecase, store = arena.usecase, arena.store
    store.labels.add([label(41, 1, 3), label(41, 0, 4)], usecase.label)  # one source says both
    store.labels.add([label(99_999, 1, 3)], usecase.label)
    found = label_status(store, usecase, at(20))
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


def test_a_stronger_source_revises_and_the_history_shows_it(arena: Arena) -> None:
    arena.live(3)
    assert len(arena.usecase.label.sources) > 1
    strong, weak = arena.usecase.label.sources[:2]
    arena.store.labels.add([label(1, 1, 1, source=weak), label(1, 0, 2, source=strong)], arena.usecase.label)
    assert sum(day.revised for day in label_status(arena.store, arena.usecase, at(3)).days) == 1
    assert sum(day.revised for day in label_status(arena.store, arena.usecase, at(1.5)).days) == 0


def test_a_day_waits_until_the_shadow_has_caught_up(arena: Arena) -> None:
    arena.live(4, gain=0.5)
    numbers = range(4 * 40, 5 * 40)
    body = b'{"customer_id":"c1","amount":5}'
    arena.store.log.append([scored(n, 4.5, body=body) for n in numbers])
    arena.store.shadow.append([shadowed(n) for n in numbers[:-2]])
    found = arena.compare(13)
    assert found.result.days == 4
    assert "behind on 2 matured events" in found.warnings[-1]
    assert len(arena.store.comparisons.days(found.stored.id, at(13))) == 4
    # One is scored, the other fails: both are known now, and the failure is held against the challenger.
    arena.store.shadow.append([shadowed(numbers[-2]), shadowed(numbers[-1], error="no", score=None, decision=None)])
    later = arena.compare(13)
    assert (later.result.days, later.result.challenger_errors) == (5, 1)
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
