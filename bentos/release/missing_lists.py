"""Rollbacks whose list of affected events nobody wrote: their process died after the change and before the list.

A rollback is over with its line in the chain; the list follows, and is a line of its own. Whoever carries out a
rollback claims the list while it is being written. The scribe's process looks for lists that are neither there nor
claimed, and writes them, whoever rolled back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bentos.promotion.external_return import RETURN
from bentos.registry.ports import ModelRegistry
from bentos.release.affected_events import NOTED, Affected, affected_by_rollback
from bentos.settings import Settings
from bentos.usecase.definition import UseCase
from monitoring.store import Decision, Store

ACTOR: Final = "scribe"
GRACE: Final = timedelta(minutes=1)
"""Time for whoever rolled back to hear of the replicas and begin the list."""
LOOK_BACK: Final = timedelta(days=7)
"""Older rollbacks are left alone: who was to be called has called by now."""
_CARRIED_OUT: Final = ("rollback.done", "rollback.pinned", RETURN)


@dataclass(frozen=True)
class Unlisted:
    """A rollback without a list; ``op_id`` names it as its list will."""

    op_id: str
    from_version: str
    to_version: str


def unlisted(store: Store, usecase: str, model: str, now: datetime) -> list[Unlisted]:
    """Rollbacks of the latest week without a list at machine time ``now``, oldest first; not those just carried out."""
    lines = store.decisions.list(usecase, (*_CARRIED_OUT, NOTED), limit=None)
    listed = {str(line.payload["op_id"]) for line in lines if line.kind == NOTED}
    young, old = now - GRACE, now - LOOK_BACK
    return [
        Unlisted(op_id, str(line.payload["from_version"]), str(line.payload["to_version"]))
        for line in lines
        if line.kind != NOTED
        and line.payload.get("model") == model
        and line.payload.get("from_version") is not None
        and old <= line.recorded_at <= young
        and (op_id := _name(line)) not in listed
    ]


def list_left(
    registry: ModelRegistry, store: Store, settings: Settings, usecase: UseCase, model: str, now: datetime
) -> list[Affected]:
    """Write the lists that are missing at machine time ``now``; what was found.

    Raises:
        StoreUnavailable, OSError: the list could not be written; it is tried again when its claim has run out.
    """
    found = []
    for one in unlisted(store, usecase.name, model, now):
        made = affected_by_rollback(
            registry, store, settings, usecase, model, one.from_version, one.to_version, one.op_id, ACTOR, now,
            left=True,
        )  # fmt: skip
        found += [] if made is None else [made]
    return found


def _name(line: Decision) -> str:
    """What the list calls the rollback: its operation, or its decision where the journal has none."""
    return str(line.payload["op_id"]) if line.kind == "rollback.done" else line.id
