"""The folds that candidates of a search are measured on: they end where the test fold begins.

    context | train | labels arriving | measured on |          (oldest)
              context | train | labels arriving | measured on  (newest) | test fold of the gates

Data without a time is cut at random, every fold with the same share of positives, by another seed than
the cross-validation of the gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from bentos.features.plan import FeaturePlan
from bentos.usecase.definition import NO_TIME, UseCase
from bentos.usecase.tuning import TuningPolicy
from flows.errors import TooFewRows
from flows.steps.data.folds import Fold, Known, build_fold
from flows.steps.data.split import DAY, back, context_end, plan_split
from flows.steps.evaluation.crossfit import part, places
from monitoring.core.calendar import TimeWindow


@dataclass(frozen=True, eq=False)
class TuningFold:
    """Rows to fit on, and later or other rows to measure on."""

    name: str
    train: Fold
    valid: Fold


@dataclass(frozen=True, eq=False)
class TuningFolds:
    """What a search looks at.

    Attributes:
        names: of the features.
        folds: oldest first.
        notes: plain sentences: which declared folds are missing, and why.
    """

    names: tuple[str, ...]
    folds: tuple[TuningFold, ...]
    notes: tuple[str, ...]


def days_before(usecase: UseCase, policy: TuningPolicy) -> timedelta:
    """How much more history than a training a search with all its folds takes."""
    return NO_TIME if usecase.untimed else max(NO_TIME, policy.folds * policy.fold - usecase.split.calibration)


def tuning_folds(usecase: UseCase, policy: TuningPolicy, known: Known, history_start: datetime) -> TuningFolds:
    """The folds of a search, as many as the history holds.

    Args:
        usecase: lengths of training fold and label delay, calendar, features.
        policy: number and length of the folds.
        known: what was known at the business time of the search.
        history_start: first instant of the history.

    Raises:
        TooFewRows: no fold has both labels on both of its sides; the message says what is missing.
        OneClass: all labels of a table without a time are the same.
    """
    split = plan_split(usecase, history_start, known.as_of)
    if usecase.untimed:
        return _stratified(usecase, policy, known, TimeWindow(split.train.start, split.matured_until))
    windows = prequential_windows(usecase, policy, history_start, split.test.start)
    times = known.events[usecase.event_time]
    span = TimeWindow(windows[0][0].start, split.test.start)
    plan = FeaturePlan.of(usecase).with_categories(known.events[((times >= span.start) & (times < span.end))])
    every = build_fold(usecase, plan, known, span)
    found = [_cut(every, train, valid) for train, valid in windows]
    usable = tuple(fold for fold in found if _has_both(fold.train) and _has_both(fold.valid))
    if not usable:
        raise TooFewRows(
            f"none of {len(found)} folds before {split.test.start:%Y-%m-%d} has both labels in training and after it; "
            "make [tuning] fold longer, or read more history"
        )
    return TuningFolds(plan.names, usable, tuple(_missing(policy, len(found), len(usable))))


def prequential_windows(
    usecase: UseCase, policy: TuningPolicy, history_start: datetime, end: datetime
) -> list[tuple[TimeWindow, TimeWindow]]:
    """Windows to train and to measure on, oldest first; the last one ends at ``end``.

    Raises:
        TooFewRows: the history does not hold one.
    """
    calendar, found = usecase.calendar, []
    for _ in range(policy.folds):
        valid = TimeWindow(back(calendar, end, policy.fold), end)
        train_end = back(calendar, valid.start, usecase.label.matures_after)
        train = TimeWindow(back(calendar, train_end, usecase.split.train), train_end)
        if train.start < context_end(usecase, history_start):
            break
        found.append((train, valid))
        end = valid.start
    if not found:
        needed = usecase.longest_window + usecase.split.train + usecase.label.matures_after + policy.fold
        raise TooFewRows(
            f"the history starts {(end - history_start) / DAY:.1f} days before the test fold at {end:%Y-%m-%d}; a fold "
            f"of the search needs {needed / DAY:g}: context, train, labels and [tuning] fold. Read more history, or "
            "shorten [tuning] fold"
        )
    return found[::-1]


def _cut(every: Fold, train: TimeWindow, valid: TimeWindow) -> TuningFold:
    name = f"{valid.start:%Y-%m-%d} to {valid.end:%Y-%m-%d}"
    return TuningFold(name, every.between(f"train before {name}", train), every.between(name, valid))


def _stratified(usecase: UseCase, policy: TuningPolicy, known: Known, every: TimeWindow) -> TuningFolds:
    plan = FeaturePlan.of(usecase).with_categories(known.events)
    rows = build_fold(usecase, plan, known, every)
    # The gates look at folds of the seed itself.
    place = places(rows.y, policy.folds, usecase.training.seed + 1)
    folds = (
        TuningFold(f"part {fold + 1} of {policy.folds}", part(rows, place != fold), part(rows, place == fold))
        for fold in range(policy.folds)
    )
    return TuningFolds(plan.names, tuple(folds), ())


def _has_both(fold: Fold) -> bool:
    return 0 < fold.positives < len(fold)


def _missing(policy: TuningPolicy, held: int, usable: int) -> Iterator[str]:
    if held < policy.folds:
        yield f"the history holds {held} of the {policy.folds} declared folds"
    if usable < held:
        yield f"{held - usable} of {held} folds hold one label only and are left out"
