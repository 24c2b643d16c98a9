"""A plain ``POST /score`` without ASGI: uvicorn's HTTP protocol with one shortcut.

ASGI costs a score, a request dictionary, a task, an event and two messages, a third of all that an
answer costs. Here a request that arrived whole and has nothing unusual about it goes from the parser
to the micro-batch, and its answer from there to the socket. Everything else (another path or method,
a query, a chunked or late body, pipelining, an upgrade) becomes an ordinary ASGI request, so there is
one place that knows what to say to it: the front door, which both roads ask.

uvicorn's protocol class and its table of protocols are not promised to stay as they are: where a part
is missing :func:`install` leaves uvicorn alone.
"""

from __future__ import annotations

import logging
import time
from asyncio import TimerHandle
from collections.abc import Sequence
from typing import Any, Final

from uvicorn import config as uvicorn_config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from bentos import http_errors
from bentos.api.ports import SHORTCUT, Shortcut
from bentos.api.routes import SCORE
from bentos.http_errors import problem

log = logging.getLogger("incumbent.http")

_PATH: Final = SCORE.path
_RAW_PATH: Final = _PATH.encode()
_METHOD: Final = SCORE.method.encode()
_UNUSUAL: Final = frozenset((b"expect", b"transfer-encoding", b"upgrade", b"content-encoding"))
_PARTS: Final = (
    "on_message_begin", "on_header", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete",
    "data_received", "connection_lost", "shutdown",
)  # fmt: skip


def install() -> Shortcut | None:
    """Let the servers of this process use :class:`Wire`; none where uvicorn has other parts than expected."""
    table = getattr(uvicorn_config, "HTTP_PROTOCOLS", None)
    if not isinstance(table, dict) or any(not hasattr(HttpToolsProtocol, part) for part in _PARTS):
        log.warning("uvicorn has other parts than expected; every request goes through ASGI")
        return None
    table["auto"] = f"{__name__}:Wire"
    return SHORTCUT


class Flight:
    """A request past ASGI that is under way. It waits for its answer and speaks to uvicorn like a request of its own.

    One for each connection, used again: a connection has at most one under way.
    """

    __slots__ = ("disconnected", "keep_alive", "response_complete", "started", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.started = 0.0
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = True

    @property
    def message_event(self) -> Flight:
        """uvicorn sets it when the connection is lost; nobody waits for it here."""
        return self

    def set(self) -> None:
        """See :attr:`message_event`."""

    def done(self) -> bool:
        """See :class:`bentos.scoring.batcher.Waiter`."""
        return self.disconnected

    def set_result(self, result: bytes) -> None:
        """See :class:`bentos.scoring.batcher.Waiter`."""
        self.wire.answer(200, result, ())

    def set_exception(self, exception: Exception) -> None:
        """See :class:`bentos.scoring.batcher.Waiter`."""
        self.wire.fail(exception)


class Wire(HttpToolsProtocol):
    """One connection."""

    _stamp: tuple[Sequence[tuple[bytes, bytes]], bytes] = ((), b"")
    """Default headers (uvicorn makes them anew each second, for the date) and the head of a good answer with them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._flight = Flight(self)
        self._on_shortcut = False
        self._content = b""
        self._idle: TimerHandle | None = None
        self._last = 0.0
        self._open = not self.root_path and self.limit_concurrency is None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answer any more."""
        is_under_way = not self._flight.response_complete
        super().connection_lost(exc)
        self._flight.disconnected = True
        if self._idle is not None:
            self._idle.cancel()
        if is_under_way and SHORTCUT.door is not None:
            SHORTCUT.door.leave()

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self._last = self.loop.time()
        super().data_received(data)
        if self._on_shortcut:  # the rest of the body is still on its way: the front door knows how long to wait
            self._become_asgi()

    def on_message_begin(self) -> None:
        """A request begins."""
        # uvicorn makes the ASGI scope here; most requests need none.
        self.url = b""
        self.headers = []
        self._on_shortcut = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Everything but the body is there."""
        if self.url == _RAW_PATH and self._is_plain():
            self._on_shortcut = True
            self._content = b""
        else:
            self._begin_asgi()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._on_shortcut:
            self._content = self._content + body if self._content else body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if not self._on_shortcut:
            super().on_message_complete()
            return
        self._on_shortcut = False
        flight, door = self._flight, SHORTCUT.door
        assert door is not None
        flight.started = time.perf_counter()
        flight.response_complete = False
        flight.keep_alive = self.parser.should_keep_alive()
        self.cycle = flight  # type: ignore[assignment]  # it has what uvicorn asks of a request under way
        try:
            runtime = door.admit(_PATH, self.headers)
            if len(self._content) > runtime.body_limit:
                raise problem(http_errors.TOO_LARGE, f"the body is longer than {runtime.body_limit} bytes")
            if not runtime.ready():
                raise problem(http_errors.NOT_READY)
            runtime.enqueue(runtime.schema.decode(self._content), flight)
        except Exception as exc:
            self.fail(exc)

    def fail(self, error: Exception) -> None:
        """Refuse the request under way."""
        assert SHORTCUT.door is not None
        self.answer(*SHORTCUT.door.refuse(error, _PATH))

    def answer(self, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Answer the request under way, with one write."""
        flight, door = self._flight, SHORTCUT.door
        assert door is not None
        flight.response_complete = True
        door.leave()
        door.count(_PATH, status, time.perf_counter() - flight.started)
        if status == 200 and flight.keep_alive:
            self.transport.write(b"%b%d\r\n\r\n%b" % (self._good_head(), len(body), body))
        else:
            self.transport.write(self._rare(status, body, headers))
        if not flight.keep_alive:
            self.transport.close()
        if self.pipeline:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._last = self.loop.time()
        if self._idle is None:
            self._idle = self.loop.call_later(self.timeout_keep_alive, self._look_idle)

    def _is_plain(self) -> bool:
        """Whether the request whose headers are here may take the shortcut."""
        if not self._open or SHORTCUT.door is None or self.flow.write_paused:
            return False
        if self.pipeline or not (self.cycle is None or self.cycle.response_complete):
            return False
        if self.parser.get_method() != _METHOD or self.parser.get_http_version() != "1.1":
            return False
        json = False
        for name, value in self.headers:
            if name == b"content-type":
                if json or value != http_errors.JSON:
                    return False
                json = True
            elif name in _UNUSUAL:
                return False
        return json

    def _begin_asgi(self) -> None:
        """Go on as uvicorn does, from the end of the headers."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers += headers  # the scope holds this very list
        self.expect_100_continue = any(n == b"expect" and v.lower() == b"100-continue" for n, v in headers)
        super().on_headers_complete()

    def _become_asgi(self) -> None:
        self._on_shortcut = False
        self._begin_asgi()
        if self._content:
            super().on_body(self._content)

    def _good_head(self) -> bytes:
        """Status and headers of an answer, up to the value of ``content-length``."""
        default_headers = self.server_state.default_headers
        if Wire._stamp[0] is not default_headers:
            lines = b"".join(b"%b: %b\r\n" % pair for pair in default_headers)
            Wire._stamp = (
                default_headers,
                b"%b%bcontent-type: %b\r\ncontent-length: " % (STATUS_LINE[200], lines, http_errors.JSON),
            )
        return Wire._stamp[1]

    def _rare(self, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
        length = str(len(body)).encode()
        all_headers = [
            *self.server_state.default_headers,
            (b"content-type", http_errors.JSON),
            (b"content-length", length),
            *headers,
        ]
        if not self._flight.keep_alive:
            all_headers.append((b"connection", b"close"))
        return b"%b%b\r\n%b" % (STATUS_LINE[status], b"".join(b"%b: %b\r\n" % pair for pair in all_headers), body)

    def _look_idle(self) -> None:
        """Close the connection when nothing came for a while.

        One timer a connection that looks now and then: a timer of its own would cost each request 3 us.
        """
        self._idle = None
        # Another request is under way, or uvicorn counts the time itself.
        busy = self.timeout_keep_alive_task is not None or not (self.cycle is None or self.cycle.response_complete)
        quiet_seconds = self.loop.time() - self._last
        if self.transport.is_closing():
            return
        if not busy and quiet_seconds >= self.timeout_keep_alive:
            self.transport.close()
        else:
            remaining_seconds = self.timeout_keep_alive if busy else self.timeout_keep_alive - quiet_seconds
            self._idle = self.loop.call_later(remaining_seconds, self._look_idle)
