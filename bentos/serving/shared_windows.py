"""How the service makes window states that several replicas share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bentos.features.plan import FeaturePlan
from bentos.schema.event_schema import EventSchema
from bentos.windows.memory import MemoryWindows
from bentos.windows.redis import RedisWindows, keys_of, prefix_of
from bentos.windows.redis_connection import Link
from bentos.windows.state import WindowInput

_PART: Final = 1_000


def shared_windows_factory(
    url: str, name: str, horizon_us: int, schema: EventSchema
) -> Callable[[FeaturePlan], RedisWindows]:
    """How to make an empty state with a plan's windows that is kept in step with other replicas.

    Args:
        url: where Redis is.
        name: what shares a state: environment and use case.
        horizon_us: how long answers are kept (machine time, microseconds).
        schema: reads the bodies of events.

    Raises:
        SettingsError: the address is none.
    """

    Link(url)

    def make(plan: FeaturePlan) -> RedisWindows:
        state = RedisWindows(MemoryWindows(plan.specs), url, name, horizon_us, lambda body: read(body)[0])
        # A plan of its own, because plans remember the state they were last used with.
        own_plan = FeaturePlan.union([plan])

        def read(body: bytes) -> list[WindowInput]:
            return own_plan.inputs([schema.decode(body)], state)

        return state

    return make


def shared_name(env: str, usecase: str) -> str:
    """What shares a state: environment and use case."""
    return f"{env}-{usecase}"


def require_redis(url: str) -> None:
    """Raise :class:`~bentos.errors.WindowsUnavailable` where Redis is away."""
    link = Link(url)
    link.open()
    link.close()


def reset_shared_windows(url: str, name: str, event_ids: Sequence[str]) -> None:
    """Make every replica build its windows from the log again, and forget the answers of some ids.

    Args:
        url: where Redis is.
        name: of the shared state, see :func:`shared_name`.
        event_ids: ids whose answers are forgotten.

    Raises:
        WindowsUnavailable: Redis is away.
        SettingsError: the address is none.
    """
    link = Link(url)
    try:
        link.call("DEL", *keys_of(name))
        for start in range(0, len(event_ids), _PART):
            link.call("DEL", *(f"{prefix_of(name)}answer:{event_id}" for event_id in event_ids[start : start + _PART]))
    finally:
        link.close()
