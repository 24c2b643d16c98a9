"""Whether hours, weekdays or a freeze of the use case hold changes that bring a challenger to clients."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from bentos.usecase.definition import UseCase
from monitoring.policies.change_windows import hold_reason
from monitoring.store import Store
from monitoring.store.predictions.recent_pairs import newest_event

_LIVE: Final = timedelta(days=1)


def why_held_now(store: Store, usecase: UseCase, at: datetime) -> str | None:
    """Why nothing may be promoted, or given traffic, at business time ``at``; none when it may.

    The caller names that time, so it is not believed where events are live: then the machine's clock must agree.
    A replayed period has events of another time, and only its own clock counts.
    """
    policy, zone = usecase.promotion, usecase.zone
    if (reason := hold_reason(policy, zone, at)) is not None:
        return reason
    now = datetime.now(UTC)
    if (reason := hold_reason(policy, zone, now)) is None:
        return None
    # One event far in the future, which an older log may hold, must not make live events look like a replay.
    newest_event_time = newest_event(store.database, usecase.name, now + _LIVE)
    return reason if newest_event_time is not None and now - newest_event_time < _LIVE else None
