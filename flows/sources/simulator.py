"""The simulated worlds as a source: the default, so that everything runs without any data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from functools import cached_property

import pandas as pd

from bentos.usecase.definition import Column, SimulatorOptions, UseCase
from flows.errors import SchemaProblem
from flows.sources.labels import in_words
from flows.sources.table import TableSource
from flows.sources.worlds.card_transactions import World, make_world, simulate
from flows.sources.worlds.telco_customers import COLUMNS, simulate_customers
from monitoring.core.calendar import TimeWindow

DAY = timedelta(days=1)
_CARDS = {
    "CUSTOMER_ID": "customer_id",
    "TERMINAL_ID": "terminal_id",
    "TX_AMOUNT": "amount",
    "customer_id": "customer_id",
    "terminal_id": "terminal_id",
    "amount": "amount",
}
_WORLD_COLUMNS = {"cards": _CARDS, "telco": {name: name for name in COLUMNS}}
"""What each world makes, by the names under which a use case may ask for it."""
_LABEL = {"cards": "fraud", "telco": "leaves"}
_SUBJECT = {"cards": "card transactions", "telco": "telephone customers"}


class SimulatorSource(TableSource):
    """Events of a simulated world; its days are UTC days.

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
        size = f"{o.customers} customers, {o.terminals} terminals"
        if o.world == "telco":
            size = f"{o.customers_a_day} customers a day"
        shifts = "".join(f", {s.kind} x{s.factor:g} from day {s.day}" for s in o.shifts)
        return f"simulator {size}, seed {o.seed}, {o.start}{shifts}"

    @cached_property
    def world(self) -> World:
        """Who lives where; made on first use."""
        return make_world(self.options)

    def chunks(self, window: TimeWindow | None, times_only: bool = False) -> Iterator[pd.DataFrame]:
        """The days that overlap the window, in the use case's own names."""
        names = self.names()
        rows, label = self._simulate(window), self.usecase.label
        columns = {column: rows[name] for column, name in names.items()}
        label_times = {label.observed_at: rows["event_time"] + label.matures_after} if label.observed_at else {}
        labels = in_words(rows[_LABEL[self.options.world]], label)
        yield pd.DataFrame(columns | {label.column: labels} | label_times)

    def names(self) -> dict[str, str]:
        """What the world makes for each column of the use case that is not looked up.

        Raises:
            SchemaProblem: it does not make one of them.
        """
        return {c.name: self._made_as(c) for c in self.usecase.columns if c.lookup is None}

    def extent(self) -> TimeWindow:
        """All days of the world; nothing is made for it."""
        return TimeWindow(self._first, self._first + self.options.days * DAY)

    def scenarios(self, window: TimeWindow) -> pd.Series[int]:
        """The fraud scenario of each card event by its id: 0 genuine, 1 large amount, 2 terminal, 3 customer, 4 burst.

        It is the answer key of the world and never part of the events.
        """
        rows = self._simulate(window)
        mask = (rows["event_time"] >= window.start) & (rows["event_time"] < window.end)
        return rows[mask].set_index("event_id")["scenario"]

    def _simulate(self, window: TimeWindow | None) -> pd.DataFrame:
        first, stop = 0, None
        if window is not None:
            first, stop = (window.start - self._first) // DAY, -((self._first - window.end) // DAY)
        if self.options.world == "telco":
            return simulate_customers(self.options, first, stop)
        return simulate(self.world, first, stop)

    def _made_as(self, column: Column) -> str:
        if column.name == self.usecase.event_id:
            return "event_id"
        if column.name == self.usecase.event_time:
            return "event_time"
        names = _WORLD_COLUMNS[self.options.world]
        for name in (column.external_name, column.name):
            if name in names:
                return names[name]
        raise SchemaProblem(
            f"the simulator makes {_SUBJECT[self.options.world]} and has no column {column.name!r}; "
            "choose another source with --source or under [source]"
        )
