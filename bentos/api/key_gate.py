"""Who may ask what: the API keys in front of every path.

Keys are off while the service listens on this machine alone, and needed as soon as it listens on any
other address, or on one that cannot be told. What a path needs stands in its row of :mod:`bentos.api.routes`; a path
that is not in the table needs some valid key, so that a new path is never open by mistake. A probe carries no key, and
``/metrics`` holds rates and versions, no event: both stay open (``INCUMBENT_METRICS_ACCESS=admin`` closes
the latter).

Without keys the names decide: a request has to come under a name of this machine, and not from a web page of
another site (:mod:`monitoring.core.hosts`). With keys any name may lead here; a page that has no key gets nothing.

The listening socket says whether others can connect: no process that answers is told the address otherwise.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from bentos import http_errors
from bentos.api import routes
from bentos.api.routes import METRICS
from bentos.errors import HostRefused, KeyFileError, OriginRefused
from bentos.keys import KeyRing
from bentos.keys import Scope as KeyScope
from bentos.settings import Settings
from monitoring.core.hosts import MISDIRECTED, AllowedHosts, is_loopback

_KNOWN_HOSTS: Final = 64
_BEARER: Final = b"bearer "


class Gate:
    """Checks each request's key before anything of it is read.

    Args:
        ring: the keys; none lets everybody in.
        metrics_scope: what ``/metrics`` asks for; none leaves it open.
        clock: machine time.
        hosts: names under which a service without keys answers; none takes every name.
    """

    def __init__(
        self,
        ring: KeyRing | None,
        metrics_scope: Literal["admin"] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        hosts: AllowedHosts | None = None,
    ) -> None:
        self._ring = ring
        self._hosts = hosts
        self._known: set[bytes | None] = set()
        self._clock = clock
        scopes = {route.path: route.scope for route in routes.ROUTES}
        if metrics_scope is not None:
            scopes[METRICS.path] = metrics_scope
        self._open = frozenset(path for path, scope in scopes.items() if scope == "open")
        self._needs: dict[str, KeyScope] = {
            path: scope for path, scope in scopes.items() if scope != "open" and scope != "any"
        }

    @property
    def closed(self) -> bool:
        """Whether keys are needed."""
        return self._ring is not None

    def admit(self, path: str, headers: http_errors.RawHeaders) -> None:
        """Let a request pass, or raise :class:`~bentos.errors.AccessError`; costs a few microseconds."""
        if self._ring is not None:
            if path not in self._open:
                self._ring.check(token_of(headers), self._needs.get(path), self._clock())
        elif self._hosts is not None:
            host = origin = None
            for name, value in headers:
                if name == b"host":
                    host = value if host is None else b""
                elif name == b"origin":
                    origin = value
            if origin is not None or host not in self._known:
                self._check_hosts(self._hosts, host, origin)

    def _check_hosts(self, hosts: AllowedHosts, host: bytes | None, origin: bytes | None) -> None:
        """Look at names that were not seen before; a good Host is remembered, so that its next request costs nothing.

        Raises:
            HostRefused: the Host is missing, sent twice, or no name of ours.
            OriginRefused: a page of another site asks.
        """
        names = [] if host is None else [host.decode("latin-1")]
        refusal = hosts.refusal(names, None if origin is None else origin.decode("latin-1"))
        if refusal is not None:
            raise (HostRefused if refusal.status == MISDIRECTED else OriginRefused)(refusal.message)
        if len(self._known) < _KNOWN_HOSTS:
            self._known.add(host)


def token_of(headers: http_errors.RawHeaders) -> str | None:
    """The key that a request carries: ``Authorization: Bearer``, else ``X-API-Key``, else none."""
    key = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == _BEARER:
            return value[7:].strip().decode("latin-1")
        if name == b"x-api-key":
            key = value.strip().decode("latin-1")
    return key


def keys_needed(settings: Settings, address: str | None) -> bool:
    """Whether requests need keys when the service listens on ``address`` (none: it cannot be told)."""
    return settings.keys_required == "always" or not is_loopback(address)


def make_gate(settings: Settings, address: str | None) -> Gate:
    """The gate of a service that listens on ``address``.

    Raises:
        KeyFileError: keys are needed and there are none; the text says how to go on.
    """
    if not keys_needed(settings, address):
        return Gate(None, hosts=AllowedHosts.of("127.0.0.1", settings.allowed_hosts))
    address_text = "an address that cannot be told" if address is None else address
    try:
        ring = KeyRing.load(settings.keys_file)
    except KeyFileError as exc:
        raise KeyFileError(_advice(address_text, str(exc))) from exc
    if not len(ring):
        raise KeyFileError(
            _advice(address_text, f"{settings.keys_file} holds none; make one with `incumbent keys add`")
        )
    return Gate(ring, "admin" if settings.metrics_access == "admin" else None)


def listening_address(argv: Sequence[str] | None = None) -> str | None:
    """The address of the socket that a worker was given as ``--fd``, or none where there is none.

    The socket itself is asked: flags, variables and configuration files can all name the address, and
    only the socket says which one won.
    """
    argv = sys.argv if argv is None else argv
    try:
        descriptor = os.dup(int(argv[argv.index("--fd") + 1]))
        with socket.socket(fileno=descriptor) as listener:
            name = listener.getsockname()
    except (ValueError, IndexError, OSError):
        return None
    return str(name[0]) if isinstance(name, tuple) else None


def _advice(address_text: str, reason: str) -> str:
    return (
        f"the service would listen on {address_text}, so requests need API keys: {reason} "
        "(in the image `python -m bentos.keys add`), "
        "name another file with INCUMBENT_KEYS, or listen on 127.0.0.1"
    )
