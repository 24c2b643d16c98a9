"""An external score active: beside a canary, replaced by a model, and back. Real service, real scribe.

The tests run in this order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.errors import NothingToRollBack
from bentos.registry.ports import ModelRef
from bentos.registry.routing_policy import Router
from bentos.release.routing_changes import RoutingContext
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import builtin_usecases, load_usecase
from monitoring.core.calendar import BusinessCalendar, TimeWindow
from monitoring.core.verdict import Verdict
from monitoring.policies.label_rules import LabelRules
from tests.integration.service.test_canary import scribing, until
from tests.support.builders import tiny_model
from tests.support.processes.servers import House, Server, event, serving
from tests.support.release_requests import rollback
from tests.support.releases import promote

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
YEAR = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
LATER = datetime(2026, 12, 1, tzinfo=UTC)
VENDOR, MODEL = "vendor_score/0", "dev-fraud/1"
ADDED = """
[incumbent]
column = "vendor_score"
threshold = 0.7

[[columns]]
name = "vendor_score"
type = "float"
min = 0
max = 1
"""


class Place:
    """A home whose use case has a vendor's score, and a challenger."""

    def __init__(self, folder: Path) -> None:
        file = folder / "vendor.toml"
        file.write_text(builtin_usecases()["fraud"].read_text(encoding="utf-8") + ADDED, encoding="utf-8")
        self.usecase: UseCase = load_usecase(file)
        self.workspace = House(folder / "home")
        self.environment = {"INCUMBENT_USECASE": str(file)}
        self.model = tiny_model(self.usecase, seed=3, threshold=0.2)
        ref = self.workspace.add(self.model)
        self.workspace.appoint(ModelRef(ref.name, ref.version), self.model.contract_digest, "challenger")

    def ask(self, server: Server, prefix: str, count: int) -> list[dict[str, Any]]:
        asked = [
            event(f"{prefix}-{n}", customer_id=f"{prefix}{n}", amount=float(1 + n), vendor_score=n / 100)
            for n in range(count)
        ]
        answer = server.post("/score/batch", json.dumps(asked).encode())
        assert answer.status_code == 200, answer.text
        return [said | {"customer": row["customer_id"]} for said, row in zip(answer.json(), asked, strict=True)]

    def pairs(self) -> pd.DataFrame:
        with self.workspace.store() as store:
            return store.log.paired(
                "fraud",
                (VENDOR, MODEL),
                YEAR,
                LATER,
                LabelRules(self.usecase.label, BusinessCalendar()),
                {"vendor_score": "float"},
            )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("external"))


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[Server]:
    with scribing(place.workspace, **place.environment), serving(place.workspace, **place.environment) as running:
        yield running


def test_the_vendor_s_score_answers_until_a_share_goes_to_the_model(server: Server, place: Place) -> None:
    said = place.ask(server, "v", 40)
    assert {answer["model"]["alias"] for answer in said} == {"external"}
    assert [answer["score"] for answer in said] == [n / 100 for n in range(40)]
    with place.workspace.store() as store:
        desk = RoutingContext(place.workspace.registry, store, place.usecase, place.workspace.model, "a test")
        desk.set_share(0.3, at=NOW, draft=desk.draft(reason="a try"))
        policy = desk.current()
    assert policy is not None
    assert policy.champion == "external"
    until(lambda: server.card()["routing"]["digest"] == policy.digest or None)
    router = Router(policy)
    for answer in place.ask(server, "c", 60):
        theirs = router.is_challenger[router.place(answer["customer"])]
        assert answer["model"]["alias"] == ("challenger" if theirs else "external")
        assert answer["threshold"] == (0.2 if theirs else 0.7)


def test_pairs_are_complete_on_both_sides_whoever_answered(server: Server, place: Place) -> None:
    found = until(lambda: frame if len(frame := place.pairs()) == 100 else None)
    _agrees(place, found)
    assert found.attrs["counts"].unscored_a == 0


def _agrees(place: Place, found: pd.DataFrame) -> None:
    assert found["score_a"].tolist() == found["vendor_score"].tolist()
    assert set(found["threshold_a"]) == {0.7}
    with place.workspace.store() as store:
        _, table = store.log.features("fraud", YEAR)
    features = table.set_index("event_id").loc[found["event_id"]][list(place.model.plan.names)]
    alone = place.model.score(np.ascontiguousarray(features.to_numpy(np.float32)))
    np.testing.assert_array_equal(found["score_b"], alone.calibrated)


def test_a_model_is_promoted_over_it_and_the_vendor_s_score_goes_on_in_reverse(server: Server, place: Place) -> None:
    verdict = Verdict("comparison", "promote", (), MODEL, VENDOR, NOW, ("it saves money",))
    with place.workspace.store() as store:
        done = promote(
            place.workspace.registry, store, verdict, usecase=place.usecase, actor="a test", now=NOW, wait_seconds=20.0
        )
    assert (done.from_version, done.to_version, done.acknowledged) == (None, "1", True)
    assert {answer["model"]["alias"] for answer in place.ask(server, "p", 30)} == {"champion"}
    _agrees(place, until(lambda: frame if len(frame := place.pairs()) == 130 else None))


def test_it_comes_back_by_a_rollback_and_the_model_is_barred(server: Server, place: Place) -> None:
    workspace = place.workspace
    with workspace.store() as store:
        arguments: Any = (workspace.registry, store, workspace.model, place.usecase, "a test", "it was worse", NOW)
        shown = rollback(*arguments, preview=True)
        assert (shown.to_version, shown.preview) == ("external", True)
        assert workspace.registry.roles(workspace.model)["champion"].version == "1"
        done = rollback(*arguments, wait_seconds=20.0)
        assert (done.from_version, done.to_version, done.acknowledged) == ("1", "external", True)
        assert store.decisions.barred(workspace.model) == {"1": "it was worse"}
        assert store.decisions.role_at(workspace.model, "champion", LATER) is None
        assert store.decisions.verify() == []
        with pytest.raises(NothingToRollBack):
            rollback(*arguments)
    assert {answer["model"]["alias"] for answer in place.ask(server, "b", 30)} == {"external"}


def test_after_a_restart_it_still_answers(server: Server, place: Place) -> None:
    server.stop()
    with serving(place.workspace, **place.environment) as again:
        assert {answer["model"]["alias"] for answer in place.ask(again, "r", 5)} == {"external"}
