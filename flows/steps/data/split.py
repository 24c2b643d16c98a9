"""Which days train, calibrate and test.

    context | train | labels still arriving | calibration | test | not yet matured | as_of

The folds are counted back from the last day whose labels have all matured, in business days of the
use case. The gap after training is as long as labels take: in real life that is how old the newest
label is when a model starts. The first longest-window days of a history only warm the windows.

``[retrain] train`` replaces ``[split] train`` while a champion is champion: in a drifting stream a retraining on all
history learns the old world.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from bentos.schema.row_times import DAYS, LAST
from bentos.usecase.definition import NO_TIME, SplitPolicy, UseCase
from flows.errors import EvaluationError, TooFewRows
from monitoring.core.calendar import BusinessCalendar, TimeWindow

DAY = timedelta(days=1)
UNTIMED_FOLDS = SplitPolicy(train=30 * DAY, calibration=10 * DAY, test=10 * DAY, refit_calibration=10 * DAY)
"""Parts of the fifty days of data without a time: made-up ones, each a random part of the rows, or live ones."""


@dataclass(frozen=True)
class Split:
    """The folds of one training.

    Attributes:
        train: rows that fit the evaluated twin.
        calibration: rows that fit its calibrator (first half) and its threshold (second half).
        test: rows that the gates look at.
        refit: rows that fit the registered model: everything matured from the start of ``train``.
        refit_calibration: the short, later fold of the registered model's calibrator and threshold.
    """

    train: TimeWindow
    calibration: TimeWindow
    test: TimeWindow
    refit: TimeWindow
    refit_calibration: TimeWindow

    def __post_init__(self) -> None:
        if not self.train.end <= self.calibration.start < self.calibration.end <= self.test.start:
            raise EvaluationError(f"the test window {self.test.start} .. {self.test.end} does not lie after training")

    @property
    def matured_until(self) -> datetime:
        """End of the last matured day."""
        return self.test.end


def plan_split(usecase: UseCase, history_start: datetime, as_of: datetime) -> Split:
    """Lay the folds back from the last matured day at ``as_of``.

    Args:
        usecase: holds lengths, label delay, calendar and features.
        history_start: time of the first event that can be read.
        as_of: business time of the training, aware.

    Raises:
        TooFewRows: when the history is too short; the message says how many days are needed.
    """
    split = split_at(usecase, as_of)
    if not usecase.untimed:
        _require_history(usecase, history_start, split.train.start, as_of)
    return split


def split_at(usecase: UseCase, as_of: datetime) -> Split:
    """The folds of a training at ``as_of``, whether or not there is enough history for them."""
    calendar, policy, delay = usecase.calendar, usecase.split, usecase.label.matures_after
    # A table without a time is known as a whole; events that came live are known once they have matured.
    end = calendar.matured_until(as_of, NO_TIME if usecase.untimed and as_of <= LAST else delay)
    if usecase.untimed:
        policy, delay = UNTIMED_FOLDS, NO_TIME
    test = _window_before(calendar, end, policy.test)
    calibration = _window_before(calendar, test.start, policy.calibration)
    train = _window_before(calendar, business_time_before(calendar, calibration.start, delay), policy.train)
    refit_calibration = _window_before(calendar, end, policy.refit_calibration)
    return Split(train, calibration, test, TimeWindow(train.start, refit_calibration.start), refit_calibration)


def retraining_case(usecase: UseCase) -> UseCase:
    """The use case with the folds of a retraining: those while a champion is champion."""
    if usecase.retrain.train is None or usecase.untimed:
        return usecase
    split = usecase.split.model_copy(update={"train": usecase.retrain.train})
    return usecase.model_copy(update={"split": split})


def days_needed(usecase: UseCase) -> int:
    """Days of history that one training takes, from the first context day to ``as_of``."""
    if usecase.untimed:
        return DAYS - (-usecase.label.matures_after // DAY)
    policy, delay = usecase.split, usecase.label.matures_after
    total = usecase.longest_window + policy.train + delay + policy.calibration + policy.test + delay
    return -(-total // DAY)


def context_end(usecase: UseCase, history_start: datetime) -> datetime:
    """From when on the windows of a history are full: rows before it never train and are no reference."""
    end: datetime = history_start + usecase.longest_window
    return end


def business_time_before(calendar: BusinessCalendar, end: datetime, length: timedelta) -> datetime:
    """The instant ``length`` before ``end``, counting whole days as business days.

    A day of 23 or 25 hours is one day, so that folds start where days start.
    """
    days, rest = divmod(length, DAY)
    day = calendar.day_of(end)
    into_day = end - calendar.start_of(day)
    return calendar.start_of(day - days * DAY) + into_day - rest


def _window_before(calendar: BusinessCalendar, end: datetime, length: timedelta) -> TimeWindow:
    return TimeWindow(business_time_before(calendar, end, length), end)


def _require_history(usecase: UseCase, history_start: datetime, train_start: datetime, as_of: datetime) -> None:
    if context_end(usecase, history_start) <= train_start:
        return
    history_days = (as_of - history_start) / DAY
    policy = usecase.split
    raise TooFewRows(
        f"the history starts {history_days:.1f} days before {as_of:%Y-%m-%d %H:%M} UTC; "
        f"{days_needed(usecase)} are needed: "
        f"{usecase.longest_window / DAY:g} context, {policy.train / DAY:g} train, "
        f"{policy.calibration / DAY:g} calibration, {policy.test / DAY:g} test, "
        f"and twice {usecase.label.matures_after / DAY:g} for labels. Read more history, or shorten [split]"
    )
