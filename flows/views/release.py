"""From what a turn at the routing found to what people and machines are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bentos.promotion.promote import Outcome as Release
from bentos.release.affected_events import Affected
from flows.views.reports import release_view
from flows.workspace.outcome import Outcome, Status

if TYPE_CHECKING:
    from flows.steps.comparison.routing_change import Routing


def canary_view(found: Routing, as_of: datetime) -> Outcome:
    """The routing: what was changed, who answers what, what the guard of a ramp says."""
    said = found.to_json()
    seen = found.look
    parts = [found.done] if found.done else []
    if seen is not None:
        parts.append(f"ramp {seen.event} at {seen.share:.0%}: {'; '.join(seen.reasons)}")
    if not parts:
        parts.append(f"{said['mode']}: the challenger answers {said['share']:.0%} of the entities")
    if said["sample_ratio"]["mismatch"]:
        parts.append("ALARM: sample-ratio mismatch; no figure of the arms can be compared")
    figures: list[tuple[str, object]] = [
        (f"arm {arm['arm']}", f"{arm['n']} events, alert rate {_rate(arm['alert_rate'])}, {arm['units']} units")
        for arm in said["arms"]
    ]
    figures += [(f"replica {name}", _applied(replica)) for name, replica in said["replicas"].items()]
    if found.report is not None:
        figures.append(("sample-ratio p", said["sample_ratio"]["p"]))
    status: Status = "refused" if seen is not None and seen.event == "returned" else "done"
    checks = () if seen is None else seen.checks
    return Outcome("canary", status, ". ".join(parts), as_of, said, checks, figures)


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _applied(replica: Mapping[str, Any]) -> str:
    if replica["problem"]:
        return f"champion answers all: {replica['problem']}"
    return f"challenger at {replica['share']:.0%}"


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
