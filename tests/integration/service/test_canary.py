"""Two arms on the real service with the real scribe: who answers, what is logged, that pairs stay complete.

The tests run in this order.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.registry.ports import ModelRef
from bentos.registry.routing_policy import Router, RoutingPolicy, parse_arms
from bentos.release.routing_changes import RoutingContext
from flows.cli import main
from monitoring.core.calendar import BusinessCalendar, TimeWindow
from monitoring.policies.label_rules import LabelRules
from tests.support.builders import fraud, tiny_model
from tests.support.processes.servers import PROJECT, House, Server, event, serving

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
YEAR = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
LATER = datetime(2026, 12, 1, tzinfo=UTC)
MODELS = {"1": tiny_model(seed=1, threshold=0.1), "2": tiny_model(seed=2, threshold=0.2)}


@contextlib.contextmanager
def scribing(workspace: House, **changes: str) -> Iterator[None]:
    """A scribe that ships and scores in shadow."""
    log = (workspace.home / "scribe.log").open("wb")
    command = [sys.executable, "-m", "bentos.scribe", "--poll", "0.05"]
    environment = workspace.environment(**changes)
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)
        log.close()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> House:
    made = House(tmp_path_factory.mktemp("canary") / "home")
    for version, role in (("1", "champion"), ("2", "challenger")):
        ref = made.add(MODELS[version])
        made.appoint(ModelRef(made.model, ref.version), MODELS[version].contract_digest, role)
    return made


@pytest.fixture(scope="module")
def server(workspace: House) -> Iterator[Server]:
    with scribing(workspace), serving(workspace) as running:
        yield running


@contextlib.contextmanager
def routing(workspace: House) -> Iterator[RoutingContext]:
    with workspace.store() as store:
        yield RoutingContext(workspace.registry, store, fraud(), workspace.model, "a test")


def until(condition: Any) -> Any:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if (found := condition()) is not None and found is not False:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in 60 s")


def applied(server: Server, policy: RoutingPolicy) -> None:
    until(lambda: server.card()["routing"]["digest"] == policy.digest)


def ask(server: Server, prefix: str, count: int) -> list[dict[str, Any]]:
    """Lists of events of as many customers; each answer with the customer that it was about."""
    asked = [event(f"{prefix}-{n}", customer_id=f"{prefix}{n}", amount=float(1 + n % 90)) for n in range(count)]
    answer = server.post("/score/batch", json.dumps(asked).encode())
    assert answer.status_code == 200, answer.text
    return [said | {"customer": row["customer_id"]} for said, row in zip(answer.json(), asked, strict=True)]


def pairs(workspace: House) -> pd.DataFrame:
    usecase = fraud()
    with workspace.store() as store:
        return store.log.paired(
            "fraud",
            (f"{workspace.model}/1", f"{workspace.model}/2"),
            YEAR,
            LATER,
            LabelRules(usecase.label, BusinessCalendar()),
        )


def set_share(workspace: House, share: float) -> RoutingPolicy:
    with routing(workspace) as desk:
        desk.set_share(share, at=NOW, draft=desk.draft(reason="a try"))
        found = desk.current()
    assert found is not None
    return found


def test_a_share_of_the_entities_is_answered_by_the_challenger_and_single_events_agree_with_lists(
    server: Server, workspace: House
) -> None:
    shadow = ask(server, "s", 60)
    assert {said["model"]["version"] for said in shadow} == {"1"}
    policy = set_share(workspace, 0.4)
    applied(server, policy)
    said = ask(server, "c", 120)
    router = Router(policy)
    assert policy.entity == "customer_id"
    for answer in said:
        version = "2" if router.is_challenger[router.place(answer["customer"])] else "1"
        alias = "challenger" if version == "2" else "champion"
        assert answer["model"] == {"name": workspace.model, "version": version, "alias": alias}
        assert answer["threshold"] == MODELS[version].threshold.value
    assert {answer["model"]["version"] for answer in said} == {"1", "2"}
    again = [server.score(event(f"again-{n}", customer_id=f"c{n}")).json() for n in range(20)]
    assert [a["model"]["version"] for a in again] == [a["model"]["version"] for a in said[:20]]


def test_pairs_are_complete_and_the_same_whoever_answered(server: Server, workspace: House) -> None:
    found = until(lambda: frame if len(frame := pairs(workspace)) == 200 else None)
    with workspace.store() as store:
        names, table = store.log.features("fraud", YEAR)
        answers = store.log.answers("fraud", YEAR)
    assert set(answers["alias"]) == {"champion", "challenger"}
    features = table.set_index("event_id").loc[found["event_id"]][list(names)]
    for side, version in (("a", "1"), ("b", "2")):
        model = MODELS[version]
        rows = np.ascontiguousarray(features[list(model.plan.names)].to_numpy(np.float32))
        alone = model.score(rows)
        np.testing.assert_array_equal(found[f"score_{side}"], alone.calibrated)
        assert found[f"flag_{side}"].tolist() == model.decide(alone.calibrated).tolist()
        assert set(found[f"threshold_{side}"]) == {model.threshold.value}


def test_the_database_knows_the_share_and_the_content_that_each_replica_applies(
    server: Server, workspace: House
) -> None:
    policy = workspace.registry.routing(workspace.model)
    assert policy is not None

    def acknowledged() -> dict[str, Any] | None:
        with workspace.store() as store:
            said = json.loads(store.serving.live("fraud")[0].detail)
        return said if said["routing"]["digest"] == policy.digest else None

    said = until(acknowledged)
    assert (said["routing"]["share"], said["routing"]["applied"]) == (0.4, True)
    assert said["contract"] == MODELS["1"].contract_digest
    assert said["challenger_p99_ms"] > 0
    assert server.metrics()["incumbent_routed_share"] == 0.4


def test_the_command_shows_the_arms(
    server: Server, workspace: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INCUMBENT_HOME", str(workspace.home))
    assert main(["canary", "status", "--usecase", "fraud", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["mode"], said["share"]) == ("canary", 0.4)
    assert {arm["arm"]: arm["n"] for arm in said["arms"]}.keys() == {"challenger", "champion"}
    assert sum(arm["n"] for arm in said["arms"]) == 140
    assert sum(arm["units"] for arm in said["arms"]) == 120
    assert all({"alert_rate", "srm_p", "matured", "recall", "precision"} <= arm.keys() for arm in said["arms"])
    assert not said["sample_ratio"]["mismatch"]
    assert main(["status", "--usecase", "fraud", "--json"]) == 0
    (replica,) = json.loads(capsys.readouterr().out)["replicas"]
    assert (replica["version"], replica["alias_version"], replica["behind_s"]) == ("1", "1", 0.0)
    assert (replica["share"], replica["routing_behind_s"]) == (0.4, 0.0)
    assert replica["heartbeat_s"] < 15
    assert main(["status", "--usecase", "fraud"]) == 0
    assert "challenger 40%" in capsys.readouterr().out


def test_an_instant_return_and_a_switch_of_everybody(server: Server, workspace: House) -> None:
    applied(server, set_share(workspace, 1.0))
    assert {said["model"]["version"] for said in ask(server, "green", 40)} == {"2"}
    with routing(workspace) as desk:
        desk.off("back", at=NOW)
    until(lambda: server.card()["routing"]["share"] == 0.0)
    assert {said["model"]["version"] for said in ask(server, "blue", 40)} == {"1"}


def test_named_arms_answer_by_their_names(server: Server, workspace: House) -> None:
    with routing(workspace) as desk:
        desk.set_arms(parse_arms("old=champion:50,new=challenger:50"), at=NOW, draft=desk.draft())
        policy = desk.current()
    assert policy is not None
    applied(server, policy)
    said = ask(server, "ab", 60)

    def logged() -> pd.DataFrame | None:
        with workspace.store() as store:
            frame = store.arms.answers("fraud", [policy.digest], YEAR)
        return frame if len(frame) == 60 else None

    frame = until(logged).set_index("event_id")
    for answer in said:
        row = frame.loc[answer["event_id"]]
        assert (row["arm"], row["alias"]) in {("old", "champion"), ("new", "challenger")}
        assert row["alias"] == answer["model"]["alias"]


def test_a_challenger_without_a_journal_line_gets_no_traffic_and_no_client_feels_it(
    server: Server, workspace: House
) -> None:
    ref = workspace.add(tiny_model(seed=11))
    workspace.registry.point(ref.name, "challenger", ref.version)
    policy = set_share(workspace, 0.9)
    applied(server, policy)
    said = until(lambda: server.card()["routing"].get("problem"))
    assert "refused (journal)" in said
    assert {answer["model"]["version"] for answer in ask(server, "j", 30)} == {"1"}
    assert server.metrics()["incumbent_routing_suspended"] == 1.0
    assert server.metrics()["incumbent_routed_share"] == 0.0


def test_every_change_is_a_line_in_the_chain(workspace: House) -> None:
    with routing(workspace) as desk:
        events = [row.payload["event"] for row in desk.history()]
        assert desk.store.decisions.verify() == []
    assert events == ["share", "share", "off", "arms", "share"]
