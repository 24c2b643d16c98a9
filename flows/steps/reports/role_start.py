"""Since when a version holds a role, and who gave it to it: one sentence for pages and reports."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace

_VERBS: Final = {
    "promotion": "promoted by",
    "rollback": "brought back in a rollback by",
    "installation": "installed by",
}


def describe_role_start(workspace: Workspace, role: str, version: str, as_of: datetime) -> str | None:
    """Say when and by whom a version was given its role, for example ``since 2026-06-06 10:00, promoted by ann``.

    Returns:
        None if no decision of the journal gave it the role until ``as_of``.
    """
    terms = workspace.store.decisions.terms(workspace.model, role)
    starts = [(at, seq) for holder, at, seq in terms if holder == version and at <= as_of]
    if not starts:
        return None
    at, seq = starts[-1]
    since = f"since {at:%Y-%m-%d %H:%M}"
    decision = workspace.store.decisions.numbered(seq)
    if decision is None:
        return since
    verb = _VERBS.get(decision.kind.partition(".")[0], "given the role by")
    return f"{since}, {verb} {decision.actor} (decision {seq})"
