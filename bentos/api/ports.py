"""What the front door and the shortcut ask of those behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:  # names in annotations alone
    import asyncio

    from bentos.api.events import Taken
    from bentos.http_errors import HttpReply, RawHeaders
    from bentos.schema.event_schema import Event, EventSchema
    from bentos.scoring.batcher import Waiter
    from bentos.scoring.future_bound import Receipt


class ServingRuntime(Protocol):
    """What the front door needs of the runtime behind it."""

    schema: EventSchema
    body_limit: int
    """Bytes of one request's body."""
    max_batch: int
    """Events or labels of one list."""
    capacity: int
    """Requests under way at once; more are refused with 429."""
    body_timeout_s: float
    """Longest time for a body to arrive."""
    list_capacity: int
    list_timeout_s: float
    """See :class:`bentos.api.list_scheduler.Limits`."""

    def ready(self) -> bool:
        """Whether a verified champion is active."""
        ...

    def submit(self, event: Event) -> asyncio.Future[bytes]:
        """Score one event with whatever else is there; the future holds the reply's body."""
        ...

    def enqueue(self, event: Event, waiter: Waiter[bytes]) -> None:
        """The same as :meth:`submit`; the waiter is told the reply's body."""
        ...

    def waiting(self) -> int:
        """Submitted events that are not yet scored."""
        ...

    def explained(self, event: Event) -> bytes:
        """Score one event at once; the reply's body with the strongest reasons."""
        ...

    def rows(self, events: Sequence[Event], explain: bool) -> list[bytes]:
        """Score a part of a list at once; an answer, or an error in its place, for each event."""
        ...

    def take_events(self, events: Sequence[Event]) -> Taken:
        """Keep events that are not to be scored; returns the places of those that conflict, and what was refused."""
        ...

    def take_late(self, body: bytes) -> Receipt:
        """Keep what clients decided by themselves."""
        ...

    def take_labels(self, body: bytes) -> bytes:
        """Accept one label or a list of labels; returns the reply's body."""
        ...

    def take_actions(self, body: bytes) -> bytes:
        """Accept one action or a list of actions; returns the reply's body."""
        ...

    def model_card(self) -> bytes:
        """What is active and since when, as JSON."""
        ...

    def observe(self) -> None:
        """Bring the gauges up to date before they are read."""
        ...


class RequestCounter(Protocol):
    """Counts the requests that the framework's own layer does not see."""

    def add(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one request."""
        ...

    def flush(self) -> None:
        """Move the counts into the instruments behind ``/metrics``."""
        ...


class Door(Protocol):
    """What the shortcut asks; see :class:`bentos.api.front_door.FrontDoor`."""

    def admit(self, path: str, headers: RawHeaders) -> ServingRuntime:
        """The desk for one request, or an error."""
        ...

    def leave(self) -> None:
        """The request is over."""
        ...

    def count(self, path: str, status: int, seconds: float) -> None:
        """It was answered."""
        ...

    def refuse(self, error: Exception, path: str) -> HttpReply:
        """What to say to a request that failed."""
        ...


class Shortcut:
    """Tells the protocol whom to ask: the protocol is made by uvicorn, the door by the framework."""

    def __init__(self) -> None:
        self.door: Door | None = None


SHORTCUT: Final = Shortcut()
