"""The calendar of the demo's story. Sizes are the story's own; every threshold comes from the use case.

There is no story of a table: nobody knows the day on which its world changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bentos.usecase.definition import NO_TIME, UseCase
from bentos.usecase.options import Shift
from flows.steps.data.split import UNTIMED_FOLDS, days_needed
from monitoring.core.calendar import TimeWindow

DAY = timedelta(days=1)
SPARE_DAYS = 2
"""Days of history beyond what a first training needs."""
PATIENCE_DAYS = 30
"""Live days that the story may take beyond what the policies ask for."""
SHIFT_DAY = 3
PACES = {"cards": 50.0, "telco": 20.0}
"""A change of champion must not use up more than a few days of a world's events."""


@dataclass(frozen=True)
class DemoPlan:
    """When what happens in the simulated world.

    Attributes:
        live_from: first instant of live traffic; all before it is history.
        history_days: days before ``live_from``.
        expected_days: live days that the story takes if the policies are met as soon as they can be.
        shift_day: live day, counted from 0, on which the world changes.
        amount_scale: factor on all amounts from then on.
        cards_a_day: cards hit by the new fraud scenario each day from then on.
        world: which simulated world; the two above belong to cards, the two below to telephone customers.
        price_rise: factor on all charges from then on.
        rival: strength of a rival's offer to fibre customers on long contracts from then on.
        pace: events a second that are sent one by one while the champion changes.
        overrides: further options of the simulator, for example its size.
    """

    live_from: datetime
    history_days: int
    expected_days: int
    shift_day: int
    amount_scale: float = 1.4
    cards_a_day: float = 1.0
    world: str = "cards"
    price_rise: float = 1.15
    rival: float = 1.0
    pace: float = 50.0
    overrides: tuple[tuple[str, int], ...] = ()

    @property
    def start(self) -> datetime:
        """First instant of the world."""
        return self.live_from - self.history_days * DAY

    @property
    def history(self) -> TimeWindow:
        """What is imported before the service starts."""
        return TimeWindow(self.start, self.live_from)

    @property
    def live_days(self) -> int:
        """Live days after which the story gives up."""
        return self.expected_days + PATIENCE_DAYS

    @property
    def live(self) -> TimeWindow:
        """Everything that may be replayed."""
        return TimeWindow(self.live_from, self.live_from + self.live_days * DAY)

    def day(self, number: int) -> TimeWindow:
        """A live day."""
        start = self.live_from + number * DAY
        return TimeWindow(start, start + DAY)

    def simulator(self) -> dict[str, Any]:
        """Options of the simulator that make this world."""
        day = self.history_days + self.shift_day
        shifts = [
            Shift(day=day, kind="amount_scale", factor=self.amount_scale),
            Shift(day=day, kind="fraud_scenario", factor=self.cards_a_day),
        ]
        if self.world == "telco":
            shifts = [
                Shift(day=day, kind="price_rise", factor=self.price_rise),
                Shift(day=day, kind="rival_offer", factor=self.rival),
            ]
        days = self.history_days + self.live_days
        world = {"world": self.world, "start": self.start.date(), "days": days, "shifts": tuple(shifts)}
        return world | dict(self.overrides)


def plan_demo(usecase: UseCase, shift_day: int = SHIFT_DAY, **changes: Any) -> DemoPlan:
    """A history that is just long enough for a first training, then live days.

    Args:
        usecase: every length that is policy.
        shift_day: live day on which the world changes.
        changes: other fields of the plan.
    """
    first = usecase.calendar.start_of(usecase.source.simulator.start)
    history = days_needed(usecase) + SPARE_DAYS
    days = shift_day + days_until_retraining(usecase) + days_until_verdict(usecase) + 2
    world = usecase.source.simulator.world
    pace = PACES[world]
    return DemoPlan(first + history * DAY, history, days, shift_day, **{"world": world, "pace": pace} | changes)


def days_until_retraining(usecase: UseCase) -> int:
    """Days from a change until a training fold holds enough of it and all later folds have matured."""
    split, maturity = UNTIMED_FOLDS if usecase.untimed else usecase.split, usecase.label.matures_after
    gap = NO_TIME if usecase.untimed else maturity
    return -(-(usecase.retrain.wait_after_change + gap + split.calibration + split.test + maturity) // DAY)


def days_until_verdict(usecase: UseCase) -> int:
    """Days from the start of a comparison until its shortest evidence has matured."""
    return usecase.promotion.min_matured_days - (-usecase.label.matures_after // DAY)
