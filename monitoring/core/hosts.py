"""The names under which a server answers: what keeps web pages of other sites away from it.

A browser on this machine reaches servers on 127.0.0.1, and any page that it shows may make it ask them. Two
headers, which no page can forge, say so: ``Origin`` names the page's site, and ``Host`` the name that the
browser looked up, also where that name was made to lead to this machine (DNS rebinding). A request whose
``Host`` is not one of ours, or whose ``Origin`` is another site than its ``Host``, is refused.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Self

LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
MISDIRECTED: Final = 421
FORBIDDEN: Final = 403

_ENTRY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)\.?(?::(\d{1,5}))?")
_ORIGIN: Final = re.compile(r"(https?)://([^/?#@]+)")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class HostRefusal:
    """Why a request is refused.

    Attributes:
        status: 421 for a foreign Host, 403 for a foreign Origin.
        message: one sentence; it repeats nothing of the request.
    """

    status: int
    message: str


@dataclass(frozen=True)
class AllowedHosts:
    """The rule of one server.

    Attributes:
        names: host names and addresses, lower case, without a port.
        entries: those that a person listed, with the port where one was given; pages of them may ask too.
        any_address: whether every IP address is a name of ours, because the server listens on all of them.
    """

    names: frozenset[str] = LOCAL_NAMES
    entries: frozenset[str] = frozenset()
    any_address: bool = False

    @classmethod
    def of(cls, address: str, host_list: str = "") -> Self:
        """The rule of a server that listens on an address.

        Args:
            address: the address, such as ``127.0.0.1`` or ``0.0.0.0``.
            host_list: more names, ``name`` or ``name:port``, divided by commas (``INCUMBENT_ALLOWED_HOSTS``).

        Raises:
            ValueError: an entry is no host name; the text names it.
        """
        entries = frozenset(parse_entries(host_list))
        beyond_loopback = not is_loopback(address)
        own_names = {address, socket.gethostname().lower()} if beyond_loopback else set()
        return cls(LOCAL_NAMES | own_names | {_name(entry) for entry in entries}, entries, beyond_loopback)

    def refusal(self, hosts: Iterable[str], origin: str | None) -> HostRefusal | None:
        """Why a request with these headers is refused, or none where it may pass.

        Args:
            hosts: the values of every ``Host`` header.
            origin: the value of ``Origin``, none where there is none.
        """
        host_values = list(hosts)
        host = host_values[0].strip().lower() if len(host_values) == 1 else ""
        if not self._is_ours(host):
            return HostRefusal(MISDIRECTED, "the Host of this request is no name of this server; "
                               "names behind a proxy are listed in INCUMBENT_ALLOWED_HOSTS")  # fmt: skip
        if origin is not None and not self._may_ask(origin.strip().lower(), host):
            return HostRefusal(FORBIDDEN, "a web page of another site may not ask this server (Origin)")
        return None

    def _is_ours(self, host: str) -> bool:
        if _ENTRY.fullmatch(host) is None:
            return False
        name = _name(host)
        return name in self.names or is_loopback(name) or (self.any_address and _is_address(name))

    def _may_ask(self, origin: str, host: str) -> bool:
        match = _ORIGIN.fullmatch(origin)
        if match is None:
            return False  # "null", a file, an extension
        scheme, site = match.groups()
        site = site.removesuffix(f":{_DEFAULT_PORTS[scheme]}")
        return site == host.removesuffix(f":{_DEFAULT_PORTS[scheme]}") or site in self.entries


class HostCheck:
    """ASGI middleware that refuses requests and websockets by their Host and Origin.

    Args:
        app: what answers the others.
        allowed: the rule.
    """

    def __init__(self, app: ASGIApp, allowed: AllowedHosts) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] in ("http", "websocket"):
            refusal = self._allowed.refusal(*host_headers(scope["headers"]))
            if refusal is not None:
                await _refuse(scope["type"], refusal, send)
                return
        await self._app(scope, receive, send)


def host_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[str], str | None]:
    """The values of ``Host``, and ``Origin`` or none, of an ASGI request's headers."""
    hosts, origin = [], None
    for name, value in headers:
        if name == b"host":
            hosts.append(value.decode("latin-1"))
        elif name == b"origin":
            origin = value.decode("latin-1")
    return hosts, origin


def parse_entries(host_list: str) -> list[str]:
    """Host names, perhaps with a port, from a comma-separated list; raises ValueError naming the bad one."""
    entries = [part.strip().lower().removesuffix(".") for part in host_list.split(",") if part.strip()]
    for entry in entries:
        if _ENTRY.fullmatch(entry) is None:
            raise ValueError(f"{entry!r} is no host name; write name or name:port, divided by commas")
    return entries


def is_loopback(address: str | None) -> bool:
    """Whether an address reaches this machine alone; none, which cannot be told, does not."""
    if address is None:
        return False
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def is_encrypted(url: str) -> bool:
    """Whether an address is asked over TLS.

    For ``verify=`` of a client: a context of certificates takes 30 ms of a processor, also where nothing is encrypted.
    """
    return not url.startswith("http://")


def _name(host: str) -> str:
    """The name or address alone: no port, no brackets, no last dot."""
    match = _ENTRY.fullmatch(host)
    assert match is not None
    return match[1].strip("[]").removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(kind: str, refusal: HostRefusal, send: Send) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
    else:
        await answer_text(send, refusal.status, refusal.message)


async def answer_text(send: Send, status: int, message: str) -> None:
    """Send a whole answer of one line of text."""
    body = f"{message}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
