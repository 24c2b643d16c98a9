"""What scoring asks of the modules beside it: the durable log's first stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from monitoring.store.database.records import ActionRecord, LabelRecord, PlanRecord, RefusedRecord, ScoreRecord


class Spool(Protocol):
    """Where records go before an answer; see :class:`bentos.spool.writer.SpoolWriter`."""

    def require_room(self, events: int) -> None:
        """Refuse events that would not be logged; raises :class:`~bentos.errors.SpoolFull` in strict mode."""
        ...

    def declare(self, plan: PlanRecord) -> None:
        """Say what a plan id stands for, before the first record that carries it."""
        ...

    def append(self, records: Sequence[ScoreRecord | LabelRecord | ActionRecord | RefusedRecord]) -> None:
        """Write the records at once; raises :class:`~bentos.errors.SpoolFull` in strict mode."""
        ...
