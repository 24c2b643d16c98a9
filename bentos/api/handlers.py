"""What each path of the front door does with a request that was admitted: read, ask the runtime, reply.

A handler is a row's part of :mod:`bentos.api.routes`; scope, method, capacity, errors and counting are the
front door's work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from bentos import http_errors
from bentos.api.ports import ServingRuntime
from bentos.http_errors import HttpReply, Receive, Scope, problem

if TYPE_CHECKING:  # they bring pandas, and the master process reads the table too
    from bentos.api.events import Taken
    from bentos.api.list_scheduler import ListScheduler
    from bentos.scoring.future_bound import Receipt

AT_ONCE: Final = 128
"""Events of a list that are worked on in one go, some 4 ms."""
EXPLAINED_AT_ONCE: Final = 4
"""The same for events that are explained, which takes ten times as long."""


class RequestReader(Protocol):
    """What a handler asks of the front door."""

    lists: ListScheduler
    """Whose turn it is, when lists are worked on in parts."""

    async def body(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> bytes:
        """The request's body, within its limits of type, size and time."""
        ...

    async def body_when_ready(self, runtime: ServingRuntime, scope: Scope, receive: Receive) -> bytes:
        """The same, or 503 while no verified model is active."""
        ...


Handler = Callable[[RequestReader, ServingRuntime, Scope, Receive], Awaitable[HttpReply]]


async def score(reader: RequestReader, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
    """Score one event, with the strongest reasons where ``?explain=true`` asks for them."""
    explain = http_errors.flag(scope, "explain")
    event = runtime.schema.decode(await reader.body_when_ready(runtime, scope, receive))
    if not explain:
        return HttpReply(200, await runtime.submit(event))
    (answer,) = await reader.lists.run(runtime, [event], 1, lambda part: runtime.explained(part[0]), receive)
    return HttpReply(200, answer)


async def score_batch(reader: RequestReader, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
    """Score a list of events, in parts between which single events are answered."""
    explain = http_errors.flag(scope, "explain")
    body = await reader.body_when_ready(runtime, scope, receive)
    events = runtime.schema.decode_many(body, runtime.max_batch)
    size = EXPLAINED_AT_ONCE if explain else AT_ONCE
    row_lists = await reader.lists.run(runtime, events, size, lambda part: runtime.rows(part, explain), receive)
    return HttpReply(200, b"[%b]" % b",".join(chain.from_iterable(row_lists)))


async def take_events(reader: RequestReader, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
    """Keep one event or a list of events that are not to be scored."""
    body = await reader.body_when_ready(runtime, scope, receive)
    many = body.lstrip(b" \t\r\n")[:1] == b"["
    events = runtime.schema.decode_many(body, runtime.max_batch) if many else [runtime.schema.decode(body)]
    parts = await reader.lists.run(runtime, events, AT_ONCE, runtime.take_events, receive)
    return _reply(merge_parts(parts, len(events), many))


async def take_late(reader: RequestReader, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
    """Keep what clients decided by themselves."""
    return _reply(runtime.take_late(await reader.body_when_ready(runtime, scope, receive)))


async def take_labels(reader: RequestReader, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
    """Keep one label or a list of labels; needs no active model."""
    return HttpReply(200, runtime.take_labels(await reader.body(runtime, scope, receive)))


async def take_actions(reader: RequestReader, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
    """Keep one action or a list of actions; needs no active model."""
    return HttpReply(200, runtime.take_actions(await reader.body(runtime, scope, receive)))


async def show_model(reader: RequestReader, runtime: ServingRuntime, scope: Scope, receive: Receive) -> HttpReply:
    """Say what is active, since when, and what is refused."""
    return HttpReply(200, runtime.model_card())


def merge_parts(parts: Sequence[Taken], events: int, many: bool) -> Receipt:
    """What became of a list of ``events`` that was taken in parts of :data:`AT_ONCE`."""
    from bentos.scoring.future_bound import Receipt, Refusals  # imports SQLAlchemy

    conflicts = [number * AT_ONCE + at for number, part in enumerate(parts) for at in part.conflicts]
    refusals = Refusals()
    for number, part in enumerate(parts):
        refusals |= part.refused.shifted(number * AT_ONCE)
    return Receipt(events - len(conflicts) - len(refusals), conflicts, refusals, many)


def _reply(receipt: Receipt) -> HttpReply:
    if receipt.conflicts and not receipt.many:
        raise problem(http_errors.CONFLICT, "this event id was sent before, with another body")
    return HttpReply(200, receipt.body())
