"""A challenger with a 30-day feature that the champion lacks, on the real service: warm before it counts.

Its windows are filled from history before its comparison starts and before any traffic reaches it, and
a rollback finds the old champion's windows warm although no active model used them. The tests run in
this order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from bentos.release.routing_changes import RoutingContext
from monitoring.core.calendar import TimeWindow
from monitoring.core.verdict import Verdict
from monitoring.policies.label_rules import LabelRules
from tests.integration.service.test_canary import scribing, until
from tests.support.builders import fraud, label_frame, tiny_model
from tests.support.processes.servers import SCHEMA, House, Server, event, serving
from tests.support.release_requests import rollback
from tests.support.releases import promote

pytestmark = pytest.mark.slow

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEAR = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
OLD = tiny_model(seed=1, threshold=0.1, features=["amount", "customer_count_7d", "customer_mean_amount_7d"])
NEW = tiny_model(seed=2, threshold=0.2, features=["amount", "customer_count_30d", "customer_mean_amount_30d"])


class Place:
    """A home with 40 days of history, and everything that was ever sent to it."""

    def __init__(self, folder: Path) -> None:
        self.workspace = House(folder)
        self.events: list[dict[str, Any]] = []
        self._number = 0
        self.days = 0.0
        past = [self._event(day - 40.0) for day in range(40) for _ in range(15)]
        with self.workspace.store() as store:
            frame = SCHEMA.frame([SCHEMA.event(row) for row in past])
            store.log.import_history("fraud", frame, "transaction_id", "tx_time")
        for model, role in ((OLD, "champion"), (NEW, None)):
            ref = self.workspace.add(model)
            if role is not None:
                self.workspace.appoint(ref, model.contract_digest, role)

    def ask(self, server: Server, count: int = 24) -> list[dict[str, Any]]:
        """So many events, a few minutes apart."""
        asked = []
        for _ in range(count):
            self.days += 0.01
            asked.append(self._event(self.days))
        answer = server.post("/score/batch", json.dumps(asked).encode())
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    def served(self, count: int) -> pd.DataFrame:
        """Logged features, once the log holds so many scored events."""

        def logged() -> pd.DataFrame | None:
            with self.workspace.store() as store:
                _, frame = store.log.features("fraud", YEAR)
            return frame.set_index("event_id") if len(frame) >= count else None

        found: pd.DataFrame = until(logged)
        return found

    def offline(self, model: ScoringModel) -> pd.DataFrame:
        """The model's features, built over everything that was ever sent."""
        frame = SCHEMA.frame([SCHEMA.event(row) for row in self.events])
        built = model.plan.build(frame, label_frame(), START + timedelta(days=200))
        return built.set_index(frame["transaction_id"])

    def _event(self, day: float) -> dict[str, Any]:
        self._number += 1
        at = START + timedelta(days=day, seconds=self._number % 60)
        made = event(
            f"n-{self._number}",
            customer_id=f"c-{self._number % 7}",
            terminal_id=f"m-{self._number % 5}",
            amount=float(1 + self._number % 90),
            tx_time=at.isoformat().replace("+00:00", "Z"),
        )
        self.events.append(made)
        return made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("new-feature") / "home")


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[Server]:
    with scribing(place.workspace), serving(place.workspace) as running:
        yield running


def agrees(place: Place, model: ScoringModel, served: pd.DataFrame) -> None:
    """Every logged row that has the model's features has their offline values, bit for bit."""
    names = list(model.plan.names)
    wanted = place.offline(model).loc[served.index, names]
    np.testing.assert_array_equal(served[names].to_numpy(np.float32), wanted.to_numpy(np.float32))


def test_its_windows_are_filled_before_its_comparison_starts_and_before_traffic_reaches_it(
    server: Server, place: Place
) -> None:
    workspace = place.workspace
    assert {said["model"]["version"] for said in place.ask(server)} == {"1"}
    # Appointed and routed to at once: from here on only warm windows keep it from answering cold.
    workspace.appoint(ModelRef(workspace.model, "2"), NEW.contract_digest, "challenger")
    with workspace.store() as store:
        desk = RoutingContext(workspace.registry, store, fraud(), workspace.model, "a test")
        desk.set_share(1.0, at=START, draft=desk.draft())
    answers = []
    while "2" not in {said["model"]["version"] for said in answers}:
        answers += place.ask(server, 3)
        assert len(answers) < 5000
    answers += place.ask(server)
    versions = [said["model"]["version"] for said in answers]
    assert versions == sorted(versions)
    served = place.served(24 + len(answers))
    agrees(place, OLD, served)
    # A row either lacks the new features altogether or has them warm: nothing cold was ever logged.
    wide = served[served["customer_count_30d"].notna()]
    assert {said["event_id"] for said in answers if said["model"]["version"] == "2"} <= set(wide.index)
    agrees(place, NEW, wide)
    assert wide["customer_count_30d"].min() > 30
    counts = {said["event_id"]: said["score"] for said in answers if said["model"]["version"] == "2"}
    rows = np.ascontiguousarray(wide.loc[list(counts), list(NEW.plan.names)].to_numpy(np.float32))
    assert list(counts.values()) == NEW.score(rows).calibrated.tolist()


def test_every_row_that_the_comparison_pairs_was_scored_on_warm_windows(server: Server, place: Place) -> None:
    def scored() -> pd.DataFrame | None:
        with place.workspace.store() as store:
            pending = store.shadow.progress("fraud", f"{place.workspace.model}/1").pending
            frame = store.log.paired(
                "fraud", (f"{place.workspace.model}/1", f"{place.workspace.model}/2"), YEAR,
                START + timedelta(days=200), LabelRules(fraud().label, fraud().calendar),
            )  # fmt: skip
        return frame if pending == 0 and len(frame) >= 24 else None

    found = until(scored).set_index("event_id")
    for side, model in (("a", OLD), ("b", NEW)):
        rows = place.offline(model).loc[found.index, list(model.plan.names)].to_numpy(np.float32)
        alone = model.score(np.ascontiguousarray(rows)).calibrated
        np.testing.assert_array_equal(found[f"score_{side}"], alone)


def test_a_rollback_finds_warm_windows_that_nobody_in_office_used(server: Server, place: Place) -> None:
    workspace = place.workspace
    verdict = Verdict(
        "comparison", "promote", (), f"{workspace.model}/2", f"{workspace.model}/1", START, ("it is better",)
    )
    with workspace.store() as store:
        promote(workspace.registry, store, verdict, usecase=fraud(), actor="a test", now=START, wait_seconds=30.0)
        assert {said["model"]["version"] for said in place.ask(server)} == {"2"}
        rollback(workspace.registry, store, workspace.model, fraud(), "a test", "a test", START, wait_seconds=30.0)
    said = place.ask(server)
    assert {answer["model"]["version"] for answer in said} == {"1"}
    place.days += 3
    later = place.ask(server)
    served = place.served(len(place.events) - 600)
    agrees(place, OLD, served)
    rows = served.loc[[answer["event_id"] for answer in [*said, *later]], list(OLD.plan.names)].to_numpy(np.float32)
    scores = OLD.score(np.ascontiguousarray(rows)).calibrated.tolist()
    assert [answer["score"] for answer in [*said, *later]] == scores
