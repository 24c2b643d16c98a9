"""The road past ASGI, on real sockets with a real uvicorn; the door behind it is simple."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn import config as uvicorn_config

from bentos.api import ports, uvicorn_shortcut
from bentos.api.front_door import FrontDoor
from bentos.api.list_tickets import Tickets
from bentos.errors import DuplicateEvent
from bentos.http_errors import Receive, Scope, Send
from bentos.schema.event_schema import Event, EventSchema
from bentos.scoring.batcher import Waiter
from tests.support.builders import fraud

BODY = (
    b'{"transaction_id":"t-1","tx_time":"2026-03-01T12:00:00Z","customer_id":"c-1","terminal_id":"m-1","amount":57.16}'
)


class Desk:
    schema = EventSchema.of(fraud())
    body_limit = 10_000
    max_batch = 3
    capacity = 2
    body_timeout_s = 0.2

    def __init__(self) -> None:
        self.is_ready = True
        self.hold = False
        self.fault: Exception | None = None
        self.held: list[tuple[Event, Waiter[bytes]]] = []
        self.futures = 0

    def ready(self) -> bool:
        return self.is_ready

    def enqueue(self, event: Event, waiter: Waiter[bytes]) -> None:
        self.held.append((event, waiter))
        if not self.hold:
            asyncio.get_running_loop().call_soon(self.release)

    def release(self) -> None:
        held, self.held = self.held, []
        for event, waiter in held:
            if waiter.done():
                continue
            if self.fault is not None:
                waiter.set_exception(self.fault)
            else:
                waiter.set_result(b'{"event_id":"%b"}' % event.event_id.encode())

    def submit(self, event: Event) -> asyncio.Future[bytes]:
        self.futures += 1
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.enqueue(event, future)
        return future

    def observe(self) -> None: ...


class Counted:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def add(self, endpoint: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((endpoint, status))

    def flush(self) -> None: ...


class House:
    """A uvicorn with the shortcut; ``passed`` are requests that took the long road to the end."""

    def __init__(self, keep_alive: float = 5) -> None:
        self.desk = Desk()
        self.counted = Counted()
        self.door = FrontDoor(
            self._inner, lambda: self.desk, lambda app: self.counted, Tickets(),  # type: ignore[arg-type, return-value]  # a part of a desk is enough
            frozenset(), shortcut=ports.SHORTCUT,
        )  # fmt: skip
        settings: dict[str, Any] = {"timeout_keep_alive": keep_alive, "http": uvicorn_shortcut.Wire, "loop": "uvloop"}
        self.server = uvicorn.Server(uvicorn.Config(self.door, lifespan="off", log_config=None, port=0, **settings))

    async def _inner(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    @property
    def port(self) -> int:
        return int(self.server.servers[0].sockets[0].getsockname()[1])

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        running = asyncio.ensure_future(self.server._serve())
        while not self.server.started:
            await asyncio.sleep(0.005)
        try:
            yield self
        finally:
            self.server.should_exit = True
            await running

    async def talk(self, *pieces: bytes, answers: int = 1, pause: float = 0.0) -> list[tuple[int, dict[str, str], Any]]:
        """Send bytes over one connection and read so many answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            return [await _answer(reader) for _ in range(answers)]
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return int(first.split()[1]), headers, json.loads(body) if body[:1] == b"{" else body


def request(body: bytes = BODY, path: str = "/score", more: str = "", method: str = "POST") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{more}\r\n"
    ).encode() + body


@pytest.fixture
def long_road(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Paths that became ASGI requests."""
    seen: list[str] = []
    call = FrontDoor.__call__

    async def noted(self: FrontDoor, scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])
        await call(self, scope, receive, send)

    monkeypatch.setattr(FrontDoor, "__call__", noted)
    yield seen
    ports.SHORTCUT.door = None


def play(steps: Callable[[House], Awaitable[None]], keep_alive: float = 5) -> House:
    async def run() -> House:
        async with House(keep_alive).open() as workspace:
            await steps(workspace)
            return workspace

    return asyncio.run(run())


def test_a_plain_event_is_answered_past_asgi_with_the_headers_of_any_answer(long_road: list[str]) -> None:
    async def steps(workspace: House) -> None:
        for status, headers, body in await workspace.talk(request(), answers=1):
            assert (status, body) == (200, {"event_id": "t-1"})
            assert headers["content-type"] == "application/json"
            assert "date" in headers

    workspace = play(steps)
    assert long_road == []
    assert workspace.counted.seen == [("/score", 200)]
    assert workspace.door._in_flight == 0


def test_a_connection_is_used_again_and_roads_may_alternate(long_road: list[str]) -> None:
    async def steps(workspace: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", workspace.port)
        for path in ("/score", "/livez", "/score", "/score", "/nope", "/score"):
            writer.write(request(path=path))
            assert (await _answer(reader))[0] == (404 if path == "/nope" else 200)
        writer.close()

    play(steps)
    assert long_road == ["/livez", "/nope"]


@pytest.mark.parametrize(
    "pieces",
    [
        (request(path="/score?explain=false"),),
        (request(path="/scor%65"),),
        (request(more="expect: 100-continue\r\n").replace(BODY, b""), BODY),
        (request()[:-20], request()[-20:]),
        (request().replace(b"HTTP/1.1", b"HTTP/1.0"),),
        (request().replace(b"application/json", b"application/json; charset=utf-8"),),
        (
            b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        ),
    ],
)
def test_whatever_is_unusual_takes_the_long_road_to_the_same_answer(
    long_road: list[str], pieces: tuple[bytes, ...]
) -> None:
    async def steps(workspace: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", workspace.port)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.05)
        if b"expect" in pieces[0]:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        assert (await _answer(reader))[::2] == (200, {"event_id": "t-1"})
        writer.close()

    play(steps)
    assert long_road == ["/score"]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (request(b"{}"), 400, "invalid"),
        (request(b""), 400, "invalid"),
        (request(b" " * 10_001), 413, "too_large"),
        (request(method="PUT"), 405, "method_not_allowed"),
        (request().replace(b"application/json", b"text/plain"), 415, "unsupported_media_type"),
    ],
)
def test_both_roads_refuse_alike(long_road: list[str], sent: bytes, status: int, code: str) -> None:
    async def steps(workspace: House) -> None:
        found, _, body = (await workspace.talk(sent))[0]
        assert (found, body["error"]["code"]) == (status, code)

    assert play(steps).door._in_flight == 0


def test_faults_conflicts_and_an_empty_office_are_told_as_on_the_long_road(
    long_road: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def steps(workspace: House) -> None:
        workspace.desk.fault = DuplicateEvent("answered before")
        assert (await workspace.talk(request()))[0][0] == 409
        workspace.desk.fault = ValueError("could not convert 57.16")
        assert (await workspace.talk(request()))[0][2]["error"]["code"] == "internal"
        workspace.desk.is_ready = False
        assert (await workspace.talk(request()))[0][0] == 503

    play(steps)
    assert long_road == []
    assert "57.16" not in caplog.text


def test_beyond_capacity_the_answer_is_429(long_road: list[str]) -> None:
    async def steps(workspace: House) -> None:
        workspace.desk.hold = True
        waiting = [asyncio.ensure_future(workspace.talk(request())) for _ in range(2)]
        while len(workspace.desk.held) < 2:
            await asyncio.sleep(0.005)
        status, headers, _ = (await workspace.talk(request()))[0]
        assert (status, headers["retry-after"]) == (429, "1")
        workspace.desk.release()
        assert [(await found)[0][0] for found in waiting] == [200, 200]

    assert play(steps).door._in_flight == 0


def test_pipelined_requests_are_answered_in_order(long_road: list[str]) -> None:
    async def steps(workspace: House) -> None:
        sent = b"".join(request(BODY.replace(b"t-1", b"t-%d" % n)) for n in range(5))
        found = await workspace.talk(sent, answers=5)
        assert [body["event_id"] for _, _, body in found] == [f"t-{n}" for n in range(5)]

    assert play(steps).door._in_flight == 0


def test_a_client_that_goes_away_frees_its_place(long_road: list[str]) -> None:
    async def steps(workspace: House) -> None:
        workspace.desk.hold = True
        _, writer = await asyncio.open_connection("127.0.0.1", workspace.port)
        writer.write(request())
        while not workspace.desk.held:
            await asyncio.sleep(0.005)
        writer.close()
        while workspace.door._in_flight:
            await asyncio.sleep(0.005)
        workspace.desk.release()
        workspace.desk.hold = False
        assert (await workspace.talk(request()))[0][0] == 200

    play(steps)


def test_a_client_that_asks_to_close_is_closed(long_road: list[str]) -> None:
    async def steps(workspace: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", workspace.port)
        writer.write(request(more="connection: close\r\n"))
        status, headers, _ = await _answer(reader)
        assert (status, headers["connection"]) == (200, "close")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()

    play(steps)


def test_a_connection_that_stays_idle_is_closed_and_a_busy_one_is_not(long_road: list[str]) -> None:
    async def steps(workspace: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", workspace.port)
        for _ in range(4):
            writer.write(request())
            assert (await _answer(reader))[0] == 200
            await asyncio.sleep(0.15)
        workspace.desk.hold = True
        writer.write(request())
        await asyncio.sleep(0.6)
        workspace.desk.release()
        assert (await _answer(reader))[0] == 200
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()

    play(steps, keep_alive=0.3)


def test_what_is_under_way_at_a_shutdown_is_answered(long_road: list[str]) -> None:
    async def steps(workspace: House) -> None:
        workspace.desk.hold = True
        asked = asyncio.ensure_future(workspace.talk(request()))
        while not workspace.desk.held:
            await asyncio.sleep(0.005)
        workspace.server.should_exit = True
        await asyncio.sleep(0.2)
        workspace.desk.release()
        status, headers, _ = (await asked)[0]
        assert (status, headers["connection"]) == (200, "close")

    play(steps)


def test_where_uvicorn_has_other_parts_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_config, "HTTP_PROTOCOLS", {"auto": "theirs"})
    monkeypatch.setattr(uvicorn_shortcut, "_PARTS", ("on_message_begin", "a_part_that_is_gone"))
    assert uvicorn_shortcut.install() is None
    assert uvicorn_config.HTTP_PROTOCOLS == {"auto": "theirs"}
    monkeypatch.undo()
    monkeypatch.setattr(uvicorn_config, "HTTP_PROTOCOLS", {"auto": "theirs"})
    assert uvicorn_shortcut.install() is ports.SHORTCUT
    assert uvicorn_config.HTTP_PROTOCOLS == {"auto": "bentos.api.uvicorn_shortcut:Wire"}
