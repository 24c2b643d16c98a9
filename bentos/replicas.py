"""How the service makes window states that several replicas share."""

from __future__ import annotations

from collections.abc import Callable

from bentos.features import FeaturePlan
from bentos.redis_link import Link
from bentos.redis_windows import RedisWindows
from bentos.schema import EventSchema
from bentos.window_state import WindowInput
from bentos.windows import MemoryWindows


def shared(url: str, name: str, horizon_us: int, schema: EventSchema) -> Callable[[FeaturePlan], RedisWindows]:
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
        own = FeaturePlan.union([plan])

        def read(body: bytes) -> list[WindowInput]:
            return own.inputs([schema.decode(body)], state)

        return state

    return make
