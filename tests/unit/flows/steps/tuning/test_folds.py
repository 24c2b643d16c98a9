"""The folds of a search end where the test fold begins, and untimed ones are not those of the gates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from bentos.usecase.definition import UseCase
from flows.errors import TooFewRows
from flows.steps.data.split import context_end, plan_split
from flows.steps.evaluation.crossfit import assign_folds
from flows.steps.tuning.folds import extra_history, prequential_windows
from monitoring.core.calendar import TimeWindow
from tests.support.builders import fraud

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(day: int) -> datetime:
    return START + day * DAY


def windows(usecase: UseCase, as_of: datetime, **policy: object) -> list[tuple[TimeWindow, TimeWindow]]:
    assert usecase.tuning is not None
    end = plan_split(usecase, START, as_of).test.start
    return prequential_windows(usecase, usecase.tuning.model_copy(update=policy), START, end)


def test_folds_follow_each_other_and_end_where_the_test_fold_begins() -> None:
    found = windows(fraud(), at(150))
    test = plan_split(fraud(), START, at(150)).test
    assert [(valid.start, valid.end) for _, valid in found] == [(at(108 + 7 * n), at(115 + 7 * n)) for n in range(4)]
    assert found[-1][1].end == test.start == at(136)


def test_each_fold_waits_for_labels_and_trains_as_long_as_a_training_does() -> None:
    for train, valid in windows(fraud(), at(150)):
        assert valid.start - train.end == fraud().label.matures_after
        assert train.end - train.start == fraud().split.train


def test_there_are_as_many_folds_as_the_history_holds() -> None:
    found = windows(fraud(), at(108))
    assert len(found) == 3
    assert found[0][0].start >= context_end(fraud(), START)


def test_a_history_without_one_fold_is_refused_with_the_days_that_are_needed() -> None:
    with pytest.raises(
        TooFewRows, match=r"starts 79\.0 days before the test fold at .*; a fold of the search needs 92"
    ):
        windows(fraud(), at(93), fold=20 * DAY)


def test_a_search_reads_further_back_than_a_training_unless_there_is_no_time() -> None:
    policy = fraud().tuning
    assert policy is not None
    assert extra_history(fraud(), policy) == 21 * DAY
    assert extra_history(fraud(), policy.model_copy(update={"folds": 2, "fold": 3 * DAY})) == timedelta(0)


def test_parts_of_another_seed_are_other_parts_with_the_same_share_of_positives() -> None:
    y = np.array([1] * 40 + [0] * 160, dtype=np.int8)
    gates, search = assign_folds(y, 4, 7), assign_folds(y, 4, 8)
    assert (gates != search).mean() > 0.5
    assert sorted(np.bincount(search[y == 1])) == [10, 10, 10, 10]
