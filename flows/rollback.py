"""Rollback: the previous champion comes back."""

from __future__ import annotations

from datetime import datetime

from bentos.promotion import promote as release
from bentos.release.affected_events import Affected, affected_by_rollback
from flows.runs.operation import operation
from flows.runs.run_record import record_run
from flows.steps.comparison.compare import require_reason
from flows.views.release import rollback_view
from flows.workspace.outcome import FlowOutcome
from flows.workspace.step import step
from flows.workspace.workspace import Workspace, open_workspace


@operation("rollback of {model} as of {time}")
def rollback(
    usecase: str | None = None, as_of: datetime | None = None, preview: bool = True, reason: str = ""
) -> FlowOutcome:
    """Bring the previous champion back; the version that leaves is barred until a new decision.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the request. Empty takes now.
        preview: Only show what would be written. Switch off to roll back.
        reason: Why, in a few words, for the record. Required when preview is off.
    """
    workspace = open_workspace(usecase)
    with record_run(workspace, "rollback", as_of) as run:
        require_reason(preview, reason)
        change = _change_roles(workspace, run.as_of, reason or "preview", preview)
        affected = None if preview else _list_affected(workspace, change, run.as_of)
        return run.conclude(rollback_view(change, run.as_of, affected))


@step(name="change the roles", run_name="bring the previous champion of {workspace.model} back", tags=("roles",))
def _change_roles(workspace: Workspace, as_of: datetime, reason: str, preview: bool) -> release.ReleaseOutcome:
    """Roll back, or show what would be written; never repeated by itself."""
    return release.rollback(workspace.release_context(wait_seconds=10.0), workspace.request(reason, as_of, preview))


@step(name="list affected events", run_name="list what {done.model} {done.from_version} answered", tags=("database",))
def _list_affected(workspace: Workspace, done: release.ReleaseOutcome, as_of: datetime) -> Affected | None:
    """List the events that the version which leaves had answered."""
    return affected_by_rollback(workspace.release_context(), workspace.settings, done, workspace.actor, as_of)
