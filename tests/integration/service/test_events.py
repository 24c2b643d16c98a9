"""The running service: events that are not to be scored, and reasons of answers."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.windows.memory import MemoryWindows
from monitoring.core.calendar import TimeWindow
from tests.support.builders import tiny_model
from tests.support.processes.servers import SCHEMA, House, Server, Shared, event, serving

WINDOW = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def server(shared_service: Shared) -> Server:
    return shared_service.get()


def send(server: Server, said: Any, path: str = "/events") -> tuple[int, Any]:
    answer = server.post(path, json.dumps(said).encode())
    return answer.status_code, answer.json()


def at(minute: int) -> str:
    return f"2026-06-01T12:{minute:02d}:00Z"


def features_of(events: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """What the last of these events should be scored with, when nothing else is known of its entities."""
    plan = tiny_model().plan
    typed = [SCHEMA.event(e | {"tx_time": datetime.fromisoformat(e["tx_time"])}) for e in events]
    return plan.rows(typed, MemoryWindows(plan.specs))[-1:]


def logged_features(workspace: House, name: str) -> list[float]:
    """The features that an event was scored with, in the model's order."""
    workspace.ship()
    with workspace.store() as store:
        _, found = store.log.features("fraud", WINDOW)
    row: list[float] = found.set_index("event_id").loc[name, list(tiny_model().plan.names)].tolist()
    return row


def test_an_event_that_is_sent_counts_in_the_windows_of_the_next_one(server: Server) -> None:
    mine = {"customer_id": "c-sent", "terminal_id": "m-sent"}
    sent = [event(f"t-sent-{n}", tx_time=at(n), amount=200.0 + n, **mine) for n in range(3)]
    assert send(server, sent[0]) == (200, {"accepted": 1, "conflicts": []})
    assert send(server, sent[1:]) == (200, {"accepted": 2, "conflicts": []})
    last = event("t-sent-last", tx_time=at(9), amount=1.0, **mine)
    assert server.score(last).status_code == 200
    expected = features_of([*sent, last])
    assert logged_features(server.workspace, "t-sent-last") == expected[0].tolist()
    assert expected[0].tolist() != features_of([last])[0].tolist()


def test_sending_an_event_again_changes_nothing_and_another_body_is_a_conflict(server: Server) -> None:
    mine = event("t-again", customer_id="c-again")
    before = server.metrics()["incumbent_received_events_total"]
    assert send(server, mine)[0] == send(server, mine)[0] == 200
    assert server.metrics()["incumbent_received_events_total"] == before + 1
    status, said = send(server, mine | {"amount": 1.0})
    assert (status, said["error"]["code"]) == (409, "conflict")
    rows = [event("t-again-2"), mine | {"amount": 1.0}, event("t-again-2", amount=2.0)]
    assert send(server, rows) == (200, {"accepted": 1, "conflicts": [1, 2]})
    server.score(event("t-again-3"))
    assert send(server, event("t-again-3"))[0] == 200
    assert send(server, event("t-again-3", amount=3.0))[0] == 409


def test_an_event_that_was_sent_is_scored_when_it_is_asked_for_and_the_log_holds_the_answer(server: Server) -> None:
    mine = event("t-later", customer_id="c-later", amount=77.0)
    assert send(server, mine)[0] == 200
    server.workspace.ship()
    said = server.score(mine).json()
    assert said["score"] == tiny_model().score(features_of([mine])).calibrated[0]
    assert server.score(mine).json() == said
    assert server.score(mine | {"amount": 78.0}).status_code == 409
    server.workspace.ship()
    with server.workspace.store() as store:
        found = store.log.answers("fraud", WINDOW).set_index("event_id").loc["t-later"]
    assert (found["score"], found["origin"]) == (said["score"], "live")


def test_windows_that_are_built_anew_hold_the_events_that_were_sent(tmp_path: Path) -> None:
    workspace = House(tmp_path)
    model = tiny_model(threshold=0.1)
    workspace.appoint(workspace.add(model), model.contract_digest)
    mine = {"customer_id": "c-restart", "terminal_id": "m-restart"}
    sent = [event(f"t-restart-{n}", tx_time=at(n), amount=300.0 + n, **mine) for n in range(4)]
    with serving(workspace) as server:
        assert send(server, sent[:2])[1]["accepted"] == 2
        workspace.ship()
        assert send(server, sent[2:])[1]["accepted"] == 2
        server.kill()
    with serving(workspace) as server:
        last = event("t-restart-last", tx_time=at(9), amount=1.0, **mine)
        assert server.score(last).status_code == 200
        assert logged_features(workspace, "t-restart-last") == features_of([*sent, last])[0].tolist()
        assert send(server, sent[0]) == (200, {"accepted": 1, "conflicts": []})
        assert send(server, sent[3] | {"amount": 1.0})[0] == 409


def test_an_answer_names_its_strongest_reasons_and_they_add_up_to_the_margin(server: Server) -> None:
    mine = event("t-why", customer_id="c-why", terminal_id="m-why", amount=431.0)
    status, said = send(server, mine, "/score?explain=true")
    assert status == 200
    margin, reasons = said.pop("margin"), said.pop("reasons")
    assert server.score(mine).json() == said
    raw = float(tiny_model().score(features_of([mine])).raw[0])
    assert margin["total"] == pytest.approx(math.log(raw / (1 - raw)), abs=1e-4)
    told = math.fsum(r["contribution"] for r in reasons)
    assert margin["bias"] + told + margin["rest"] == pytest.approx(margin["total"], abs=1e-9)
    assert 1 <= len(reasons) <= 5
    assert [abs(r["contribution"]) for r in reasons] == sorted((abs(r["contribution"]) for r in reasons), reverse=True)
    assert {r["feature"] for r in reasons} <= set(tiny_model().plan.names)
    assert all(r["direction"] == ("raises" if r["contribution"] > 0 else "lowers") for r in reasons)
    values = dict(zip(tiny_model().plan.names, features_of([mine])[0].tolist(), strict=True))
    assert all(r["value"] == values[r["feature"]] for r in reasons)
    again = send(server, mine, "/score?explain=true")[1]
    assert (again["reasons"], again["score"]) == (reasons, said["score"])


def test_a_list_is_explained_row_by_row(server: Server) -> None:
    rows = [event(f"t-whys-{n}", customer_id=f"c-whys-{n}", amount=10.0 * n + 1) for n in range(9)]
    server.score(rows[3] | {"amount": 5.0})
    status, said = send(server, rows, "/score/batch?explain=true")
    assert status == 200
    assert said[3]["error"]["code"] == "conflict"
    assert all(row["reasons"] for at_, row in enumerate(said) if at_ != 3)
    assert [row["event_id"] for row in said] == [row["transaction_id"] for row in rows]
    plain = send(server, rows, "/score/batch")[1]
    assert [row.get("score") for row in said] == [row.get("score") for row in plain]


def test_another_word_behind_explain_is_refused(server: Server) -> None:
    for query in ("explain=yes", "explain=", "explain=true&explain=false"):
        assert send(server, event("t-word"), f"/score?{query}")[0] == 400
