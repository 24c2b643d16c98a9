"""The watch after a promotion, on a log with a registry and a chain; time is told, not waited for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bentos.errors import NothingToRollBack, StaleDecision
from bentos.promotion.context import ReleaseContext
from bentos.release.watch import KIND, Watch, watched_term
from bentos.usecase.definition import ExternalIncumbent, InterventionPolicy, UseCase
from flows.drills.interleaving import ObservedPart
from monitoring.core.verdict import Check
from monitoring.rollout.post_promotion_watch import WatchPolicy
from monitoring.store import LabelRecord, ScoreRecord, ShadowRecord, Store, memory_store
from monitoring.store.database.frames import to_us
from tests.support.builders import fraud
from tests.support.fakes import FakeRegistry
from tests.support.release_requests import appoint, rollback
from tests.support.releases import MODEL, NOW, compared, harmless, promote, promoted_once, ref, registry_of

POLICY = WatchPolicy()


@pytest.fixture
def store() -> Store:
    return memory_store()


@pytest.fixture
def registry(tmp_path: Path, store: Store) -> FakeRegistry:
    return promoted_once(tmp_path, store)


SOON = timedelta(seconds=1)


def serve(
    store: Store,
    ours: int,
    theirs: int,
    events: int = 1000,
    *,
    answers: str = "2",
    received: datetime | None = None,
    happened: datetime | None = None,
    prefix: str = "e",
    scores: Sequence[float] = (0.5,),
    blocked: bool = False,
    vendor: bool = False,
) -> None:
    """One version answers, the other scores the same events; the first ones are flagged."""
    at = to_us(received or datetime.now(UTC) + SOON)
    when = at if happened is None else to_us(happened)
    other, role = ("1", "previous") if answers == "2" else ("2", "challenger")
    values = [scores[n % len(scores)] for n in range(events)]
    store.log.append(
        [
            ScoreRecord("fraud", f"{prefix}{n}", when, at, "live", b"{}", None, None, MODEL, answers, "champion", None,
                        values[n], values[n], 0.5, n < ours, 0.0 if blocked else None,
                        action="block" if blocked else None)
            for n in range(events)
        ]
    )  # fmt: skip
    store.shadow.append(
        [ShadowRecord("fraud", f"{prefix}{n}", "vendor_score" if vendor else MODEL, "0" if vendor else other,
                      "external" if vendor else role, 0.5, 0.5, 0.5, n < theirs, None, at)
         for n in range(events)]
    )  # fmt: skip


def look(registry: FakeRegistry, store: Store, usecase: UseCase | None = None) -> str | None:
    watch = Watch(ReleaseContext(registry, store, usecase or fraud(), MODEL, harmless))
    done = watch.run_once(datetime.now(UTC) + 2 * SOON)
    return None if done is None else done.to_version


def checks(registry: FakeRegistry, store: Store) -> dict[str, Check]:
    """What the guards say now, by name."""
    now = datetime.now(UTC) + 2 * SOON
    term = watched_term(store, fraud(), MODEL, now)
    assert term is not None
    return {one.name: one for one in Watch(ReleaseContext(registry, store, fraud(), MODEL, harmless)).look(term, now)}


def test_a_champion_that_flags_everybody_is_rolled_back_with_its_evidence(registry: FakeRegistry, store: Store) -> None:
    serve(store, 1000, 10)
    assert look(registry, store) == "1"
    assert registry.resolve(MODEL, "champion").version == "1"
    noted = store.decisions.last("fraud", (KIND,))
    assert noted is not None
    said = {one["name"]: one["status"] for one in noted.payload["checks"]}
    assert (said["alert_rate_low"], said["alert_rate_high"]) == ("PASS", "FAIL")
    done = store.journal.recent(MODEL)[0]
    assert (done.kind, done.state, done.actor) == ("rollback", "DONE", "watch")
    assert noted.id in done.reason
    assert look(registry, store) is None
    assert store.decisions.verify() == []


def test_a_champion_like_the_old_one_stays(registry: FakeRegistry, store: Store) -> None:
    assert look(registry, store) is None
    serve(store, 12, 10)
    assert look(registry, store) is None
    assert registry.resolve(MODEL, "champion").version == "2"


def test_nothing_is_watched_after_the_period_or_after_a_rollback_by_hand(registry: FakeRegistry, store: Store) -> None:
    now = datetime.now(UTC)
    term = watched_term(store, fraud(), MODEL, now)
    assert term is not None
    after = now + POLICY.period + timedelta(minutes=1)
    watch = Watch(ReleaseContext(registry, store, fraud(), MODEL, harmless))
    assert [one.name for one in watch.look(term, after)] == ["matured_harm"]
    ended = after + fraud().label.matures_after + timedelta(days=2)
    assert watched_term(store, fraud(), MODEL, ended) is None
    rollback(registry, store, MODEL, fraud(), "me", "by hand", NOW, check=harmless)
    assert watched_term(store, fraud(), MODEL, now) is None


def test_a_ratio_of_alerts_that_the_shadow_showed_before_is_expected(registry: FakeRegistry, store: Store) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    serve(store, 100, 400, answers="1", received=past, happened=NOW, prefix="before")
    serve(store, 400, 100)
    said = checks(registry, store)
    assert said["alert_rate_high"].status == "PASS"
    assert said["alert_rate_high"].value == pytest.approx(1.0)
    assert look(registry, store) is None


def test_a_champion_whose_requests_fail_or_are_slow_is_rolled_back(registry: FakeRegistry, store: Store) -> None:
    def beat(version: str, requests: int, failed: int, p99: float) -> None:
        told = {"answers": {"requests": requests, "failed": failed, "p99_ms": p99}}
        store.serving.heartbeat("fraud", f"replica-{version}", MODEL, version, version, told)

    beat("1", 1000, 900, 5000.0)  # a replica that still serves the old version says nothing of the new one
    beat("2", 1000, 3, 12.0)
    assert {checks(registry, store)[name].status for name in ("error_rate", "p99_ms")} == {"PASS"}
    beat("2", 100, 100, 5000.0)
    assert checks(registry, store)["p99_ms"].status == "INSUFFICIENT"
    beat("2", 1000, 3, 180.0)
    assert checks(registry, store)["p99_ms"].status == "FAIL"
    beat("2", 1000, 80, 12.0)
    assert checks(registry, store)["error_rate"].status == "FAIL"
    assert look(registry, store) == "1"
    assert store.journal.recent(MODEL)[0].reason.startswith("error_rate: 80 of 1000 requests failed")


def test_a_champion_whose_scores_are_not_those_of_its_shadow_is_rolled_back(
    registry: FakeRegistry, store: Store
) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    low, high = [0.01 * n for n in range(1, 40)], [0.6 + 0.01 * n for n in range(1, 40)]
    shadow_scores(store, low, past)
    serve(store, 10, 10, scores=low)
    assert checks(registry, store)["score_psi"].status == "PASS"
    serve(store, 10, 10, scores=high, prefix="high", received=datetime.now(UTC) + SOON, events=3000)
    assert checks(registry, store)["score_psi"].status == "FAIL"
    assert look(registry, store) == "1"


def shadow_scores(store: Store, scores: Sequence[float], received: datetime) -> None:
    """Version 1 answered a thousand events before the promotion; version 2 gave these scores in shadow."""
    at = to_us(received)
    store.log.append(
        [ScoreRecord("fraud", f"s{n}", to_us(NOW), at, "live", b"{}", None, None, MODEL, "1", "champion", None, 0.5,
                     0.5, 0.5, n < 10, None) for n in range(1000)]
    )  # fmt: skip
    store.shadow.append(
        [ShadowRecord("fraud", f"s{n}", MODEL, "2", "challenger", scores[n % len(scores)], scores[n % len(scores)], 0.5,
                      n < 10, None, at) for n in range(1000)]
    )  # fmt: skip


def frauds(store: Store, days: int, missed_by_new: int, *, first: datetime) -> None:
    """Each day fifty frauds that the old version catches, and the new one misses some of them."""
    for day in range(days):
        when = first + timedelta(days=day)
        serve(store, 50 - missed_by_new - day % 3, 50, 100, happened=when, prefix=f"d{day}-")
        store.labels.add(
            [LabelRecord("fraud", f"d{day}-{n}", 1, to_us(when), "chargeback", to_us(when)) for n in range(50)],
            fraud().label,
        )


def test_matured_cost_that_is_surely_higher_rolls_back_and_young_days_do_not_count(
    registry: FakeRegistry, store: Store
) -> None:
    frauds(store, 7, 20, first=NOW + timedelta(days=1))
    harm = checks(registry, store)["matured_harm"]
    assert harm.status == "INSUFFICIENT"
    assert "0 days" in harm.detail
    serve(store, 0, 0, 1, happened=NOW + timedelta(days=16), prefix="later")
    harm = checks(registry, store)["matured_harm"]
    assert harm.status == "FAIL"
    assert "from 7 units" in harm.detail
    assert look(registry, store) == "1"


def test_cost_is_no_evidence_where_blocked_events_have_no_label_and_nobody_stands_for_them(
    registry: FakeRegistry, store: Store
) -> None:
    blocking = fraud().model_copy(update={"intervention": InterventionPolicy(blocks_flagged=True)})
    frauds(store, 7, 20, first=NOW + timedelta(days=1))
    # Version 2 flags and blocks ten more a day, which nobody will ever learn the truth about.
    for day in range(7):
        serve(store, 10, 0, 10, happened=NOW + timedelta(days=1 + day), prefix=f"blocked{day}-", blocked=True)
    serve(store, 0, 0, 1, happened=NOW + timedelta(days=16), prefix="later")
    now = datetime.now(UTC) + 2 * SOON
    term = watched_term(store, blocking, MODEL, now)
    assert term is not None
    said = {one.name: one for one in Watch(ReleaseContext(registry, store, blocking, MODEL, harmless)).look(term, now)}
    assert said["matured_harm"].status == "INSUFFICIENT"
    assert checks(registry, store)["matured_harm"].status == "FAIL", "where nothing is blocked it is evidence"


def test_a_use_case_may_leave_the_rollback_to_people(registry: FakeRegistry, store: Store) -> None:
    serve(store, 1000, 10)
    by_hand = fraud().model_copy(update={"watch": WatchPolicy(automatic=False)})
    assert look(registry, store, by_hand) is None
    assert look(registry, store, by_hand) is None
    assert registry.resolve(MODEL, "champion").version == "2"
    assert len(store.decisions.list("fraud", (KIND,))) == 1


def test_a_watch_that_died_between_evidence_and_rollback_is_finished_by_the_next(
    registry: FakeRegistry, store: Store
) -> None:
    serve(store, 1000, 10)
    registry.clear(MODEL, "previous")
    with pytest.raises(NothingToRollBack):
        look(registry, store)
    registry.point(MODEL, "previous", "1")
    assert look(registry, store) == "1"
    assert len(store.decisions.list("fraud", (KIND,))) == 1


def test_a_model_that_replaced_an_external_score_is_watched_against_it(tmp_path: Path, store: Store) -> None:
    vendor = fraud().model_copy(update={"incumbent": ExternalIncumbent(column="vendor_score", threshold=0.5)})
    registry = registry_of(tmp_path)
    registry.point(MODEL, "challenger", "2")
    verdict = replace(compared(None, "2"), champion="vendor_score/0")
    promote(registry, store, verdict, usecase=vendor, actor="me", now=NOW, check=harmless)
    term = watched_term(store, vendor, MODEL, datetime.now(UTC))
    assert term is not None
    assert term.old is None
    serve(store, 10, 10, vendor=True)
    assert look(registry, store, vendor) is None
    serve(store, 1000, 10, vendor=True, prefix="f")
    assert look(registry, store, vendor) == "external"
    assert "champion" not in registry.roles(MODEL)
    noted = store.decisions.last("fraud", (KIND,))
    assert noted is not None
    assert noted.payload["restored"] == "external"
    assert set(store.decisions.barred(MODEL)) == {"2"}


def test_a_watch_that_waited_while_others_acted_rolls_nobody_back(registry: FakeRegistry, store: Store) -> None:
    serve(store, 1000, 10)
    acted: list[int] = []

    def others_act(_: str) -> None:
        """Between the look and the rollback somebody rolled back, and version 3 became champion on evidence."""
        if acted:
            return
        acted.append(1)
        named: dict[str, Any] = {"usecase": fraud(), "actor": "bob", "now": NOW, "check": harmless}
        rollback(registry, store, MODEL, fraud(), "bob", "enough", NOW, check=harmless)
        appoint(registry, store, ref("3"), "challenger", reason="it passed", **named)
        promote(registry, store, compared("1", "3"), **named)

    with pytest.raises(StaleDecision, match="version 2 is not under watch any more"):
        Watch(ReleaseContext(ObservedPart(registry, others_act), store, fraud(), MODEL, harmless)).run_once(
            datetime.now(UTC) + 2 * SOON
        )
    assert acted
    assert {role: held.version for role, held in registry.roles(MODEL).items()} == {"champion": "3", "previous": "1"}
    assert store.decisions.verify() == []
