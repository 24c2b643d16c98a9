"""Promotions and rollbacks as people and machines are shown them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from bentos.promotion.promote import Outcome as Release
from bentos.release.affected_events import Affected
from flows.outcome import Outcome
from flows.views import release_view


def rollback_view(done: Release, as_of: datetime, affected: Affected | None) -> Outcome:
    """A rollback with the list of what the restored version would have decided differently."""
    shown = release_view(done, as_of)
    if affected is None:
        return shown
    figures = [*shown.figures, ("to call about", affected.call), ("to review", affected.review)]
    figures += [("could not be judged", affected.unknown), ("list", affected.file or "nothing differs")]
    figures += [(f"{row['direction']} {row['event_id']}", _line(row)) for row in affected.rows]
    report = None if affected.file is None else Path(affected.file)
    data = {**shown.data, "affected": affected.to_json()}
    return replace(shown, summary=f"{done.message}; {affected.summary}", figures=figures, data=data, report=report)


def _line(row: dict[str, object]) -> str:
    return f"{row['event_time']}: {row['score']} then, {row['restored_score']} by the restored version"
