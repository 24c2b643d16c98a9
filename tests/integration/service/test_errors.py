"""Every error that the OpenAPI document shows: a request that causes it, and the answer beside the example."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

import httpx
import jsonschema
import pytest

from bentos import http_errors
from bentos.api.front_door import FrontDoor
from bentos.api.key_gate import Gate
from bentos.api.list_tickets import Tickets
from bentos.api.openapi import openapi
from bentos.api.routes import ROUTES
from bentos.errors import AnswerPending, WindowsUnavailable
from bentos.keys import Scope, add_key
from bentos.registry.ports import ModelRef
from monitoring.core.hosts import AllowedHosts
from tests.support.builders import fraud
from tests.support.processes.servers import MODELS, SCHEMA, House, Server, event, whole_answer

DOCUMENT = openapi(fraud(), SCHEMA, "1", 1000)
POSTS = sorted(path for path, methods in DOCUMENT["paths"].items() if "post" in methods)
SHOWN = [
    (path, int(status), code, example["value"])
    for path, methods in sorted(DOCUMENT["paths"].items())
    for operation in methods.values()
    for status, response in sorted(operation["responses"].items())
    for code, example in response.get("content", {}).get("application/json", {}).get("examples", {}).items()
]
FAULTS = {http_errors.INTERNAL.code, http_errors.TIMEOUT.code, http_errors.NO_WINDOWS.code, http_errors.PENDING.code}
"""Errors that no request can cause: something behind the front door has to fail."""
FORGED: dict[str, dict[str, str]] = {
    http_errors.HOST.code: {"host": "evil.example"},
    http_errors.ORIGIN.code: {"origin": "https://evil.example"},
}
"""Errors of a service without keys, and the header that causes each."""
BESIDE = {*FAULTS, *FORGED}
Replies = dict[tuple[str, str], httpx.Response]


def good(path: str, name: str = "t-errors") -> Any:
    """A body that the path takes."""
    return {
        "/score": event(name),
        "/score/batch": [event(name)],
        "/score/list": [event(name)],
        "/events": event(name),
        "/late": {"event": event(name), "decision": True, "reason": "deadline"},
        "/labels": {"event_id": name, "label": 1, "observed_at": "2026-03-04T09:30:00Z", "source": "chargeback"},
        "/actions": {"event_id": name, "action": "block", "by": "rule", "taken_at": "2026-03-04T09:30:00Z"},
    }[path]


class Asker:
    """Sends what causes each error to a guarded, small and strict service, in an order that makes each possible."""

    def __init__(self, server: Server, keys: dict[str, str]) -> None:
        self.server = server
        self.keys = keys
        self.found: Replies = {}

    def ask(self, path: str, key: str | None = None, method: str = "POST", **changes: Any) -> httpx.Response:
        scope = key or ("label" if path == "/labels" else "score")
        headers = {"content-type": "application/json", "x-api-key": self.keys.get(scope, scope)}
        body = {"content": json.dumps(good(path)).encode()} if method == "POST" else {}
        headers |= changes.pop("headers", {})
        return self.server.client.request(method, path, **(body | {"headers": headers} | changes))

    def keep(self, path: str, answer: httpx.Response) -> None:
        self.found[path, answer.json()["error"]["code"]] = answer

    def before_ready(self) -> None:
        for path in set(POSTS) - {"/labels", "/actions"}:
            self.keep(path, self.ask(path))

    def wrong_keys(self) -> None:
        for path in [*POSTS, "/model", "/metrics"]:
            method = "POST" if path in POSTS else "GET"
            self.keep(path, self.server.client.request(method, path))
            self.keep(path, self.ask(path, "inc_nobody_nothing", method))
            if path != "/model":
                self.keep(path, self.ask(path, "score" if path in ("/labels", "/metrics") else "admin", method))

    def wrong_requests(self) -> None:
        for path in POSTS:
            self.keep(path, self.ask(path, content=b'{"amount": -1'))
            self.keep(path, self.ask(path, method="GET"))
            self.keep(path, self.ask(path, content=b" " * (10 << 20)))
            self.keep(path, self.ask(path, headers={"content-type": "text/plain"}))
        self.keep("/model", self.ask("/model", "admin", "DELETE"))
        for path in ("/score", "/events", "/late"):
            future = event("t-future", tx_time="2199-01-01T00:00:00Z")
            body = good(path) | {"event": future} if path == "/late" else future
            self.keep(path, self.ask(path, content=json.dumps(body).encode()))
        future = good("/labels") | {"observed_at": "2199-01-01T00:00:00Z"}
        self.keep("/labels", self.ask("/labels", content=json.dumps(future).encode()))
        future = good("/actions") | {"taken_at": "2199-01-01T00:00:00Z"}
        self.keep("/actions", self.ask("/actions", content=json.dumps(future).encode()))

    def conflicts(self) -> None:
        for path, other in [("/score", event("t-errors", amount=1.0)), ("/events", event("t-errors", amount=2.0))]:
            assert self.ask(path).status_code == 200
            self.keep(path, self.ask(path, content=json.dumps(other).encode()))
        late = good("/late") | {"event": event("t-errors", amount=3.0)}
        self.keep("/late", self.ask("/late", content=json.dumps(late).encode()))
        assert self.ask("/labels").status_code == 200
        self.keep("/labels", self.ask("/labels", content=json.dumps(good("/labels") | {"label": 0}).encode()))

    def too_many(self) -> None:
        """While bodies are on their way, others are refused; the bodies that never come are given up."""
        with ExitStack() as slow:
            waiting = [(path, slow.enter_context(closing(self._half_a_request(path)))) for path in POSTS]
            while (answer := self.ask("/model", "admin", "GET")).status_code != 429:
                time.sleep(0.05)
            self.keep("/model", answer)
            for path in POSTS:
                self.keep(path, self.ask(path))
            for path, connection in waiting:
                self.keep(path, whole_answer(connection))

    def _half_a_request(self, path: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=60)
        key = self.keys["label" if path == "/labels" else "score"]
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 10\r\n\r\n{{".encode())
        return connection

    def full_log(self) -> None:
        """Nobody ships this spool, so events fill it up to its cap: in large parts first, then in smaller ones."""
        for size in (500, 50, 5, 1):
            self._until_refused("/events", lambda name, size=size: [event(f"{name}-{n}") for n in range(size)])
        for path in ("/score", "/events", "/late", "/labels", "/actions"):
            self.keep(path, self._until_refused(path, lambda name, path=path: good(path, name)))

    def _until_refused(self, path: str, make: Callable[[str], Any]) -> httpx.Response:
        for number in range(40):
            answer = self.ask(path, content=json.dumps(make(f"t-full-{number}-{id(make)}")).encode())
            if answer.status_code != 200:
                return answer
        raise AssertionError(f"{path} still accepts")


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replies]:
    workspace = House(tmp_path_factory.mktemp("errors"))
    workspace.add(MODELS()["1"])
    scopes: tuple[Scope, ...] = ("score", "label", "admin")
    # The running service reads a changed file within a second; these keys are there from the start.
    keys = {str(s): add_key(workspace.settings.keys_file, s, [s], datetime.now(UTC))[1] for s in scopes}
    server = Server(
        workspace, INCUMBENT_KEYS_REQUIRED="always", INCUMBENT_METRICS_ACCESS="admin", INCUMBENT_POLL_SECONDS="0.1",
        INCUMBENT_BODY_SECONDS="4", INCUMBENT_MAX_CONCURRENCY=str(len(POSTS)), INCUMBENT_LOG_MODE="strict",
        INCUMBENT_SPOOL_CAP_MB="1",
    )  # fmt: skip
    try:
        server.wait_for("/livez")
        asker = Asker(server, keys)
        asker.before_ready()
        workspace.appoint(ModelRef(workspace.model, "1"), MODELS()["1"].contract_digest)
        server.wait_ready()
        for step in (asker.wrong_keys, asker.wrong_requests, asker.conflicts, asker.too_many, asker.full_log):
            step()
        yield asker.found
    finally:
        server.stop() if server.process.poll() is None else server._clean_up()


def test_the_document_shows_every_error_of_every_path() -> None:
    assert {(path, code) for path, _, code, _ in SHOWN} == {
        (route.path, kind.code) for route in ROUTES for kind in route.errors
    }
    assert {code for _, _, code, _ in SHOWN} == {kind.code for kind in http_errors.ERRORS} - {
        http_errors.NOT_FOUND.code
    }


@pytest.mark.parametrize(("path", "status", "code", "example"), [row for row in SHOWN if row[2] not in BESIDE])
def test_an_error_is_answered_as_its_example_shows(
    replies: Replies, path: str, status: int, code: str, example: dict[str, Any]
) -> None:
    answer = replies[path, code]
    assert answer.status_code == status
    same_shape(answer.json(), example)


@pytest.mark.parametrize(("path", "status", "code", "example"), [row for row in SHOWN if row[2] in BESIDE])
def test_a_fault_behind_the_front_door_is_answered_as_its_example_shows(
    path: str, status: int, code: str, example: dict[str, Any]
) -> None:
    answer = asyncio.run(ask_faulty(path, code))
    assert answer.status_code == status
    same_shape(answer.json(), example)


def same_shape(said: Any, example: Any) -> None:
    schema = DOCUMENT["components"]["schemas"]["Error"]
    for each in (said, example):
        jsonschema.validate(each, schema)
    assert set(said) == set(example) == {"error"}
    assert set(said["error"]) == set(example["error"]) == {"code", "message"}
    assert said["error"]["code"] == example["error"]["code"]


class Faulty:
    """A desk at which everything fails in one way."""

    schema, body_limit, max_batch, capacity, body_timeout_s = SCHEMA, 1 << 20, 1000, 10, 5.0
    list_capacity, list_timeout_s = 32_000, 60.0

    def __init__(self, code: str) -> None:
        self.error: Exception = {
            "windows_unavailable": WindowsUnavailable("the shared windows cannot be reached"),
            "pending": AnswerPending("another replica is answering"),
        }.get(code, ZeroDivisionError("t-errors 57.16"))

    def ready(self) -> bool:
        return True

    def waiting(self) -> int:
        return 0

    def observe(self) -> None:
        return None

    def _fail(self, *_: Any) -> Any:
        raise self.error

    submit = explained = rows = take_events = take_late = take_labels = model_card = _fail


class Silent:
    """A tally that counts nothing."""

    def add(self, endpoint: str, status: int, seconds: float) -> None:
        return None

    def flush(self) -> None:
        return None


async def ask_faulty(path: str, code: str) -> httpx.Response:
    """One request through the real front door, with a fault behind it."""

    async def framework(scope: Any, receive: Any, send: Any) -> None:
        status = 504 if code == "timeout" else 500
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"t-errors 57.16"})

    gate = Gate(None, hosts=AllowedHosts(frozenset({"x"}))) if code in FORGED else None
    door = FrontDoor(framework, lambda: Faulty(code), lambda _: Silent(), Tickets(), frozenset(), gate=gate)  # type: ignore[arg-type,return-value]  # a desk that only fails
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=door), base_url="http://x", headers=FORGED.get(code)
    ) as client:
        if path not in POSTS:
            return await client.get(path)
        answer = await client.post(path, json=good(path))
    assert "57.16" not in answer.text
    return answer
