"""Drift makes a new challenger by itself: real server, worker, service and scribe, and nobody who helps."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest

from bentos.registry.ports import Role
from flows.drift import drift
from flows.retraining import retraining
from flows.runs.parameters import LOG
from flows.runs.run_record import call
from flows.stack.local_stack import Ports, Stack, running, start_all
from flows.training import training
from flows.workspace.installation import open_home
from tests.support.hooks import Hook, webhook
from tests.support.processes.prefect_api import PATIENCE, Desk, prefect_api
from tests.support.worlds import World, small_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHIFT = {"seed = 7": 'seed = 7\nshifts = [{ day = 30, kind = "amount_scale", factor = 3.0 }]'}
"""Amounts treble on the first live day."""
ONSET, DAYS = 3, 20
"""Live days after which drift is noticed, and after which seven days of the new world can be trained on."""


@dataclass(frozen=True)
class Loop:
    """A world that has changed, the stack that looks after it, and what people are told."""

    world: World
    stack: Stack
    desk: Desk
    hook: Hook

    def roles(self) -> dict[Role, str]:
        return {
            role: ref.version for role, ref in self.world.workspace.registry.roles(self.world.workspace.model).items()
        }

    def report(self, kind: Any) -> Any:
        found = self.world.workspace.store.reports.latest("fraud", kind)
        assert found is not None
        return found

    def score(self, number: int) -> None:
        """A card is used on the day after the check."""
        event = {
            "transaction_id": f"late-{number}",
            "tx_time": (self.world.day(DAYS) + timedelta(minutes=number)).isoformat(),
            "customer_id": f"c-{number:04d}",
            "terminal_id": "m-0317",
            "amount": 57.16,
        }
        httpx.post(f"{self.stack.urls['service']}/score", json=event, trust_env=False).raise_for_status()


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    folder = tmp_path_factory.mktemp("loop")
    with webhook() as hook, pytest.MonkeyPatch.context() as patch, small_world(folder, changes=SHIFT) as world:
        assert world.live_from.date() == world.workspace.usecase.source.simulator.start + timedelta(days=30)
        call(training, usecase=world.reference, source=LOG, until=world.live_from, reason="a test")
        world.live(0, DAYS)
        for flow in (drift, retraining):  # what the same loop did and decided at the onset, days before
            call(flow, usecase=world.reference, as_of=world.day(ONSET))
        patch.setenv("INCUMBENT_NOTIFY_URL", hook.url)
        home = open_home(home=folder / "home", usecase=world.reference)
        with running(home, Ports.find()) as stack:
            start_all(stack, lambda _: None)
            with prefect_api(stack) as api:
                desk = Desk(api, "dev-fraud-{}", home.logs / "prefect-worker.log")
                yield Loop(world, stack, desk, hook)


def test_at_the_onset_the_retraining_waits_for_days_that_it_can_learn_from(loop: Loop) -> None:
    (decided,) = loop.world.workspace.store.reports.list("fraud", "retraining", until=loop.world.day(ONSET))
    assert decided.outcome == "blocked"
    assert "the training fold would hold 0 of 7 days since the change" in decided.payload["blocked_by"][0]


def test_a_drift_check_alone_leads_to_a_challenger_in_shadow(loop: Loop) -> None:
    assert loop.roles() == {"champion": "1"}
    as_of = loop.world.day(DAYS)
    state = loop.desk.end_of(loop.desk.start("drift", as_of=as_of.isoformat()))
    assert (state["type"], loop.report("drift").outcome) == ("COMPLETED", "severe"), state["message"]

    asked = loop.desk.first_run("retraining")
    state = loop.desk.end_of(asked["id"])
    assert state["type"] == "COMPLETED", state["message"]
    evidence = asked["parameters"]["evidence"]
    assert (evidence["model"], evidence["band"], evidence["score_moved"]) == ("dev-fraud/1", "severe", True)
    assert "amount" in evidence["features"]

    decided, trained = loop.report("retraining"), loop.report("training")
    assert (decided.outcome, decided.as_of, decided.payload["evidence"]) == ("retrain", as_of, evidence)
    assert decided.payload["reasons"][0].startswith("severe drift with a moved score distribution")
    assert decided.payload["asked"].startswith("drift severe, ")
    assert (trained.outcome, trained.payload["role"]) == ("pass", "challenger")
    assert {check["status"] for check in trained.payload["verdict"]["checks"]} == {"PASS"}
    assert trained.payload["reason"] == "; ".join(decided.payload["reasons"])
    assert loop.roles() == {"champion": "1", "challenger": "2"}


def test_people_are_told_what_was_found_and_what_was_made_of_it(loop: Loop) -> None:
    told = [(notice["kind"], notice["outcome"]) for notice in loop.hook.bodies]
    assert told == [("retraining", "done")], "the drift itself is no news since its onset"
    assert "dev-fraud/2: gates pass, @challenger" in loop.hook.bodies[0]["text"]


def test_the_drift_run_links_its_page(loop: Loop) -> None:
    (link,) = re.findall(r"\((http[^)]+)\)", loop.desk.artifacts()["dev-fraud-drift-report"]["data"])
    page = httpx.get(link, trust_env=False).raise_for_status().text
    assert "Over 3 windows: severe" in page


def test_the_new_challenger_scores_what_the_champion_answers(loop: Loop) -> None:
    for number in range(5):
        loop.score(number)
    deadline = time.monotonic() + PATIENCE
    while (seen := loop.world.workspace.store.shadow.progress("fraud", "dev-fraud/2")).scored < 5:
        assert time.monotonic() < deadline, f"{seen}: {(loop.stack.home.logs / 'scribe.log').read_text()}"
        time.sleep(0.25)
    assert (seen.scored, seen.errors) == (5, 0)


def test_a_second_alarm_makes_no_second_training(loop: Loop) -> None:
    call(drift, usecase=loop.world.reference, as_of=loop.world.day(DAYS), html="never", skew=False, aftermath=False)
    again = call(retraining, usecase=loop.world.reference, as_of=loop.world.day(DAYS))
    assert again.data["outcome"] == "blocked"
    assert loop.roles() == {"champion": "1", "challenger": "2"}
