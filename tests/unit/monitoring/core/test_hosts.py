"""Names under which a server answers, and pages that may ask it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from monitoring.core.hosts import AllowedHosts, HostCheck

HERE = AllowedHosts.of("127.0.0.1", "score.example, desk.example:8443")
EVERYWHERE = AllowedHosts.of("0.0.0.0")


def status(rule: AllowedHosts, *hosts: str, origin: str | None = None) -> int:
    """The status of the refusal, or 200."""
    refused = rule.refusal(hosts, origin)
    return 200 if refused is None else refused.status


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:3000", "localhost:3000", "LOCALHOST", "localhost.", "[::1]:3000", "score.example",
             "score.example:1234", "desk.example"],
)  # fmt: skip
def test_names_of_this_machine_and_listed_ones_are_answered(host: str) -> None:
    assert status(HERE, host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:3000", "127.0.0.1.evil.example", "localhost.evil.example", "evil@127.0.0.1",
     "127.0.0.1:3000@evil.example", "127.0.0.1/", "127.0.0.1:", "127.0.0.1:80:80", "[::1", "[evil.example]",
     "0x7f000001", "2130706433", "10.0.0.5", "score.example.evil.example", "", " ", "a,127.0.0.1", "127.0.0.1 evil"],
)  # fmt: skip
def test_any_other_host_is_misdirected(host: str) -> None:
    assert status(HERE, host) == 421


def test_a_request_without_a_host_or_with_two_is_misdirected() -> None:
    assert status(HERE) == 421
    assert status(HERE, "localhost", "localhost") == 421


def test_a_server_on_every_address_answers_under_each_address_and_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Risk-Box")
    rule = AllowedHosts.of("0.0.0.0")
    assert [status(rule, host) for host in ("10.0.0.5:3000", "risk-box:3000", "[fe80::1]")] == [200, 200, 200]
    assert status(rule, "evil.example") == 421
    assert status(EVERYWHERE, "evil.example") == 421


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://127.0.0.1:3000", "127.0.0.1:3000", 200),
        ("http://localhost", "localhost:80", 200),
        ("https://score.example", "127.0.0.1:3000", 200),  # a proxy changed the Host, and a person listed the name
        ("https://desk.example:8443", "127.0.0.1:3000", 200),
        ("https://desk.example", "127.0.0.1:3000", 403),
        ("https://evil.example", "127.0.0.1:3000", 403),
        ("http://127.0.0.1:8888", "127.0.0.1:3000", 403),
        ("http://localhost:3000", "127.0.0.1:3000", 403),
        ("null", "127.0.0.1:3000", 403),
        ("", "127.0.0.1:3000", 403),
        ("file://", "127.0.0.1:3000", 403),
        ("http://127.0.0.1:3000@evil.example", "127.0.0.1:3000", 403),
        ("http://127.0.0.1:3000/", "127.0.0.1:3000", 403),
        ("https://evil.example", "evil.example", 421),
    ],
)
def test_a_page_may_ask_the_server_that_it_came_from(origin: str, host: str, expected: int) -> None:
    assert status(HERE, host, origin=origin) == expected


@pytest.mark.parametrize("listed", ["*", "http://score.example", "a b", "score.example:99999999", "-", "a,,*.example"])
def test_an_entry_that_is_no_name_is_refused_and_named(listed: str) -> None:
    with pytest.raises(ValueError, match="is no host name"):
        AllowedHosts.of("127.0.0.1", listed)


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_middleware_lets_nothing_foreign_through(kind: str) -> None:
    sent: list[Any] = []
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["type"])

    async def receive() -> Any:
        raise AssertionError("a refused request is not read")

    async def send(message: Any) -> None:
        sent.append(message)

    checked = HostCheck(app, HERE)
    for headers in ([(b"host", b"evil.example")], [(b"host", b"localhost"), (b"origin", b"https://evil.example")], []):
        asyncio.run(checked({"type": kind, "headers": headers}, receive, send))
    assert not reached
    assert {message["type"] for message in sent} <= {
        "http.response.start", "http.response.body", "websocket.close"
    }  # fmt: skip
    asyncio.run(checked({"type": kind, "headers": [(b"host", b"localhost")]}, receive, send))
    asyncio.run(checked({"type": "lifespan"}, receive, send))
    assert reached == [kind, "lifespan"]
