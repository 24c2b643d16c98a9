"""The running service while models, registry and processes change under it. The tests run in this order."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from bentos.model.scoring_model import MODEL_FILE, ScoringModel
from bentos.registry.ports import ModelRef
from bentos.windows.memory import MemoryWindows
from monitoring.core.calendar import TimeWindow
from tests.support.builders import tiny_model
from tests.support.processes.servers import MODELS, SCHEMA, House, Server, Shared, event, serving, unreadable

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEAR = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


class Traffic:
    """Clients that never stop asking; every event is new."""

    def __init__(self, server: Server, clients: int = 4) -> None:
        self._server = server
        self._stop = threading.Event()
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self._pool = ThreadPoolExecutor(clients)
        self._runs = [self._pool.submit(self._ask, n) for n in range(clients)]

    def _ask(self, client: int) -> None:
        number = 0
        with httpx.Client(timeout=10.0) as http:
            while not self._stop.is_set():
                number += 1
                asked = event(f"t-{id(self)}-{client}-{number}", customer_id=f"c-{client}-{number}", amount=number % 90)
                try:
                    answer = http.post(f"{self._server.url}/score", json=asked)
                except httpx.TransportError as exc:
                    self.failures.append(type(exc).__name__)
                    continue
                if answer.status_code == 200:
                    self.answers.append(answer.json() | {"amount": number % 90})
                else:
                    self.failures.append(answer.text)

    def wait(self, count: int) -> None:
        """Wait for so many more answers."""
        goal, deadline = len(self.answers) + count, time.monotonic() + 600
        while len(self.answers) < goal and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        self._stop.set()
        self._pool.shutdown()
        for run in self._runs:
            run.result()


@pytest.fixture(scope="module")
def models() -> dict[str, ScoringModel]:
    return MODELS()


@pytest.fixture(scope="module")
def server(shared_service: Shared) -> Iterator[Server]:
    yield shared_service.get()
    shared_service.discard()


@pytest.fixture(scope="module")
def workspace(server: Server) -> House:
    return server.workspace


def appoint(workspace: House, models: dict[str, ScoringModel], version: str, role: str = "champion") -> None:
    workspace.appoint(ModelRef(workspace.model, version), models[version].contract_digest, role)


def expected(model: ScoringModel, answer: dict[str, Any]) -> float:
    """The score that a version gives to one of the traffic's events: each is the first of its customer."""
    asked = event(answer["event_id"], customer_id="c", amount=answer["amount"]) | {"tx_time": START}
    features = model.plan.rows([SCHEMA.event(asked)], MemoryWindows(model.plan.specs))
    # The terminal's own count is delayed by a week, so the first event sees what the last one sees.
    return float(model.score(features).calibrated[0])


def test_roles_change_under_traffic_without_a_failure_and_every_answer_is_by_the_version_it_names(
    server: Server, workspace: House, models: dict[str, ScoringModel]
) -> None:
    traffic = Traffic(server)
    for version in ("2", "3", "1", "2", "1"):
        appoint(workspace, models, version)
        server.wait_served(version)
        traffic.wait(20)
    traffic.stop()
    assert traffic.failures == []
    seen = {answer["model"]["version"] for answer in traffic.answers}
    assert seen == {"1", "2", "3"}
    for answer in traffic.answers[:: max(1, len(traffic.answers) // 150)]:
        model = models[answer["model"]["version"]]
        assert answer["score"] == expected(model, answer)
        assert answer["threshold"] == model.threshold.value


def test_a_damaged_version_is_refused_and_shows_in_the_metrics(server: Server, workspace: House) -> None:
    bad = tiny_model(seed=9)
    ref = workspace.add(bad)
    stored = {p: p.read_bytes() for p in workspace.settings.artifacts.rglob(MODEL_FILE)}
    place = next(p for p, data in stored.items() if data == bad.files[MODEL_FILE])
    place.write_bytes(stored[place][:-20])
    workspace.appoint(ref, bad.contract_digest)
    _until(lambda: server.card()["refused"])
    assert server.card()["refused"][ref.version]["reason"] == "corrupt"
    assert server.score(event("t-bad")).json()["model"]["version"] == "1"
    found = server.metrics()
    assert found[f'incumbent_model_rejections_total{{reason="corrupt",version="{ref.version}"}}'] == 1.0
    assert found['incumbent_model_rejected{role="champion"}'] == 1.0
    assert found["incumbent_served_version"] == 1.0
    assert found['incumbent_alias_version{role="champion"}'] == float(ref.version)


def test_a_version_that_was_put_there_by_hand_is_refused(server: Server, workspace: House) -> None:
    ref = workspace.add(tiny_model(seed=10))
    workspace.registry.point(ref.name, "champion", ref.version)
    _until(lambda: ref.version in server.card()["refused"])
    assert server.card()["refused"][ref.version]["reason"] == "journal"
    assert server.score(event("t-by-hand")).json()["model"]["version"] == "1"


def test_the_database_knows_what_each_replica_serves_and_sees(
    server: Server, workspace: House, models: dict[str, ScoringModel]
) -> None:
    appoint(workspace, models, "1")
    _until(lambda: not server.card()["refused"])

    def said() -> list[tuple[str | None, str | None]]:
        with workspace.store() as store:
            return [(replica.version, replica.champion) for replica in store.serving.live("fraud")]

    _until(lambda: said() == [("1", "1")])
    appoint(workspace, models, "2")
    _until(lambda: said() == [("2", "2")])


def test_a_challenger_with_other_features_is_logged_from_then_on(
    server: Server, workspace: House, models: dict[str, ScoringModel]
) -> None:
    appoint(workspace, models, "4", role="challenger")
    _until(lambda: server.card()["roles"].get("challenger") == "4")
    assert server.score(event("t-union")).status_code == 200
    workspace.ship()
    with workspace.store() as store:
        names, _ = store.log.features("fraud", YEAR)
    assert set(names) >= {*models["2"].plan.names, *models["4"].plan.names}


def test_a_label_reaches_the_windows_through_the_table(server: Server, workspace: House) -> None:
    later = START + timedelta(days=9)
    first = event("t-fraud", terminal_id="m-risky")
    assert server.score(first).status_code == 200
    applied = server.metrics()["incumbent_applied_labels_total"]
    said = {"event_id": "t-fraud", "label": 1, "observed_at": "2026-03-08T00:00:00Z", "source": "chargeback"}
    assert server.post("/labels", json.dumps(said).encode()).status_code == 200
    workspace.ship()
    _until(lambda: server.metrics()["incumbent_applied_labels_total"] > applied)
    with workspace.store() as store:
        (label,) = store.labels.of_events("fraud", ["t-fraud"])
    _until(lambda: server.card()["labels_known_up_to"] >= label.label_id)
    server.score(event("t-after", terminal_id="m-risky", tx_time=later.isoformat()))
    workspace.ship()
    with workspace.store() as store:
        _, features = store.log.features("fraud", YEAR)
    row = features.set_index("event_id").loc["t-after"]
    assert row["terminal_risk_30d"] == np.float32(1.0)


def test_a_registry_that_goes_away_leaves_the_answers_as_they_were(server: Server, workspace: House) -> None:
    before = server.score(event("t-registry", customer_id="c-alone"))
    with unreadable(workspace.home / "mlflow.db"):
        _until(lambda: not server.card()["registry"]["reachable"])
        assert server.score(event("t-registry", customer_id="c-alone")).content == before.content
        assert server.score(event("t-registry-2")).json()["model"]["version"] == "2"
    _until(lambda: server.card()["registry"]["reachable"])


def test_after_a_kill_of_everything_and_without_a_registry_the_last_good_version_answers_as_before(
    server: Server, workspace: House
) -> None:
    traffic = Traffic(server)
    traffic.wait(100)
    server.kill()
    traffic.stop()
    assert traffic.answers
    with serving(workspace, INCUMBENT_MLFLOW_URI="http://127.0.0.1:9", INCUMBENT_POLL_SECONDS="0.1") as again:
        card = again.card()
        assert card["in_office"]["version"] == "2"
        assert not card["registry"]["reachable"]
        for said in traffic.answers[-10:]:
            asked = event(said["event_id"], amount=said["amount"], customer_id=_customer(said["event_id"]))
            assert again.score(asked).json() == {k: v for k, v in said.items() if k != "amount"}
        _ends_in_order(again, workspace)
    workspace.ship()
    with workspace.store() as store:
        stored = set(store.log.answers("fraud", YEAR)["event_id"])
    assert {said["event_id"] for said in traffic.answers} <= stored


def _ends_in_order(server: Server, workspace: House) -> None:
    """SIGTERM: what was accepted is answered and logged, the replica signs off, the exit is quick."""
    traffic = Traffic(server)
    traffic.wait(50)
    asked = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(30)
    seconds = time.monotonic() - asked
    traffic.stop()
    assert seconds < 15
    workspace.ship()
    with workspace.store() as store:
        stored = set(store.log.answers("fraud", YEAR)["event_id"])
        assert store.serving.live("fraud", within_seconds=1.0) == []
    assert {said["event_id"] for said in traffic.answers} <= stored


def _customer(event_id: str) -> str:
    client, number = event_id.split("-")[-2:]
    return f"c-{client}-{number}"


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in 40 s")
