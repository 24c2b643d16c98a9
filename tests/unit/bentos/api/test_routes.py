"""A path added from outside, by one row: it answers, needs its scope, is described and is counted."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from bentos.api import routes
from bentos.api.front_door import FrontDoor
from bentos.api.handlers import RequestReader
from bentos.api.key_gate import Gate
from bentos.api.list_tickets import Tickets
from bentos.api.openapi import openapi
from bentos.api.operations import Examples, body, content, ref
from bentos.api.ports import ServingRuntime
from bentos.api.routes import ROUTES, Route, routes_by_path
from bentos.http_errors import INVALID, SCOPE_MISSING, HttpReply, Receive, Scope
from bentos.keys import KeyRing, add_key
from bentos.schema.event_schema import EventSchema
from monitoring.metrics.serving import RequestTally
from tests.support.builders import fraud

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMA = EventSchema.of(fraud())
EVENT = {
    "transaction_id": "t-1", "tx_time": "2026-03-01T12:00:00Z", "customer_id": "c-1", "terminal_id": "m-1",
    "amount": 57.16,
}  # fmt: skip


class Runtime:
    """A runtime whose only gift is the schema that reads events."""

    schema = SCHEMA
    body_limit = 10_000
    max_batch = 3
    capacity = 2
    body_timeout_s = 1.0
    list_capacity = 4
    list_timeout_s = 60.0

    def ready(self) -> bool:
        return True

    def observe(self) -> None:
        pass


async def check_event(reader: RequestReader, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
    event = runtime.schema.decode(await reader.body(runtime, scope, receive))
    return HttpReply(200, b'{"event_id":"%b"}' % event.event_id.encode())


def check(examples: Examples) -> dict[str, Any]:
    return {
        "summary": "Check one event",
        "operationId": "check",
        "requestBody": body(ref("Event"), examples.event),
        "responses": {"200": content("It is well formed", {"type": "object"})},
    }


CHECK = Route("/check", "POST", "label", check_event, (INVALID, SCOPE_MISSING), check)


class Place:
    """A real application with a front door before it, keys, and the counters of BentoML's layer."""

    def __init__(self, folder: Path) -> None:
        self.registry = CollectorRegistry()
        names = ["endpoint", "http_response_code"]
        total = Counter("requests", "Requests.", names, registry=self.registry)
        seconds = Histogram("seconds", "Seconds.", names, registry=self.registry)
        self.tally = RequestTally(lambda: (total, seconds), dict, endpoints=("/check",))
        self.keys = {scope: add_key(folder / "keys.json", scope, (scope,), NOW)[1] for scope in ("label", "score")}
        door = Middleware(
            FrontDoor,
            runtime=Runtime,
            tally=lambda app: self.tally,
            tickets=Tickets(),
            known=frozenset(),
            gate=Gate(KeyRing.load(folder / "keys.json"), clock=lambda: NOW),
        )
        self.app = Starlette(middleware=[door])

    def ask(self, method: str, path: str, key: str | None = None, **request: Any) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {self.keys[key]}"}

        async def send() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1"
            ) as client:
                return await client.request(method, path, headers=headers, **request)

        return asyncio.run(send())

    def metrics(self) -> str:
        self.tally.flush()
        return generate_latest(self.registry).decode()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(routes, "ROUTES", (*ROUTES, CHECK))
    return Place(tmp_path)


def test_a_path_of_one_row_answers_and_needs_its_scope(place: Place) -> None:
    answer = place.ask("POST", "/check", "label", json=EVENT)
    assert (answer.status_code, answer.json()) == (200, {"event_id": "t-1"})
    refused = {
        "no key": place.ask("POST", "/check", json=EVENT),
        "another scope": place.ask("POST", "/check", "score", json=EVENT),
        "another method": place.ask("GET", "/check", "label"),
        "a bad body": place.ask("POST", "/check", "label", json={**EVENT, "amount": "much"}),
        "a path beside it": place.ask("POST", "/check/", "label", json=EVENT),
    }
    assert {case: (reply.status_code, reply.json()["error"]["code"]) for case, reply in refused.items()} == {
        "no key": (401, "key_missing"),
        "another scope": (403, "scope_missing"),
        "another method": (405, "method_not_allowed"),
        "a bad body": (400, "invalid"),
        "a path beside it": (404, "not_found"),
    }
    assert refused["another method"].headers["allow"] == "POST"


def test_a_path_of_one_row_is_counted_under_its_name_and_a_path_beside_it_is_not(place: Place) -> None:
    place.ask("POST", "/check", "label", json=EVENT)
    place.ask("POST", "/check", json=EVENT)
    place.ask("POST", "/check/", "label", json=EVENT)
    lines = place.metrics().splitlines()
    assert 'requests_total{endpoint="/check",http_response_code="200"} 1.0' in lines
    assert 'requests_total{endpoint="/check",http_response_code="401"} 1.0' in lines
    assert not [line for line in lines if '"/check/"' in line]


def test_the_counts_of_a_path_begin_at_zero_so_that_a_rate_sees_the_first_fault(place: Place) -> None:
    lines = place.metrics().splitlines()
    assert [line for line in lines if line.startswith("requests_total")] == [
        'requests_total{endpoint="/check",http_response_code="200"} 0.0',
        'requests_total{endpoint="/check",http_response_code="500"} 0.0',
    ]


def test_a_path_of_one_row_is_in_the_document_with_its_errors(place: Place) -> None:
    operation = openapi(fraud(), SCHEMA, "1", 1000)["paths"]["/check"]["post"]
    assert operation["operationId"] == "check"
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Event"}
    assert set(operation["responses"]) == {"200", "400", "403"}
    assert set(operation["responses"]["403"]["content"]["application/json"]["examples"]) == {"scope_missing"}


def test_without_the_row_the_path_leads_nowhere(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.ask("POST", "/check", "label", json=EVENT).status_code == 404
    assert "/check" not in openapi(fraud(), SCHEMA, "1", 1000)["paths"]


def test_two_rows_with_one_path_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="one row for each path, two have /check"):
        routes_by_path((*ROUTES, CHECK, dataclasses.replace(CHECK, method="GET")))
