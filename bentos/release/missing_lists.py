"""Rollbacks whose list of affected events nobody wrote: their process died after the change and before the list.

A rollback is over with its line in the chain; the list follows, and is a line of its own. Whoever carries out a
rollback claims the list while it is being written. The scribe's process looks for lists that are neither there nor
claimed, and writes them, whoever rolled back.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from bentos.promotion.context import ReleaseContext
from bentos.promotion.external_return import RETURN
from bentos.promotion.request import ReleaseOutcome
from bentos.release.affected_events import AFFECTED_LISTED, Affected, affected_by_rollback
from bentos.settings import Settings
from monitoring.store import Decision, Store

ACTOR: Final = "scribe"
GRACE: Final = timedelta(minutes=1)
"""Time for whoever rolled back to hear of the replicas and begin the list."""
LOOK_BACK: Final = timedelta(days=7)
"""Older rollbacks are left alone: who was to be called has called by now."""
_ROLLBACK_KINDS: Final = ("rollback.done", "rollback.pinned", RETURN)


def unlisted_rollbacks(store: Store, usecase: str, model: str, now: datetime) -> list[ReleaseOutcome]:
    """Rollbacks of the latest week without a list at machine time ``now``, oldest first; not those just carried out."""
    lines = store.decisions.list(usecase, (*_ROLLBACK_KINDS, AFFECTED_LISTED), limit=None)
    listed_ids = {str(line.payload["op_id"]) for line in lines if line.kind == AFFECTED_LISTED}
    latest, earliest = now - GRACE, now - LOOK_BACK
    return [
        ReleaseOutcome(
            "rollback", usecase, model, str(line.payload["from_version"]), str(line.payload["to_version"]), op_id
        )
        for line in lines
        if line.kind != AFFECTED_LISTED
        and line.payload.get("model") == model
        and line.payload.get("from_version") is not None
        and earliest <= line.recorded_at <= latest
        and (op_id := _name(line)) not in listed_ids
    ]


def write_missing_lists(context: ReleaseContext, settings: Settings, now: datetime) -> list[Affected]:
    """Write the lists that are missing at machine time ``now``; what was found.

    Raises:
        StoreUnavailable, OSError: the list could not be written; it is tried again when its claim has run out.
    """
    written = []
    for rollback in unlisted_rollbacks(context.store, context.usecase.name, context.model, now):
        affected = affected_by_rollback(context, settings, rollback, ACTOR, now, if_missing=True)
        written += [] if affected is None else [affected]
    return written


def _name(line: Decision) -> str:
    """What the list calls the rollback: its operation, or its decision where the journal has none."""
    return str(line.payload["op_id"]) if line.kind == "rollback.done" else line.id
