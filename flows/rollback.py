"""Rollback: the previous champion comes back."""

from __future__ import annotations

from datetime import datetime

from bentos.promotion import promote as release
from bentos.release.affected_events import affected_by_rollback
from flows.runs.operation import operation
from flows.runs.run_record import recorded
from flows.steps.comparison.compare import require_reason
from flows.views.release import rollback_view
from flows.workspace.outcome import Outcome
from flows.workspace.workspace import open_house


@operation(name="rollback", description="Bring the previous champion back.")
def rollback(
    usecase: str | None = None, as_of: datetime | None = None, preview: bool = True, reason: str = ""
) -> Outcome:
    """Bring the previous champion back; the version that leaves is barred until a new decision.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the request. Empty takes now.
        preview: Only show what would be written. Switch off to roll back.
        reason: Why, in a few words, for the record. Required when preview is off.
    """
    house = open_house(usecase)
    with recorded(house, "rollback", as_of) as run:
        require_reason(preview, reason)
        done = release.rollback(
            house.registry, house.store, house.model, house.usecase, house.actor, reason or "preview", run.as_of,
            preview=preview, wait_seconds=10.0,
        )  # fmt: skip
        listed = None
        if not preview:
            listed = affected_by_rollback(
                house.registry, house.store, house.settings, house.usecase, house.model, done.from_version,
                done.to_version, done.op_id, house.actor, run.as_of,
            )  # fmt: skip
        return run.conclude(rollback_view(done, run.as_of, listed))
