"""The simulated card world as a source: the default, so that everything runs without any data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from functools import cached_property

import pandas as pd

from bentos.usecase import Column, SimulatorOptions, UseCase
from flows.errors import SchemaProblem
from flows.sources.table import TableSource
from flows.sources.world import World, make_world, simulate
from monitoring.calendar import TimeWindow

DAY = timedelta(days=1)
_MADE = {
    "CUSTOMER_ID": "customer_id",
    "TERMINAL_ID": "terminal_id",
    "TX_AMOUNT": "amount",
    "customer_id": "customer_id",
    "terminal_id": "terminal_id",
    "amount": "amount",
}
"""What the world makes, by the names under which a use case may ask for it."""


class SimulatorSource(TableSource):
    """Events of the simulated world; its days are UTC days.

    Every event has a label, observed ``matures_after`` later from the strongest label source.
    """

    kind = "simulator"

    def __init__(self, usecase: UseCase, options: SimulatorOptions) -> None:
        super().__init__(usecase)
        self.options = options
        self._first = datetime.combine(options.start, time(), UTC)

    @property
    def origin(self) -> str:
        """Size, seed and shifts: all that is needed to make the same world again."""
        o = self.options
        shifts = "".join(f", {s.kind} x{s.factor:g} from day {s.day}" for s in o.shifts)
        return f"simulator {o.customers} customers, {o.terminals} terminals, seed {o.seed}, {o.start}{shifts}"

    @cached_property
    def world(self) -> World:
        """Who lives where; made on first use."""
        return make_world(self.options)

    def chunks(self, window: TimeWindow | None, times_only: bool = False) -> Iterator[pd.DataFrame]:
        """The days that overlap the window, in the use case's own names."""
        names = {c.name: self._made_as(c) for c in self.usecase.columns}
        made = self._made(window)
        columns = {own: made[name] for own, name in names.items()}
        label = self.usecase.label
        observed = {label.observed_at: made["event_time"] + label.matures_after} if label.observed_at else {}
        yield pd.DataFrame(columns | {label.column: made["fraud"]} | observed)

    def extent(self) -> TimeWindow:
        """All days of the world; nothing is made for it."""
        return TimeWindow(self._first, self._first + self.options.days * DAY)

    def scenarios(self, window: TimeWindow) -> pd.Series[int]:
        """The fraud scenario of each event by its id: 0 genuine, 1 large amount, 2 terminal, 3 customer, 4 burst.

        It is the answer key of the world and never part of the events.
        """
        made = self._made(window)
        inside = (made["event_time"] >= window.start) & (made["event_time"] < window.end)
        return made[inside].set_index("event_id")["scenario"]

    def _made(self, window: TimeWindow | None) -> pd.DataFrame:
        if window is None:
            return simulate(self.world)
        first = (window.start - self._first) // DAY
        return simulate(self.world, first, -((self._first - window.end) // DAY))

    def _made_as(self, column: Column) -> str:
        if column.name == self.usecase.event_id:
            return "event_id"
        if column.name == self.usecase.event_time:
            return "event_time"
        for name in (column.external_name, column.name):
            if name in _MADE:
                return _MADE[name]
        raise SchemaProblem(
            f"the simulator makes card transactions and has no column {column.name!r}; "
            "choose another source with --source or under [source]"
        )
