"""From what a turn at the routing found to what people and machines are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bentos.promotion.promote import ReleaseOutcome as Release
from bentos.release.affected_events import Affected
from flows.views.reports import release_view
from flows.workspace.outcome import FlowOutcome, Status

if TYPE_CHECKING:
    from flows.steps.comparison.routing_change import RoutingStatus


def canary_view(routing: RoutingStatus, as_of: datetime) -> FlowOutcome:
    """The routing: what was changed, who answers what, what the guard of a ramp says."""
    data = routing.to_json()
    ramp_check = routing.look
    parts = [routing.done] if routing.done else []
    if ramp_check is not None:
        parts.append(f"ramp {ramp_check.event} at {ramp_check.share:.0%}: {'; '.join(ramp_check.reasons)}")
    if not parts:
        parts.append(f"{data['mode']}: the challenger answers {data['share']:.0%} of the entities")
    if data["sample_ratio"]["mismatch"]:
        parts.append("ALARM: sample-ratio mismatch; no figure of the arms can be compared")
    figures: list[tuple[str, object]] = [
        (f"arm {arm['arm']}", f"{arm['n']} events, alert rate {_rate(arm['alert_rate'])}, {arm['units']} units")
        for arm in data["arms"]
    ]
    figures += [(f"replica {name}", _applied(replica)) for name, replica in data["replicas"].items()]
    if routing.report is not None:
        figures.append(("sample-ratio p", data["sample_ratio"]["p"]))
    status: Status = "refused" if ramp_check is not None and ramp_check.event == "returned" else "done"
    checks = () if ramp_check is None else ramp_check.checks
    return FlowOutcome("canary", status, ". ".join(parts), as_of, data, checks, figures)


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _applied(replica: Mapping[str, Any]) -> str:
    if replica["problem"]:
        return f"champion answers all: {replica['problem']}"
    return f"challenger at {replica['share']:.0%}"


def rollback_view(release: Release, as_of: datetime, affected: Affected | None) -> FlowOutcome:
    """A rollback with the list of what the restored version would have decided differently."""
    view = release_view(release, as_of)
    if affected is None:
        return view
    figures = [*view.figures, ("to call about", affected.call), ("to review", affected.review)]
    figures += [("could not be judged", affected.unknown), ("list", affected.file or "nothing differs")]
    figures += [(f"{row['direction']} {row['event_id']}", _line(row)) for row in affected.rows]
    report = None if affected.file is None else Path(affected.file)
    data = {**view.data, "affected": affected.to_json()}
    return replace(view, summary=f"{release.message}; {affected.summary}", figures=figures, data=data, report=report)


def _line(row: dict[str, object]) -> str:
    return f"{row['event_time']}: {row['score']} then, {row['restored_score']} by the restored version"
