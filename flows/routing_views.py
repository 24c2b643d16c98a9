"""From what a turn at the routing found to what people and machines are shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.outcome import Outcome, Status

if TYPE_CHECKING:
    from flows.steps.turn import Routing


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
