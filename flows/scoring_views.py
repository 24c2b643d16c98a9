"""What the scoring of a whole table is shown as."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from flows.outcome import Outcome

if TYPE_CHECKING:
    from bentos.registry.ports import ModelRef
    from flows.steps.bulkrun import BulkResult


def bulk_view(found: BulkResult, ref: ModelRef, as_of: datetime) -> Outcome:
    """The scoring of a whole table: every row of it is in the list or in the quarantine."""
    counts = {name: getattr(found, name) for name in ("rows_in", "rows_out", "quarantined", "flagged", "resumed")}
    summary = (
        f"{found.rows_in} rows read, {found.rows_out} scored by {ref.label}, {found.quarantined} refused, "
        f"{found.flagged} flagged: {found.output}"
    )
    data = {"model": ref.label, **counts, "output": found.output, "quarantine": str(found.quarantine)}
    return Outcome("scoring", "done", summary, as_of, data, (), [("model", ref.label), *counts.items()])
