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
from flows.steps.data.folds import Fold, TrainingHistory, build_fold
from flows.steps.data.split import DAY, business_time_before, context_end, plan_split
from flows.steps.evaluation.crossfit import assign_folds, select_rows
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


def extra_history(usecase: UseCase, policy: TuningPolicy) -> timedelta:
    """How much more history than a training a search with all its folds takes."""
    return NO_TIME if usecase.untimed else max(NO_TIME, policy.folds * policy.fold - usecase.split.calibration)


def tuning_folds(
    usecase: UseCase, policy: TuningPolicy, history: TrainingHistory, history_start: datetime
) -> TuningFolds:
    """The folds of a search, as many as the history holds.

    Args:
        usecase: lengths of training fold and label delay, calendar, features.
        policy: number and length of the folds.
        history: what was known at the business time of the search.
        history_start: first instant of the history.

    Raises:
        TooFewRows: no fold has both labels on both of its sides; the message says what is missing.
        OneClass: all labels of a table without a time are the same.
    """
    split = plan_split(usecase, history_start, history.as_of)
    if usecase.untimed:
        return _stratified(usecase, policy, history, TimeWindow(split.train.start, split.matured_until))
    windows = prequential_windows(usecase, policy, history_start, split.test.start)
    times = history.events[usecase.event_time]
    span = TimeWindow(windows[0][0].start, split.test.start)
    plan = FeaturePlan.of(usecase).with_categories(history.events[((times >= span.start) & (times < span.end))])
    rows = build_fold(usecase, plan, history, span)
    folds = [_cut(rows, train, valid) for train, valid in windows]
    usable = tuple(fold for fold in folds if _has_both(fold.train) and _has_both(fold.valid))
    if not usable:
        raise TooFewRows(
            f"none of {len(folds)} folds before {split.test.start:%Y-%m-%d} has both labels in training and after it; "
            "make [tuning] fold longer, or read more history"
        )
    return TuningFolds(plan.names, usable, tuple(_missing_fold_notes(policy, len(folds), len(usable))))


def prequential_windows(
    usecase: UseCase, policy: TuningPolicy, history_start: datetime, end: datetime
) -> list[tuple[TimeWindow, TimeWindow]]:
    """Windows to train and to measure on, oldest first; the last one ends at ``end``.

    Raises:
        TooFewRows: the history does not hold one.
    """
    calendar, windows = usecase.calendar, []
    for _ in range(policy.folds):
        validation = TimeWindow(business_time_before(calendar, end, policy.fold), end)
        train_end = business_time_before(calendar, validation.start, usecase.label.matures_after)
        train = TimeWindow(business_time_before(calendar, train_end, usecase.split.train), train_end)
        if train.start < context_end(usecase, history_start):
            break
        windows.append((train, validation))
        end = validation.start
    if not windows:
        needed = usecase.longest_window + usecase.split.train + usecase.label.matures_after + policy.fold
        raise TooFewRows(
            f"the history starts {(end - history_start) / DAY:.1f} days before the test fold at {end:%Y-%m-%d}; a fold "
            f"of the search needs {needed / DAY:g}: context, train, labels and [tuning] fold. Read more history, or "
            "shorten [tuning] fold"
        )
    return windows[::-1]


def _cut(rows: Fold, train: TimeWindow, validation: TimeWindow) -> TuningFold:
    name = f"{validation.start:%Y-%m-%d} to {validation.end:%Y-%m-%d}"
    return TuningFold(name, rows.between(f"train before {name}", train), rows.between(name, validation))


def _stratified(usecase: UseCase, policy: TuningPolicy, history: TrainingHistory, window: TimeWindow) -> TuningFolds:
    plan = FeaturePlan.of(usecase).with_categories(history.events)
    rows = build_fold(usecase, plan, history, window)
    # The gates look at folds of the seed itself.
    fold_index = assign_folds(rows.y, policy.folds, usecase.training.seed + 1)
    folds = (
        TuningFold(
            f"part {fold + 1} of {policy.folds}",
            select_rows(rows, fold_index != fold),
            select_rows(rows, fold_index == fold),
        )
        for fold in range(policy.folds)
    )
    return TuningFolds(plan.names, tuple(folds), ())


def _has_both(fold: Fold) -> bool:
    return 0 < fold.positives < len(fold)


def _missing_fold_notes(policy: TuningPolicy, fold_count: int, usable: int) -> Iterator[str]:
    if fold_count < policy.folds:
        yield f"the history holds {fold_count} of the {policy.folds} declared folds"
    if usable < fold_count:
        yield f"{fold_count - usable} of {fold_count} folds hold one label only and are left out"
