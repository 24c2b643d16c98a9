"""The front door: the outermost link of the Bento's middleware chain.

It answers what is asked often (``/score``, ``/score/batch``, ``/events``, ``/labels``, ``/model``)
without passing through the framework's metrics, tracing, timeout and concurrency layers, which cost
more than the model does; it does their work itself, counted in bulk. Everything else passes through
to the Bento, except

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
from collections.abc import Callable, Coroutine, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bentos import http_errors
from bentos.api.events import Taken
from bentos.api.key_gate import Gate
from bentos.api.list_scheduler import ListScheduler
from bentos.api.list_tickets import Tickets, own_errors, replay, with_json_body
from bentos.api.ports import RequestCounter, ServingRuntime
from bentos.errors import AccessError, ModelNotReady
from bentos.http_errors import ASGIApp, HttpReply, Receive, Scope, Send, log_fault, problem
from bentos.scoring.future_bound import Receipt, Refusals
from monitoring.metrics import serving as metrics

if TYPE_CHECKING:
    from bentos.api.ports import Shortcut


SCORE: Final = "/score"
BATCH: Final = "/score/batch"
LIST: Final = "/score/list"
EVENTS: Final = "/events"
LATE: Final = "/late"
ACTIONS: Final = "/actions"
LABELS: Final = "/labels"
MODEL: Final = "/model"
METRICS: Final = "/metrics"
_SWEEP_SECONDS: Final = 0.1  # often, so that what was counted since is moved in less than a millisecond
AT_ONCE: Final = 128
"""Events of a list that are worked on in one go, some 4 ms."""
EXPLAINED_AT_ONCE: Final = 4
"""The same for events that are explained, which takes ten times as long."""


class FrontDoor:
    """ASGI middleware; see the module's text.

    Args:
        app: the rest of the chain.
        desk: gives the runtime, or none while it is being built.
        tally: makes the request counter once the chain below is complete.
        tickets: where rows of ``/score/list`` wait.
        known: whether a path leads anywhere.
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
        known: Callable[[str], bool],
        index: bytes = b"",
        shortcut: Shortcut | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate or Gate(None)
        self._app = app
        self._desk = runtime
        self._tally = tally(app)
        self._tickets = tickets
        self._known = known
        self._index = index
        self._in_flight = 0
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._list_scheduler = ListScheduler()
        self._answers: dict[str, Callable[[ServingRuntime, Scope, Receive], Coroutine[Any, Any, HttpReply]]] = {
            SCORE: self._score,
            BATCH: self._batch,
            EVENTS: self._events,
            LATE: self._late,
            LABELS: self._labels,
            ACTIONS: self._actions,
            MODEL: self._model,
        }
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
        if path in self._answers:
            await self._timed(self._answers[path], path, scope, receive, send)
        elif path == LIST:
            await self._list(scope, receive, send)
        else:
            try:
                self._gate.admit(path, scope["headers"])
            except AccessError as exc:
                await http_errors.reply(send, *refuse(exc, path if self._known(path) else "other"))
            else:
                await self._other_path(path, scope, receive, send)

    async def _other_path(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """The page, what the Bento answers itself, and paths that lead nowhere."""
        if path == "/":
            await http_errors.page(send, self._index)
        elif self._known(path):
            if path == METRICS:
                self._tally.flush()
                self._observe()
            await self._app(scope, receive, send)
        else:
            metrics.REFUSED_REQUESTS.labels("other", http_errors.NOT_FOUND.code).inc()
            await http_errors.reply(send, *http_errors.refusal(problem(http_errors.NOT_FOUND)))

    async def _timed(
        self,
        answer: Callable[[ServingRuntime, Scope, Receive], Coroutine[Any, Any, HttpReply]],
        path: str,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer here: count, limit, translate errors."""
        start = time.perf_counter()
        try:
            reply = await answer(self.admit(path, scope["headers"]), scope, receive)
        except Exception as exc:
            reply = refuse(exc, path)
        finally:
            self.leave()
        await http_errors.reply(send, *reply)
        self._tally.add(path, reply.status, time.perf_counter() - start)

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

    async def _score(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
        explain = http_errors.flag(scope, "explain")
        body = await self._ready_body(runtime, scope, receive)
        event = runtime.schema.decode(body)
        if not explain:
            return HttpReply(200, await runtime.submit(event))
        (answer,) = await self._list_scheduler.run(
            runtime, [event], 1, lambda part: runtime.explained(part[0]), receive
        )
        return HttpReply(200, answer)

    async def _batch(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
        explain = http_errors.flag(scope, "explain")
        body = await self._ready_body(runtime, scope, receive)
        events = runtime.schema.decode_many(body, runtime.max_batch)
        size = EXPLAINED_AT_ONCE if explain else AT_ONCE
        row_lists = await self._list_scheduler.run(
            runtime, events, size, lambda part: runtime.rows(part, explain), receive
        )
        return HttpReply(200, b"[%b]" % b",".join(chain.from_iterable(row_lists)))

    async def _events(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
        body = await self._ready_body(runtime, scope, receive)
        many = body.lstrip(b" \t\r\n")[:1] == b"["
        events = runtime.schema.decode_many(body, runtime.max_batch) if many else [runtime.schema.decode(body)]
        parts = await self._list_scheduler.run(runtime, events, AT_ONCE, runtime.take_events, receive)
        return _taken(receipt(parts, len(events), many))

    async def _late(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
        return _taken(runtime.take_late(await self._ready_body(runtime, scope, receive)))

    async def _labels(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
        return HttpReply(200, runtime.take_labels(await self._body(runtime, scope, receive)))

    async def _actions(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
        return HttpReply(200, runtime.take_actions(await self._body(runtime, scope, receive)))

    async def _model(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
        _only(scope, "GET")
        return HttpReply(200, runtime.model_card())

    async def _list(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        with contextlib.ExitStack() as after:
            after.callback(self.leave)
            try:
                runtime = self.admit(LIST, scope["headers"])
                body = await self._ready_body(runtime, scope, receive)
                events = runtime.schema.decode_many(body, runtime.max_batch)
                after.enter_context(self._list_scheduler.hold(len(events), runtime))
            except Exception as exc:
                reply = refuse(exc, LIST)
                await http_errors.reply(send, *reply)
                self._tally.add(LIST, reply.status, time.perf_counter() - start)
                return
            numbers = self._tickets.issue(events)
            after.callback(self._tickets.void, numbers)
            # BentoML counts this one: it passes through all its layers.
            await self._app(with_json_body(scope), replay(msgspec.json.encode(numbers)), own_errors(send, LIST))

    async def _ready_body(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> bytes:
        body = await self._body(runtime, scope, receive)
        if not runtime.ready():
            raise problem(http_errors.NOT_READY)
        return body

    async def _body(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> bytes:
        """The request's body, within its limits of type, size and time."""
        _only(scope, "POST")
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


def receipt(parts: Sequence[Taken], events: int, many: bool) -> Receipt:
    """What became of a list of ``events`` that was taken in parts of :data:`AT_ONCE`."""
    conflicts = [number * AT_ONCE + at for number, part in enumerate(parts) for at in part.conflicts]
    refusals = Refusals()
    for number, part in enumerate(parts):
        refusals |= part.refused.shifted(number * AT_ONCE)
    return Receipt(events - len(conflicts) - len(refusals), conflicts, refusals, many)


def _taken(result: Receipt) -> HttpReply:
    if result.conflicts and not result.many:
        raise problem(http_errors.CONFLICT, "this event id was sent before, with another body")
    return HttpReply(200, result.body())


def _only(scope: Scope, method: str) -> None:
    if scope["method"] != method:
        raise problem(http_errors.METHOD, f"{scope['path']} answers {method}", ((b"allow", method.encode()),))
