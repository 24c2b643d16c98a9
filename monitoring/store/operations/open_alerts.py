"""Open alerts of the latest day, ranked by expected loss: the view ``alerts_today``, read.

An alert is open while the event has neither a label nor an action. The latest day is the 24 hours up to the
newest event of the use case. Expected loss is the calibrated score times what a miss costs: a constant or a
column of the event (``stakes``). The view is for SQL tools too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import column, func, select, table, update

from monitoring.store.database.engine import Database
from monitoring.store.database.frames import fetch, from_us
from monitoring.store.database.tables import stakes

_FIELDS = ("place", "event_id", "event_time_us", "model", "version", "score", "threshold", "expected_loss")
_VIEW = table("alerts_today", column("usecase"), *(column(name) for name in _FIELDS))


@dataclass(frozen=True)
class OpenAlert:
    """One flagged event that nobody has dealt with.

    Attributes:
        place: its rank, 1 is worth most.
        event_id, event_time: the event.
        model: label of the version that flagged it.
        score, threshold: its calibrated score and the cut.
        expected_loss: score times the cost of a miss, in the use case's currency.
    """

    place: int
    event_id: str
    event_time: datetime
    model: str
    score: float
    threshold: float
    expected_loss: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"event_time": self.event_time.isoformat()}


class OpenAlerts:
    """Reads of the view, and the price behind it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def price(self, usecase: str, amount_column: str | None, cost: float) -> None:
        """Say what a missed event costs: a column of the event, or where that is empty a constant."""
        values = {"amount_column": amount_column, "cost": cost}
        with self._database.write() as connection:
            row = (usecase, amount_column, cost)
            if not self._database.insert_new(connection, stakes, ("usecase", "amount_column", "cost"), [row]):
                connection.execute(update(stakes).where(stakes.c.usecase == usecase).values(values))

    def open(self, usecase: str, limit: int = 20) -> list[OpenAlert]:
        """The alerts that are worth most, first."""
        query = select(*(_VIEW.c[name] for name in _FIELDS)).where(_VIEW.c.usecase == usecase)
        with self._database.read() as connection:
            rows = fetch(connection, query.order_by(_VIEW.c.place).limit(limit))
        return [
            OpenAlert(place, event_id, from_us(at), f"{model}/{version}", score, cut, float(loss))
            for place, event_id, at, model, version, score, cut, loss in rows
        ]

    def total(self, usecase: str) -> tuple[int, float]:
        """How many alerts are open, and their expected loss together."""
        query = select(func.count(), func.sum(_VIEW.c.expected_loss)).where(_VIEW.c.usecase == usecase)
        with self._database.read() as connection:
            count, loss = connection.execute(query).one()
        return int(count), float(loss or 0.0)
