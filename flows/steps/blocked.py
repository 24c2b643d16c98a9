"""Events whose silence says nothing: they were blocked, so nobody will ever learn what they were."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from bentos.usecase import UseCase
from monitoring.calendar import TimeWindow

if TYPE_CHECKING:
    from monitoring.store import Store

NOTHING: frozenset[str] = frozenset()


def blocked_events(store: Store, usecase: UseCase, window: TimeWindow, as_of: datetime | None) -> frozenset[str]:
    """Ids of the events of a window that were blocked; empty where the use case blocks nothing.

    Where absence of a label means negative it does not for these: without a label they are unknown.

    Args:
        store: the log.
        usecase: says whether flagged events are blocked.
        window: span of event time.
        as_of: business time; reports of actions taken later are not looked at. None looks at all.
    """
    if not usecase.intervention.blocks_flagged:
        return NOTHING
    return store.actions.blocked(usecase.name, as_of, window)
