"""The front door, with a desk that is easy to look into."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from bentos.api import handlers
from bentos.api.events import Taken
from bentos.api.front_door import FrontDoor
from bentos.api.list_tickets import Tickets
from bentos.errors import DuplicateEvent
from bentos.http_errors import UNPROCESSABLE, ASGIApp, Message, Receive, Scope, Send, problem
from bentos.schema.event_schema import Event, EventSchema
from bentos.scoring.batcher import Waiter
from bentos.scoring.future_bound import Refusals
from tests.support.builders import fraud

SCHEMA = EventSchema.of(fraud())
BODY = (
    b'{"transaction_id":"t-1","tx_time":"2026-03-01T12:00:00Z","customer_id":"c-1","terminal_id":"m-1","amount":57.16}'
)


class Desk:
    schema = SCHEMA
    body_limit = 10_000
    max_batch = 3
    capacity = 2
    body_timeout_s = 0.1
    list_capacity = 4
    list_timeout_s = 60.0

    def __init__(self) -> None:
        self.is_ready = True
        self.hold: asyncio.Event | None = None
        self.fault: Exception | None = None
        self.observed = 0
        self.parts: list[int] = []
        self.submitted: list[tuple[Event, Waiter[bytes]]] = []

    def ready(self) -> bool:
        return self.is_ready

    def submit(self, event: Event) -> asyncio.Future[bytes]:
        async def answer() -> bytes:
            if self.hold is not None:
                await self.hold.wait()
            if self.fault is not None:
                raise self.fault
            return b'{"event_id":"t-1"}'

        return asyncio.ensure_future(answer())

    def enqueue(self, event: Event, waiter: Waiter[bytes]) -> None:
        self.submitted.append((event, waiter))

    def waiting(self) -> int:
        return len(self.submitted)

    def explained(self, event: Event) -> bytes:
        return b'{"event_id":"%b","reasons":[]}' % event.event_id.encode()

    def rows(self, events: Sequence[Event], explain: bool) -> list[bytes]:
        self.parts.append(len(events))
        return [self.explained(event) if explain else b'"%b"' % event.event_id.encode() for event in events]

    def take_events(self, events: Sequence[Event]) -> Taken:
        self.parts.append(len(events))
        future = [at for at, event in enumerate(events) if event.event_id.startswith("t-future")]
        refused = Refusals({at: problem(UNPROCESSABLE) for at in future})
        return Taken([at for at, event in enumerate(events) if event.event_id == "t-conflict"], refused)

    def take_labels(self, body: bytes) -> bytes:
        return b'{"accepted":1}'

    def model_card(self) -> bytes:
        return b'{"model":"m"}'

    def observe(self) -> None:
        self.observed += 1


class Counted:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def add(self, endpoint: str, status: int, seconds: float) -> None:
        self.seen.append((endpoint, status))

    def flush(self) -> None:
        pass


class House:
    """A front door with a recording application behind it."""

    def __init__(self, inner: ASGIApp | None = None) -> None:
        self.desk: Desk | None = Desk()
        self.counted = Counted()
        self.tickets = Tickets()
        self.passed: list[str] = []
        self.door = FrontDoor(
            inner or self._inner,
            lambda: self.desk,
            lambda app: self.counted,
            self.tickets,
            frozenset({"/docs.json"}),
            b"<html></html>",
        )

    async def _inner(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.passed.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inner"})

    async def ask(
        self,
        path: str,
        body: bytes = BODY,
        method: str = "POST",
        media_type: bytes = b"application/json",
        receive: Receive | None = None,
        query: bytes = b"",
    ) -> tuple[int, Any, dict[bytes, bytes]]:
        said: list[Message] = []

        async def one_body() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            said.append(message)

        headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
        scope: Scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers}
        await self.door(scope, receive or one_body, send)
        content = b"".join(m.get("body", b"") for m in said[1:])
        try:
            found = json.loads(content)
        except ValueError:
            found = content
        return said[0]["status"], found, dict(said[0]["headers"])


def play(steps: Callable[[House], Awaitable[None]], workspace: House | None = None) -> House:
    found = workspace or House()
    asyncio.run(steps(found))  # type: ignore[arg-type]  # every step here is a coroutine function
    return found


def test_an_event_is_answered_without_the_framework() -> None:
    async def steps(workspace: House) -> None:
        status, body, headers = await workspace.ask("/score")
        assert (status, body["event_id"]) == (200, "t-1")
        assert headers[b"content-type"] == b"application/json"

    workspace = play(steps)
    assert workspace.passed == []
    assert workspace.counted.seen == [("/score", 200)]


def test_an_unknown_path_is_answered_at_the_door_and_known_ones_pass() -> None:
    async def steps(workspace: House) -> None:
        for path in ("/nope", "/score/", "/static_content/../x"):
            status, body, _ = await workspace.ask(path)
            assert (status, body["error"]["code"]) == (404, "not_found")
        assert (await workspace.ask("/livez", method="GET"))[0] == 200

    workspace = play(steps)
    assert workspace.passed == ["/livez"]
    assert workspace.counted.seen == []


def test_websockets_are_closed_at_the_door() -> None:
    said: list[Message] = []

    async def send(message: Message) -> None:
        said.append(message)

    async def steps(workspace: House) -> None:
        await workspace.door({"type": "websocket", "path": "/any"}, send, send)  # type: ignore[arg-type]  # never called

    assert play(steps).passed == []
    assert said[0]["type"] == "websocket.close"


@pytest.mark.parametrize(
    ("path", "method", "media_type", "body", "status", "code"),
    [
        ("/score", "GET", b"application/json", BODY, 405, "method_not_allowed"),
        ("/model", "POST", b"application/json", BODY, 405, "method_not_allowed"),
        ("/score", "POST", b"text/plain", BODY, 415, "unsupported_media_type"),
        ("/score", "POST", b"application/json", b"x" * 10_001, 413, "too_large"),
        ("/score", "POST", b"application/json", b"{}", 400, "invalid"),
        ("/score/batch", "POST", b"application/json", BODY, 400, "invalid"),
        ("/score/batch", "POST", b"application/json", b"[" + b",".join([BODY] * 4) + b"]", 400, "invalid"),
        ("/score/list", "POST", b"application/json", BODY, 400, "invalid"),
        ("/events", "POST", b"application/json", b"{}", 400, "invalid"),
        ("/events", "POST", b"application/json", b"[" + b",".join([BODY] * 4) + b"]", 400, "invalid"),
        ("/events", "POST", b"application/json", BODY.replace(b"t-1", b"t-conflict"), 409, "conflict"),
        ("/events", "POST", b"application/json", BODY.replace(b"t-1", b"t-future"), 422, "unprocessable"),
        ("/labels", "POST", b"text/plain", b"{}", 415, "unsupported_media_type"),
    ],
)
def test_a_bad_request_gets_its_status_and_a_word(
    path: str, method: str, media_type: bytes, body: bytes, status: int, code: str
) -> None:
    async def steps(workspace: House) -> None:
        found, said, _ = await workspace.ask(path, body, method, media_type)
        assert (found, said["error"]["code"]) == (status, code)

    workspace = play(steps)
    assert workspace.passed == []
    assert workspace.counted.seen == [(path, status)]


def many(count: int) -> bytes:
    return b"[" + b",".join(BODY.replace(b"t-1", b"t-%d" % n) for n in range(count)) + b"]"


@pytest.mark.parametrize("path", ["/score/batch", "/events"])
def test_a_list_is_refused_while_too_many_events_of_others_wait_and_alone_it_is_taken(path: str) -> None:
    async def steps(workspace: House) -> None:
        assert workspace.desk is not None
        workspace.desk.capacity = 9
        with workspace.door.lists.hold(1, workspace.desk):
            assert (await workspace.ask(path, many(3)))[0] == 200
        with workspace.door.lists.hold(2, workspace.desk):
            status, body, headers = await workspace.ask(path, many(3))
            assert (status, body["error"]["code"], headers[b"retry-after"]) == (429, "busy", b"1")
        workspace.desk.list_capacity = 1
        assert (await workspace.ask(path, many(3)))[0] == 200

    play(steps)


def test_the_lists_of_the_framework_count_as_waiting_too() -> None:
    held: list[int] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        held.append(workspace.door.lists._held)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[]"})

    workspace = House(inner)

    async def steps(workspace: House) -> None:
        assert workspace.desk is not None
        assert (await workspace.ask("/score/list", many(3)))[0] == 200
        with workspace.door.lists.hold(2, workspace.desk):
            assert (await workspace.ask("/score/list", many(3)))[1]["error"]["code"] == "busy"
        assert (workspace.door.lists._held, len(workspace.tickets), workspace.door._in_flight) == (0, 0, 0)

    play(steps, workspace)
    assert held == [3]


def test_a_list_that_takes_too_long_ends_with_504_and_a_client_that_left_is_not_worked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handlers, "AT_ONCE", 1)

    async def steps(workspace: House) -> None:
        assert workspace.desk is not None
        workspace.desk.list_timeout_s = -1.0
        status, body, _ = await workspace.ask("/score/batch", many(3))
        assert (status, body["error"]["code"]) == (504, "timeout")
        workspace.desk.list_timeout_s = 60.0
        said: list[Message] = [{"type": "http.request", "body": many(3), "more_body": False}]

        async def leaves() -> Message:
            return said.pop() if said else {"type": "http.disconnect"}

        await workspace.ask("/score/batch", many(3), receive=leaves)
        assert workspace.desk.parts == [1]
        assert (workspace.door.lists._held, workspace.door._in_flight) == (0, 0)

    play(steps)


def test_a_method_that_is_not_allowed_names_the_one_that_is() -> None:
    async def steps(workspace: House) -> None:
        assert (await workspace.ask("/score", method="PUT"))[2][b"allow"] == b"POST"

    play(steps)


def test_before_a_champion_is_in_office_the_answer_is_503() -> None:
    async def steps(workspace: House) -> None:
        assert workspace.desk is not None
        workspace.desk.is_ready = False
        assert (await workspace.ask("/score"))[0] == 503
        assert (await workspace.ask("/score/batch", b"[" + BODY + b"]"))[0] == 503
        workspace.desk = None
        assert (await workspace.ask("/score"))[0] == 503

    assert play(steps).passed == []


def test_beyond_capacity_the_answer_is_429_and_it_recovers() -> None:
    async def steps(workspace: House) -> None:
        assert workspace.desk is not None
        workspace.desk.hold = asyncio.Event()
        waiting = [asyncio.ensure_future(workspace.ask("/score")) for _ in range(2)]
        await asyncio.sleep(0)
        status, body, headers = await workspace.ask("/score")
        assert (status, body["error"]["code"], headers[b"retry-after"]) == (429, "busy", b"1")
        workspace.desk.hold.set()
        assert [answer[0] for answer in await asyncio.gather(*waiting)] == [200, 200]
        assert (await workspace.ask("/score"))[0] == 200

    play(steps)


def test_a_body_that_does_not_arrive_ends_with_408_and_frees_its_place() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def steps(workspace: House) -> None:
        status, body, _ = await workspace.ask("/score", receive=never)
        assert (status, body["error"]["code"]) == (408, "slow_body")
        assert workspace.door._in_flight == 0

    play(steps)


def test_a_task_cancelled_from_outside_stays_cancelled() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def steps(workspace: House) -> None:
        task = asyncio.ensure_future(workspace.ask("/score", receive=never))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert workspace.door._in_flight == 0

    play(steps)


def test_a_conflicting_event_is_409_and_a_fault_of_ours_is_500_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def steps(workspace: House) -> None:
        assert workspace.desk is not None
        workspace.desk.fault = DuplicateEvent("answered before")
        assert (await workspace.ask("/score"))[0] == 409
        workspace.desk.fault = ValueError("could not convert 57.16")
        status, body, _ = await workspace.ask("/score")
        assert (status, body["error"]["code"]) == (500, "internal")

    play(steps)
    assert "ValueError" in caplog.text
    assert "57.16" not in caplog.text


def _list(*names: str) -> bytes:
    return b"[" + b",".join(BODY.replace(b"t-1", name.encode()) for name in names) + b"]"


def test_a_list_is_answered_in_parts_and_single_events_come_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "AT_ONCE", 2)

    async def steps(workspace: House) -> None:
        assert workspace.desk is not None
        seen: list[int] = []
        asyncio.get_running_loop().call_soon(lambda: seen.extend(workspace.desk.parts if workspace.desk else ()))
        status, body, _ = await workspace.ask("/score/batch", _list("a", "b", "c"))
        assert (status, body) == (200, ["a", "b", "c"])
        assert seen == [2]

    workspace = play(steps)
    assert workspace.passed == []
    assert workspace.desk is not None
    assert workspace.desk.parts == [2, 1]
    assert workspace.counted.seen.count(("/score/batch", 200)) == 1


def test_an_answer_is_explained_where_the_query_asks_for_it() -> None:
    async def steps(workspace: House) -> None:
        assert "reasons" in (await workspace.ask("/score", query=b"explain=true"))[1]
        assert "reasons" not in (await workspace.ask("/score", query=b"explain=false"))[1]
        assert "reasons" not in (await workspace.ask("/score", query=b"other=1"))[1]
        assert all(
            "reasons" in row for row in (await workspace.ask("/score/batch", _list("a", "b"), query=b"explain=true"))[1]
        )
        for wrong in (b"explain=1", b"explain=", b"explain=true&explain=true"):
            for path, body in (("/score", BODY), ("/score/batch", _list("a"))):
                assert (await workspace.ask(path, body, query=wrong))[0] == 400

    play(steps)


def test_events_are_taken_one_or_many_and_conflicts_are_named_by_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "AT_ONCE", 2)

    async def steps(workspace: House) -> None:
        assert (await workspace.ask("/events"))[:2] == (200, {"accepted": 1, "conflicts": []})
        status, body, _ = await workspace.ask("/events", _list("a", "b", "t-conflict"))
        assert (status, body) == (200, {"accepted": 2, "conflicts": [2]})

    assert play(steps).counted.seen == [("/events", 200)] * 2


def test_events_of_the_future_are_named_by_their_place_in_the_whole_list_however_long_it_is() -> None:
    names = [f"t-future-{n}" if n in (0, 127, 128, 299) else f"t-{n}" for n in range(300)]

    async def steps(workspace: House) -> None:
        assert workspace.desk is not None
        workspace.desk.max_batch, workspace.desk.body_limit = 300, 1 << 20
        status, body, _ = await workspace.ask("/events", _list(*names))
        assert (status, body["accepted"], body["conflicts"]) == (200, 296, [])
        assert [row["at"] for row in body["refused"]] == [0, 127, 128, 299]

    play(steps)


def test_a_list_passes_the_framework_as_tickets() -> None:
    seen: list[bytes] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((await receive())["body"])
        numbers = json.loads(seen[0])
        events = [workspace.tickets.redeem(n) for n in numbers]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps([e.event_id for e in events]).encode()})

    workspace = House(inner)

    async def steps(workspace: House) -> None:
        rows = b"[" + BODY + b"," + BODY.replace(b"t-1", b"t-2") + b"]"
        status, body, _ = await workspace.ask("/score/list", rows)
        assert (status, body) == (200, ["t-1", "t-2"])

    play(steps, workspace)
    assert b"57.16" not in seen[0]
    assert len(workspace.tickets) == 0


def test_tickets_are_void_when_the_framework_fails_and_the_error_is_ours() -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 429, "headers": []})
        await send({"type": "http.response.body", "body": b'{"error":"Too many requests"}'})

    workspace = House(inner)

    async def steps(workspace: House) -> None:
        status, body, _ = await workspace.ask("/score/list", b"[" + BODY + b"]")
        assert (status, body["error"]["code"]) == (429, "busy")

    play(steps, workspace)
    assert len(workspace.tickets) == 0


def test_the_page_loads_nothing_from_elsewhere() -> None:
    from bentos.api.openapi import INDEX

    assert b"http" not in INDEX
