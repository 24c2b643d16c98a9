"""The front door: the outermost link of the Bento's middleware chain.

It answers the paths that have a handler in the table (:mod:`bentos.api.routes`) without passing
through the framework's metrics, tracing, timeout and concurrency layers, which cost more than the
model does; it does their work itself, counted in bulk. Everything else passes through to the Bento,
except

* an unknown path: answered here, because BentoML counts requests by raw path and would keep a time
  series for each,
* ``/score/list``: decoded strictly here, then handed on as tickets (:class:`Tickets`), so that
  BentoML's adaptive batching carries rows that are already known to be good,
* an error made by the framework: its body is replaced by one of ours.

Where uvicorn allows it, a plain ``POST /score`` does not even become an ASGI request: see
:mod:`bentos.api.uvicorn_shortcut`, which asks :meth:`FrontDoor.admit` like every other road.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bentos import http_errors
from bentos.api import routes
from bentos.api.key_gate import Gate
from bentos.api.list_scheduler import ListScheduler
from bentos.api.list_tickets import Tickets, own_errors, replay, with_json_body
from bentos.api.ports import RequestCounter, ServingRuntime
from bentos.api.routes import LIST, METRICS, Route, routes_by_path
from bentos.errors import AccessError, ModelNotReady
from bentos.http_errors import ASGIApp, HttpProblem, HttpReply, Receive, Scope, Send, log_fault, problem
from monitoring.metrics import serving as metrics

if TYPE_CHECKING:
    from bentos.api.ports import Shortcut


_SWEEP_SECONDS: Final = 0.1  # often, so that what was counted since is moved in less than a millisecond


class FrontDoor:
    """ASGI middleware; see the module's text.

    Args:
        app: the rest of the chain.
        desk: gives the runtime, or none while it is being built.
        tally: makes the request counter once the chain below is complete.
        tickets: where rows of ``/score/list`` wait.
        known: paths beside the table that lead anywhere.
        index: HTML behind ``/``.
        shortcut: the road past ASGI, which is told whom to ask.
        gate: checks API keys; none lets everybody in.
    """

    def __init__(
        self,
        app: ASGIApp,
        runtime: Callable[[], ServingRuntime | None],
        tally: Callable[[ASGIApp], RequestCounter],
        tickets: Tickets,
        known: AbstractSet[str],
        index: bytes = b"",
        shortcut: Shortcut | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate or Gate(None)
        self._app = app
        self._desk = runtime
        self._tally = tally(app)
        self._tickets = tickets
        self._index = index
        self._in_flight = 0
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self.lists = ListScheduler()
        table = routes_by_path(routes.ROUTES)
        self._handled = {path: route for path, route in table.items() if route.handler is not None}
        self._known = table.keys() | known
        if shortcut is not None:
            shortcut.door = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection, or pass it on."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
        elif kind == "http":
            await self._http(scope, receive, send)
        else:  # there is no websocket here, and its path would become a time series
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        route = self._handled.get(path)
        if route is not None:
            await self._timed(route, scope, receive, send)
        elif path == LIST.path:
            await self._list(LIST, scope, receive, send)
        else:
            await self._beside(path, scope, receive, send)

    async def _beside(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything that has no handler here, once the key is checked."""
        try:
            self._gate.admit(path, scope["headers"])
        except AccessError as exc:
            await http_errors.reply(send, *refuse(exc, path if path in self._known else "other"))
        else:
            await self._other_path(path, scope, receive, send)

    async def _other_path(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """The page, what the Bento answers itself, and paths that lead nowhere."""
        if path == "/":
            await http_errors.page(send, self._index)
        elif path in self._known:
            if path == METRICS.path:
                self._tally.flush()
                self._observe()
            await self._app(scope, receive, send)
        else:
            metrics.REFUSED_REQUESTS.labels("other", http_errors.NOT_FOUND.code).inc()
            await http_errors.reply(send, *http_errors.refusal(problem(http_errors.NOT_FOUND)))

    async def _timed(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer here: count, limit, translate errors."""
        assert route.handler is not None
        start = time.perf_counter()
        try:
            runtime = self.admit(route.path, scope["headers"])
            if scope["method"] != route.method:
                raise _wrong_method(route)
            reply = await route.handler(self, runtime, scope, receive)
        except Exception as exc:
            reply = refuse(exc, route.path)
        finally:
            self.leave()
        await http_errors.reply(send, *reply)
        self._tally.add(route.path, reply.status, time.perf_counter() - start)

    def _observe(self) -> None:
        if (runtime := self._desk()) is not None:
            runtime.observe()

    def admit(self, path: str, headers: http_errors.RawHeaders) -> ServingRuntime:
        """The desk for one request. Every road into the product asks here, and calls :meth:`leave` afterwards.

        Raises:
            AccessError: the request's API key does not open the path.
            HttpProblem: 429 beyond capacity.
            ModelNotReady: there is no desk yet.
        """
        # Counted even when refused, so that the caller can always count down.
        self._in_flight += 1
        self._gate.admit(path, headers)
        runtime = self._desk()
        if runtime is None:
            raise ModelNotReady("the service is starting; ask /readyz")
        if self._in_flight > runtime.capacity:
            raise problem(http_errors.BUSY, headers=((b"retry-after", b"1"),))
        return runtime

    def leave(self) -> None:
        """A request that was admitted, or refused by :meth:`admit`, is over."""
        self._in_flight -= 1

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered past ASGI."""
        self._tally.add(path, status, seconds)

    def refuse(self, error: Exception, path: str) -> HttpReply:
        """See :func:`refuse`."""
        return refuse(error, path)

    async def _list(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        with contextlib.ExitStack() as after:
            after.callback(self.leave)
            try:
                runtime = self.admit(route.path, scope["headers"])
                if scope["method"] != route.method:
                    raise _wrong_method(route)
                body = await self.body_when_ready(runtime, scope, receive)
                events = runtime.schema.decode_many(body, runtime.max_batch)
                after.enter_context(self.lists.hold(len(events), runtime))
            except Exception as exc:
                reply = refuse(exc, route.path)
                await http_errors.reply(send, *reply)
                self._tally.add(route.path, reply.status, time.perf_counter() - start)
                return
            numbers = self._tickets.issue(events)
            after.callback(self._tickets.void, numbers)
            # BentoML counts this one: it passes through all its layers.
            await self._app(with_json_body(scope), replay(msgspec.json.encode(numbers)), own_errors(send, route.path))

    async def body_when_ready(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> bytes:
        """The request's body, or 503 while no verified model is active."""
        body = await self.body(runtime, scope, receive)
        if not runtime.ready():
            raise problem(http_errors.NOT_READY)
        return body

    async def body(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> bytes:
        """The request's body, within its limits of type, size and time."""
        http_errors.check_headers(scope["headers"], runtime.body_limit)
        task = asyncio.current_task()
        assert task is not None
        self._reading[task] = time.monotonic() + runtime.body_timeout_s
        self._watch()
        try:
            return await http_errors.read_body(receive, runtime.body_limit)
        except asyncio.CancelledError:
            if task in self._reading or task.uncancel():
                raise
            raise problem(http_errors.SLOW_BODY) from None
        finally:
            self._reading.pop(task, None)

    def _watch(self) -> None:
        # One sweeper for all bodies: a timer of its own would cost each request more than reading does.
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._tally.flush()
            self._observe()
            now = time.monotonic()
            for task in [task for task, deadline in self._reading.items() if deadline < now]:
                del self._reading[task]
                task.cancel()


def refuse(error: Exception, path: str) -> HttpReply:
    """The reply to a request that failed; it is counted, and logged without any value."""
    reply = http_errors.refusal(error)
    log_fault(path, error)
    metrics.REFUSED_REQUESTS.labels(path, http_errors.translate(error).code).inc()
    return reply


def _wrong_method(route: Route) -> HttpProblem:
    return problem(http_errors.METHOD, f"{route.path} answers {route.method}", ((b"allow", route.method.encode()),))
