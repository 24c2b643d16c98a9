"""A ramp on a log, with a registry and a chain of decisions; time is told, not waited for."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bentos.errors import RoutingError
from bentos.registry.routing_policy import Router, RoutingPolicy, canary
from bentos.release.routing_changes import RoutingContext
from bentos.usecase.definition import ExternalIncumbent
from flows.steps.comparison.ramp import RampCheck, check_ramp, parse_steps, ramp_state, start_ramp
from flows.steps.comparison.routing_change import RoutingChange, change_routing
from flows.views.release import canary_view
from monitoring.errors import StoreUnavailable
from monitoring.rollout.ramp_guard import DEFAULT_GUARD
from monitoring.store import ScoreRecord, ShadowRecord, Store, memory_store
from monitoring.store.database.frames import to_us
from tests.support.builders import fraud
from tests.support.releases import MODEL, NOW, registry_of

HALF_HOUR = timedelta(minutes=30)
STEPS = parse_steps("1,5,25,50,100")


class Place:
    """One model under comparison, its log, and a service that is played here."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.registry = registry_of(folder)
        self.registry.point(MODEL, "champion", "1")
        self.registry.point(MODEL, "challenger", "2")
        self.desk = RoutingContext(self.registry, store, fraud(), MODEL, "me")
        self.sent = 0
        self.chance = random.Random(7)

    def start(self, steps: tuple[float, ...] = STEPS, guard: str = DEFAULT_GUARD) -> None:
        start_ramp(self.desk, steps, HALF_HOUR, guard, "a try", NOW, salt="fixed")

    def policy(self) -> RoutingPolicy:
        found = self.desk.current()
        assert found is not None
        return found

    def acknowledge(self, problem: str = "", digest: str | None = None, p99_ms: float | None = 2.0) -> None:
        policy = self.policy()
        said: dict[str, Any] = {"digest": digest or policy.digest, "share": policy.share, "applied": not problem}
        said |= {"problem": problem} if problem else {}
        self.store.serving.heartbeat("fraud", "r1", MODEL, "1", "1", {"routing": said, "challenger_p99_ms": p99_ms})

    def serve(
        self, count: int = 20_000, *, alerts: float = 0.1, failures: float = 0.0, customers: int = 5000,
        arms: str | None = None,
    ) -> None:  # fmt: skip
        """Answer so many events by the policy that is set; ``alerts`` is the challenger's rate."""
        policy = self.policy()
        router = Router(policy)
        records = []
        for _ in range(count):
            self.sent += 1
            unit = f"c{self.sent % customers}"
            place = router.place(unit)
            theirs = router.is_challenger[place]
            failed = theirs and failures > 0 and self.sent % round(1 / failures) == 0
            flagged = self.chance.random() < (alerts if theirs else 0.1)
            records.append(
                ScoreRecord(
                    "fraud", f"e{self.sent}", to_us(NOW) + self.sent, to_us(NOW), "live",
                    json.dumps({"customer_id": unit}).encode(), None, None, MODEL, "2" if theirs else "1",
                    "challenger" if theirs and not failed else "champion", None, 0.5, 0.5, 0.5, flagged, None,
                    arms or router.names[place], policy.digest,
                )
            )  # fmt: skip
        self.store.log.append(records)
        self.acknowledge()

    def look(self, after: timedelta = HALF_HOUR) -> RampCheck:
        """A look that long (and a little) after the last step."""
        return check_ramp(self.desk, datetime.now(UTC) + after + timedelta(seconds=5))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    store = memory_store()
    yield Place(store, tmp_path)
    store.close()


def test_it_steps_by_itself_to_the_end_while_the_guard_holds(place: Place) -> None:
    place.start()
    shares = []
    for _ in STEPS[1:]:
        place.serve(20_000 if len(shares) == 0 else 5000)
        assert place.look(-timedelta(seconds=5)).event == "waits"
        found = place.look()
        assert found.event == "stepped"
        assert place.policy().share == found.share
        shares.append(found.share)
    assert shares == list(STEPS[1:])
    place.serve(1000)
    _shadow(place)
    assert place.look().event == "finished"
    assert place.policy().share == 1.0
    rows = place.desk.history()
    assert [row.payload["event"] for row in rows] == ["ramp.started", *["ramp.step"] * 4, "ramp.finished"]
    assert place.store.decisions.verify() == []


def _shadow(place: Place) -> None:
    """What the champion says in shadow about events of the last step: with all traffic gone it has no arm."""
    said = [
        ShadowRecord("fraud", f"e{n}", MODEL, "1", "champion", 0.5, 0.5, 0.5, n % 10 == 0, None, 0)
        for n in range(place.sent - 999, place.sent + 1)
    ]
    place.store.shadow.append(said)


def test_one_salt_goes_through_all_steps_so_the_shares_nest(place: Place) -> None:
    place.start()
    first = place.policy()
    place.serve()
    place.look()
    second = place.policy()
    assert first.salt == second.salt
    units = [f"c{n}" for n in range(3000)]
    small, large = Router(first), Router(second)
    inside = {u for u in units if small.is_challenger[small.place(u)]}
    assert inside < {u for u in units if large.is_challenger[large.place(u)]}


@pytest.mark.parametrize(("faults", "why"), [({"alerts": 0.3}, "alert_rate_ratio"), ({"failures": 0.05}, "error_rate")])
def test_it_returns_to_nothing_at_once_when_the_guard_does_not_hold_and_says_why(
    place: Place, faults: dict[str, float], why: str
) -> None:
    place.start((0.25, 1.0))
    place.serve(**faults)  # type: ignore[arg-type]  # by name
    found = place.look(timedelta())
    assert (found.event, found.share) == ("returned", 0.0)
    assert found.reasons[0].startswith(why)
    assert (place.policy().mode, place.policy().share) == ("shadow", 0.0)
    last = place.desk.history()[-1].payload
    assert last["event"] == "ramp.returned"
    assert why in last["reason"]
    assert place.look().event == "returned"
    assert len(place.desk.history()) == 2


def test_a_sample_ratio_mismatch_returns_and_is_a_decision_of_its_own(place: Place) -> None:
    place.start((0.25, 1.0))
    place.serve(4000, arms="champion")
    found = place.look(timedelta())
    assert found.event == "returned"
    assert found.reasons[0].startswith("sample_ratio_p")
    assert [row.payload["event"] for row in place.desk.history()] == ["ramp.started", "mismatch", "ramp.returned"]


def test_without_enough_events_it_stays_where_it_is(place: Place) -> None:
    place.start()
    place.serve(500)
    found = place.look(timedelta(days=1))
    assert (found.event, found.share) == ("waits", 0.01)
    assert "of 100 events" in found.reasons[0]


def test_it_does_not_step_before_every_replica_applies_the_last_step(place: Place) -> None:
    place.start()
    place.serve()
    place.acknowledge(digest="0" * 12)
    assert place.look().event == "waits"
    place.acknowledge(problem="the windows of the challenger 2 are being filled from the log")
    found = place.look()
    assert (found.event, found.reasons) == (
        "waits", ("r1: the windows of the challenger 2 are being filled from the log",),
    )  # fmt: skip
    place.acknowledge()
    assert place.look().event == "stepped"


def test_a_refused_challenger_ends_it(place: Place) -> None:
    place.start()
    place.acknowledge(problem="the challenger 2 is refused (corrupt)")
    found = place.look(timedelta())
    assert (found.event, found.reasons) == ("returned", ("r1: the challenger 2 is refused (corrupt)",))


def test_another_process_goes_on_where_the_first_died(place: Place) -> None:
    place.start()
    place.serve()
    place.look()
    successor = replace(place.desk, actor="somebody else")
    again = start_ramp(successor, STEPS, HALF_HOUR, DEFAULT_GUARD, "a try", NOW)
    assert (again.step, again.share) == (1, 0.05)
    with pytest.raises(RoutingError, match="another ramp"):
        start_ramp(successor, STEPS[:2], HALF_HOUR, DEFAULT_GUARD, "a try", NOW)
    place.serve()
    assert place.look().share == 0.25


def test_a_death_between_the_decision_and_the_registry_is_made_good(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.start()
    place.serve()
    before = place.policy()
    with monkeypatch.context() as patch:
        patch.setattr(place.registry, "set_routing", _dies)
        with pytest.raises(KeyboardInterrupt):
            place.look()
    assert place.policy() == before
    assert place.look(timedelta()).event == "resumed"
    assert place.policy().share == 0.05


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_return_reaches_the_registry_even_when_the_chain_cannot_be_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.start((0.25, 1.0))
    place.serve(alerts=0.3)

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(type(place.store.decisions), "append", away)
        with pytest.raises(StoreUnavailable):
            place.look(timedelta())
    assert place.policy().share == 0.0


def test_a_person_who_switches_it_off_ends_it(place: Place) -> None:
    place.start()
    place.desk.off("enough", at=NOW)
    found = place.look()
    assert (found.event, found.share, found.reasons) == ("stopped", 0.0, ("enough",))
    assert place.policy().share == 0.0
    place.start((0.5, 1.0))
    assert place.policy().share == 0.5


def test_a_change_of_office_ends_it(place: Place) -> None:
    place.start()
    place.registry.point(MODEL, "challenger", "3")
    found = place.look()
    assert found.event == "stopped"
    assert "about 1 against 2" in found.reasons[0]


def test_blue_and_green_is_a_ramp_of_one_step(place: Place) -> None:
    place.start(parse_steps("0,100"))
    assert place.policy().mode == "shadow"
    place.acknowledge()
    assert place.look().share == 1.0
    place.serve(2000, alerts=0.5)
    _shadow(place)
    found = place.look(timedelta())
    assert found.event == "returned"
    assert found.reasons[0].startswith("alert_rate_ratio")


def test_a_ramp_beside_an_external_score_is_about_that(place: Place) -> None:
    place.registry.clear(MODEL, "champion")
    with pytest.raises(RoutingError, match="no @champion"):
        place.start()
    outsider = fraud().model_copy(update={"incumbent": ExternalIncumbent(column="amount", threshold=0.4)})
    desk = replace(place.desk, usecase=outsider)
    start_ramp(desk, STEPS, HALF_HOUR, DEFAULT_GUARD, "a try", NOW)
    assert (place.policy().champion, place.policy().challenger) == ("external", "2")


@pytest.mark.parametrize("text", ["", "a", "5,1", "5,5", "-1,5", "50,101"])
def test_steps_that_do_not_ascend_within_0_to_100_are_refused(text: str) -> None:
    with pytest.raises(RoutingError):
        parse_steps(text)


def test_without_a_challenger_nothing_can_be_routed(place: Place) -> None:
    place.registry.clear(MODEL, "challenger")
    with pytest.raises(RoutingError, match="no @challenger"):
        place.start()


def test_a_column_that_names_nobody_cannot_be_the_unit(place: Place) -> None:
    with pytest.raises(RoutingError, match="'amount' cannot be the unit"):
        place.desk.draft(entity="amount")


def test_an_experiment_that_is_taken_up_again_keeps_its_salt(place: Place) -> None:
    place.desk.set_share(0.1, at=NOW, draft=place.desk.draft(entity="terminal_id"))
    first = place.policy()
    assert first.salt.startswith("dev-fraud/1/2/")
    place.desk.off("a pause", at=NOW)
    place.desk.set_share(0.2, at=NOW, draft=place.desk.draft())
    assert (place.policy().salt, place.policy().entity) == (first.salt, "terminal_id")
    place.registry.point(MODEL, "challenger", "3")
    place.desk.set_share(0.2, at=NOW, draft=place.desk.draft())
    assert place.policy().salt != first.salt


def test_the_state_is_read_from_the_chain_alone(place: Place) -> None:
    assert ramp_state(place.desk.history()) is None
    place.start()
    state = ramp_state(place.desk.history())
    assert state is not None
    assert (state.share, state.ended, state.plan.steps) == (0.01, "", STEPS)
    assert canary(place.policy(), 0.5).salt == place.policy().salt


def test_a_mismatch_outside_a_ramp_is_a_decision_once(place: Place) -> None:
    place.desk.set_share(0.25, at=NOW, draft=place.desk.draft(salt="fixed"))
    place.serve(4000, arms="champion")
    workspace: Any = SimpleNamespace(
        registry=place.registry, store=place.store, usecase=fraud(), model=MODEL, actor="me"
    )
    found = change_routing(workspace, RoutingChange(), NOW)
    change_routing(workspace, RoutingChange(), NOW)
    assert found.to_json()["sample_ratio"]["mismatch"]
    assert "ALARM" in canary_view(found, NOW).summary
    assert [row.payload["event"] for row in place.desk.history()] == ["share", "mismatch"]


def test_more_than_one_wish_at_a_time_is_refused(place: Place) -> None:
    workspace: Any = SimpleNamespace(
        registry=place.registry, store=place.store, usecase=fraud(), model=MODEL, actor="me"
    )
    with pytest.raises(RoutingError, match="one thing at a time"):
        change_routing(workspace, RoutingChange(share=5.0, off=True), NOW)
    with pytest.raises(RoutingError, match="from 0 to 100"):
        change_routing(workspace, RoutingChange(share=105.0), NOW)


def test_while_promotions_are_held_nobody_gets_more_traffic_and_less_always_works(place: Place) -> None:
    later = datetime.now(UTC) + 2 * HALF_HOUR
    frozen = fraud().promotion.model_copy(update={"freeze": ((NOW.date(), (later + timedelta(days=1)).date()),)})
    held = fraud().model_copy(update={"promotion": frozen})
    place.start()
    place.serve()
    place.acknowledge()
    place.desk = replace(place.desk, usecase=held)
    found = check_ramp(place.desk, later)
    assert (found.event, found.share) == ("waits", 0.01)
    assert "frozen" in found.reasons[0]
    workspace: Any = SimpleNamespace(
        registry=place.registry, store=place.store, usecase=held, model=MODEL, actor="me", settings=None
    )
    for asked in (RoutingChange(share=5.0), RoutingChange(arms="A=champion:50,B=challenger:50")):
        with pytest.raises(RoutingError, match="gets no traffic"):
            change_routing(workspace, asked, NOW)
    assert place.policy().share == 0.01
    change_routing(workspace, RoutingChange(off=True, reason="enough"), NOW)
    assert place.policy().share == 0.0
    with pytest.raises(RoutingError, match="gets no traffic"):
        change_routing(workspace, RoutingChange(ramp="1,5", guard=DEFAULT_GUARD), NOW)
