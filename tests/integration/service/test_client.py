"""The client against the real service, also while it is paused, killed and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from bentos.client import (
    Answer,
    AsyncClient,
    Client,
    DeadlinePassed,
    Fallback,
    Overloaded,
    Refused,
    RowError,
    Unreachable,
)
from bentos.registry.ports import ModelRef
from monitoring.core.calendar import TimeWindow
from tests.support.processes.servers import MODELS, House, Server, event, free_port

FALLBACK = Fallback(True, "ask the customer")
WINDOW = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = House(tmp_path_factory.mktemp("client"))
    workspace.add(MODELS()["1"])
    workspace.appoint(ModelRef(workspace.model, "1"), MODELS()["1"].contract_digest)
    running = Server(workspace, INCUMBENT_POLL_SECONDS="0.1")
    running.wait_ready()
    yield running
    if running.process.poll() is None:
        running.stop()


@contextmanager
def paused(server: Server) -> Iterator[None]:
    """Nobody answers, and connections still open: the worst kind of silence."""
    workers = server.workers()
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)


def logged(server: Server) -> dict[str, tuple[str, Any]]:
    """Origin and decision of each logged event."""
    server.workspace.ship()
    with server.workspace.store() as store:
        rows = store.log.stream("fraud", 0, 10_000)
        return {row.event_id: (row.origin, row.decision) for part in rows for row in part}


def test_a_score_is_typed_and_the_same_as_over_plain_http(server: Server) -> None:
    with Client(server.url, deadline=20) as client:
        found = client.score(event("t-client-1"))
        again = client.score(event("t-client-1", tx_time=datetime(2026, 3, 1, 12, tzinfo=UTC)))
    said = server.score(event("t-client-1")).json()
    assert found == again
    assert found == Answer("t-client-1", said["decision"], said["score"], said["threshold"], said["model"])
    assert not found.fallback


def test_reasons_come_where_they_are_asked_for(server: Server) -> None:
    with Client(server.url, deadline=20) as client:
        assert client.score(event("t-client-why"), explain=True).reasons


def test_lists_events_labels_and_the_model_in_both_clients(server: Server) -> None:
    statement = {"event_id": "t-client-2", "label": 1, "observed_at": "2026-03-04T09:30:00Z", "source": "chargeback"}
    action = {"event_id": "t-client-2", "action": "block", "by": "analyst", "taken_at": "2026-03-02T13:00:00Z"}

    async def ask() -> tuple[Any, ...]:
        async with AsyncClient(server.url, deadline=20) as client:
            many = await client.score_many([event("t-client-2"), event("t-client-3"), event("t-client-1", amount=1.0)])
            sent = await client.events([event("t-client-4"), event("t-client-2", amount=2.0)])
            return many, sent, await client.labels([statement]), await client.actions([action]), await client.model()

    many, sent, labels, actions, model = asyncio.run(ask())
    assert [type(row) for row in many] == [Answer, Answer, RowError]
    assert (many[2].event_id, many[2].code) == ("t-client-1", "conflict")
    assert (sent.accepted, sent.conflicts) == (1, (1,))
    assert (labels.accepted, labels.conflicts) == (1, ())
    assert (actions.accepted, actions.conflicts) == (1, ())
    assert model["in_office"]["version"] == "1"
    with Client(server.url, deadline=20) as client:
        assert client.score_many([event("t-client-2")])[0] == many[0]
        assert client.events([event("t-client-4")]).accepted == 1
        assert client.labels([statement]).accepted == 1
        assert client.actions([action]).accepted == 1
        assert client.model()["model"] == model["model"]


def test_a_list_longer_than_the_service_takes_is_sent_in_parts(server: Server) -> None:
    with Client(server.url, deadline=60) as client:
        events = [event(f"t-long-{n}", amount=float(n)) for n in range(1200)]
        found = client.score_many(events)
        wrong = client.events([*events[:1100], event("t-long-1100", amount=0.5)])
    assert [row.event_id for row in found] == [row["transaction_id"] for row in events]
    assert wrong.conflicts == (1100,)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [(event("t-bad", amount=-1.0), 400, "invalid"), (event("t-client-1", amount=9.0), 409, "conflict")],
)
def test_a_request_that_is_wrong_raises_at_once_and_is_not_decided_by_fallback(
    server: Server, sent: dict[str, Any], status: int, code: str
) -> None:
    with Client(server.url, deadline=20, fallback=FALLBACK) as client:
        with pytest.raises(Refused) as refused:
            client.score(sent)
        assert client.late == 0
    assert (refused.value.status, refused.value.code) == (status, code)
    assert "t-bad" not in str(refused.value)


def test_an_event_that_is_no_json_never_leaves_the_client(server: Server) -> None:
    with Client(server.url, fallback=FALLBACK) as client:
        for bad in (float("nan"), datetime(2026, 3, 1, 12), {1, 2}):  # noqa: DTZ001  # naive is the point
            with pytest.raises(ValueError):
                client.score(event("t-bad", amount=bad))
        assert client.late == 0


def test_a_silent_service_costs_the_deadline_and_no_more_and_the_fallback_is_logged_as_late(server: Server) -> None:
    with Client(server.url, deadline=0.3, fallback=FALLBACK, id_column="transaction_id") as client:
        with paused(server):
            found = client.score(event("t-late-1"))
            rows = client.score_many([event("t-late-2"), event("t-late-3")])
            assert client.late == 3
        assert found == Answer("t-late-1", True, fallback=True, reason="deadline")
        assert rows == [Answer(f"t-late-{n}", True, fallback=True, reason="deadline") for n in (2, 3)]
        assert client.flush(60) == 0
        assert client.dropped == 0
    kept = logged(server)
    # What was on its way into the paused service may have been answered after all: then that answer is kept.
    assert {kept[f"t-late-{n}"][0] for n in (1, 2, 3)} <= {"late", "live"}
    said = server.metrics()
    assert said['incumbent_late_reports_total{reason="deadline"}'] >= 3


def test_without_a_fallback_the_deadline_raises(server: Server) -> None:
    with Client(server.url, deadline=0.2) as client, paused(server), pytest.raises(DeadlinePassed, match="deadline"):
        client.score(event("t-raise"))


def test_a_service_that_is_killed_in_mid_call_and_started_again_answers_the_same_call(server: Server) -> None:
    workspace, port = server.workspace, server.port
    killer = threading.Timer(0.5, server.kill)
    with Client(server.url, deadline=90, fallback=FALLBACK) as client:
        before = client.score(event("t-kill-1"))
        restarted: list[Server] = []
        with paused(server):
            killer.start()
            starter = threading.Thread(target=lambda: (killer.join(), restarted.append(_restart(workspace, port))))
            starter.start()
            found = client.score(event("t-kill-2"))
        starter.join()
        try:
            assert not found.fallback
            assert client.score(event("t-kill-2")) == found
            assert client.score(event("t-kill-1")) == before
            kept = logged(restarted[0])
            assert [kept[f"t-kill-{n}"][0] for n in (1, 2)] == ["live", "live"]
        finally:
            restarted[0].stop()


@pytest.mark.slow
def test_decisions_taken_while_the_service_is_down_are_reported_when_it_is_back(server: Server) -> None:
    workspace, port = server.workspace, server.port
    if server.process.poll() is None:
        server.kill()
    with Client(server.url, deadline=0.2, fallback=FALLBACK, late_limit=5) as client:
        answers = [client.score(event(f"t-down-{n}")) for n in range(6)]
        assert {(a.decision, a.fallback, a.reason) for a in answers} == {(True, True, "unreachable")}
        assert (client.late, client.dropped) == (5, 1)
        running = _restart(workspace, port)
        try:
            deadline = time.monotonic() + 600
            while client.late and time.monotonic() < deadline:  # nobody asks it to: it reports by itself
                time.sleep(0.1)
            assert client.late == 0
            kept = logged(running)
            assert [kept.get(f"t-down-{n}") for n in range(6)] == [None] + [("late", True)] * 5
            # The same events may still be scored; what a model says then takes the report's place.
            assert running.score(event("t-down-3")).status_code == 200
            assert logged(running)["t-down-3"][0] == "live"
        finally:
            running.stop()


def _restart(workspace: House, port: int) -> Server:
    running = Server(workspace, port=port, INCUMBENT_POLL_SECONDS="0.1")
    running.wait_ready()
    return running


class Script(httpx.AsyncBaseTransport):
    """Gives prepared replies, the last one again and again."""

    def __init__(self, *replies: httpx.Response | Exception | float) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[str, bytes, str | None]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.path, request.content, request.headers.get("authorization")))
        said = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(said, float):
            await asyncio.sleep(said)
        if isinstance(said, Exception):
            raise said
        assert isinstance(said, httpx.Response)
        return httpx.Response(said.status_code, content=said.content, headers=said.headers)


GOOD = httpx.Response(
    200, json={"event_id": "t-1", "score": 0.5, "decision": True, "threshold": 0.1, "model": {"name": "m"}}
)
BUSY = httpx.Response(429, json={"error": {"code": "busy", "message": "later"}}, headers={"retry-after": "0"})


@pytest.mark.parametrize(
    "trouble",
    [BUSY, httpx.Response(503), httpx.Response(502, text="<html>"), httpx.ConnectError("x"), httpx.ReadError("x")],
)
def test_passing_trouble_is_tried_again_with_the_same_body_and_key(trouble: Any) -> None:
    script = Script(trouble, trouble, GOOD)
    with Client("http://x", key="inc_a_b", deadline=30, transport=script) as client:
        assert client.score(event("t-1")).score == 0.5
    assert len(script.asked) == 3
    assert len(set(script.asked)) == 1
    assert script.asked[0][2] == "Bearer inc_a_b"


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [(BUSY, Overloaded), (httpx.ConnectError("x"), Unreachable)],
)
def test_lasting_trouble_ends_with_the_deadline_and_says_which_it_was(trouble: Any, kind: type[DeadlinePassed]) -> None:
    with Client("http://x", deadline=0.2, transport=Script(trouble)) as client, pytest.raises(kind):
        client.score(event("t-1"))


def test_an_attempt_that_hangs_is_given_up_for_another() -> None:
    class Hanging(Script):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if not self.asked:
                self.asked.append(("", b"", None))
                await asyncio.sleep(3600)
            return await super().handle_async_request(request)

    with Client("http://x", deadline=60, attempt=0.2, transport=Hanging(GOOD)) as client:
        assert client.score(event("t-1")).decision


def listed(*codes: str | None) -> httpx.Response:
    rows: list[dict[str, Any]] = [
        {"event_id": f"t-{n}", "score": 0.5, "decision": False, "threshold": 0.6, "model": {"name": "m"}}
        if code is None
        else {"event_id": f"t-{n}", "error": {"code": code, "message": "no"}}
        for n, code in enumerate(codes)
    ]
    return httpx.Response(200, json=rows)


THREE = [event(f"t-{n}") for n in range(3)]


def test_events_of_a_list_whose_error_may_pass_are_asked_for_again_and_no_others() -> None:
    again = httpx.Response(200, json=listed(None, None).json()[1:])
    script = Script(listed(None, "pending", "conflict"), again)
    with Client("http://x", deadline=30, transport=script) as client:
        found = client.score_many(THREE)
    assert [type(row) for row in found] == [Answer, Answer, RowError]
    assert [row["transaction_id"] for row in json.loads(script.asked[1][1])] == ["t-1"]


@pytest.mark.parametrize("code", ["windows_unavailable", "log_full", "not_ready"])
def test_events_of_a_list_that_are_refused_to_the_end_are_decided_by_fallback_or_keep_their_error(code: str) -> None:
    lasting = httpx.Response(200, json=listed(None, code).json()[1:])
    with Client("http://x", deadline=0.2, transport=Script(listed(None, code, None), lasting)) as client:
        found = client.score_many(THREE)
    assert [type(row) for row in found] == [Answer, RowError, Answer]
    script = Script(listed(None, code, None), lasting)
    with Client("http://x", deadline=0.2, fallback=FALLBACK, id_column="transaction_id", transport=script) as client:
        found = client.score_many(THREE)
        assert found[1] == Answer("t-1", True, fallback=True, reason="refused")
        assert client.flush(5) == 0
    (report,) = [json.loads(body) for path, body, _ in script.asked if path == "/late"][-1]
    assert (report["event"]["transaction_id"], report["decision"]) == ("t-1", True)


@pytest.mark.parametrize("said", [{"hello": 1}, [], "text", {"event_id": "t-1"}])
def test_a_server_that_is_something_else_is_no_answer(said: Any) -> None:
    with Client("http://x", deadline=5, transport=Script(httpx.Response(200, json=said))) as client:
        for call in (client.score, lambda e: client.score_many([e]), lambda e: client.events([e])):
            with pytest.raises(Refused, match=r"no answer|no JSON"):
                call(event("t-1"))


def test_one_report_that_is_refused_does_not_take_the_others_with_it(caplog: pytest.LogCaptureFixture) -> None:
    class Service(Script):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path != "/late":
                raise httpx.ConnectError("down")
            await super().handle_async_request(request)
            if b"t-bad" in request.content:
                return httpx.Response(400, json={"error": {"code": "invalid", "message": "no"}})
            return httpx.Response(200, json={"accepted": 1, "conflicts": []})

    script = Service(GOOD)
    with Client("http://x", deadline=0.05, fallback=FALLBACK, transport=script) as client:
        client.score_many([event("t-1"), event("t-bad"), event("t-2")])
        assert client.flush() == 0
        assert client.dropped == 1
    for word in ("t-bad", "t-1", "c-0042"):
        assert word not in caplog.text
    assert "cannot be reported: 400 invalid" in caplog.text


def test_a_client_in_another_process_or_after_its_end_says_so() -> None:
    client = Client("http://x", transport=Script(GOOD))
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.score(event("t-1"))


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", deadline=0.2) as client, pytest.raises(Unreachable):
        client.model()
