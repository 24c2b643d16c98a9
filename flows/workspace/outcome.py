"""What a run found, in one shape for the command line, the artifacts and the runs table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from monitoring.core.verdict import Check

Status = Literal["done", "preview", "refused", "insufficient_data"]


@dataclass(frozen=True)
class Picture:
    """A drawing beside a summary: a sentence that says what it shows, and its SVG."""

    title: str
    svg: str


@dataclass(frozen=True)
class FlowOutcome:
    """What a flow found.

    Attributes:
        flow: name of the flow.
        status: ``done``; ``preview`` where nothing was to be changed; ``refused`` where the answer is
            no; ``insufficient_data`` where there is no answer.
        summary: one plain sentence.
        as_of: business time of the run.
        data: everything found, plain JSON.
        checks: what was compared with which limit.
        figures: rows of name and value to show beside the summary.
        report: an HTML page, or none.
        appendix: rows of name and value that are not used in the decision; shown last and marked so.
        picture: what shows it at a glance, or none.
    """

    flow: str
    status: Status
    summary: str
    as_of: datetime
    data: Mapping[str, Any] = field(default_factory=dict)
    checks: Sequence[Check] = ()
    figures: Sequence[tuple[str, object]] = ()
    report: Path | None = None
    appendix: Sequence[tuple[str, object]] = ()
    picture: Picture | None = None

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        head: dict[str, Any] = {
            "flow": self.flow,
            "status": self.status,
            "summary": self.summary,
            "as_of": self.as_of.isoformat(),
        }
        return head | dict(self.data) | ({"report": str(self.report)} if self.report else {})
