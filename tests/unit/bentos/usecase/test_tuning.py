"""``[tuning]``: what may be searched, and how a mistake is told."""

from __future__ import annotations

from typing import Any

import pytest

from bentos.errors import UseCaseError
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import builtin_usecases, load_usecase, parse_usecase
from tests.support.builders import case_data

DEPTH = {"max_depth": {"low": 2, "high": 6}}


def declared(space: dict[str, Any], training: dict[str, Any] | None = None, **policy: Any) -> UseCase:
    tuning = {"trials": 5, **policy, "space": space}
    return parse_usecase(case_data(tuning=tuning, training=training or {}), "my.toml")


def test_a_use_case_needs_no_search() -> None:
    assert parse_usecase(case_data()).tuning is None


@pytest.mark.parametrize("name", ["fraud", "churn"])
def test_the_built_in_cases_declare_a_search_around_their_own_settings(name: str) -> None:
    usecase = load_usecase(builtin_usecases()[name])
    assert usecase.tuning is not None
    assert all(span.holds(getattr(usecase.training, key)) for key, span in usecase.tuning.space.spans.items())


def test_a_parameter_is_searched_over_a_range_or_over_choices() -> None:
    space = {**DEPTH, "subsample": {"choices": [0.5, 1]}, "tree_method": {"choices": ["hist", "exact"]}}
    tuning = declared(space).tuning
    assert tuning is not None
    assert list(tuning.space.spans) == ["max_depth", "tree_method", "subsample"]
    assert [span.edges for span in tuning.space.spans.values()] == [(2, 6), ("hist", "exact"), (0.5, 1.0)]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            {"max_deph": {"low": 1, "high": 3}},
            r"tuning\.space\.max_deph: found an unknown key.*did you mean 'max_depth'",
        ),
        ({"calibration": {"choices": ["none"]}}, r"tuning\.space\.calibration: found an unknown key"),
        ({"max_depth": {"low": 2.5, "high": 6}}, r"tuning\.space\.max_depth\.low: found 2\.5; allowed: .*integer"),
        ({"max_depth": {"low": 6, "high": 2}}, r"max_depth: .* low below high, or choices"),
        ({"max_depth": {"low": 6}}, r"max_depth: .* low below high, or choices"),
        ({"max_depth": {"low": 1, "high": 6, "choices": [3]}}, r"max_depth: .*choices alone, or low and high"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, r"learning_rate: .*a low above 0 where log is true"),
        ({"subsample": {"low": 0.5, "high": 1.5}}, r"values of subsample that \[training\] may hold, not 1\.5"),
        ({"max_depth": {"low": 4, "high": 6}}, r"space\.max_depth: found 4 to 6; .*\[training\] max_depth = 3 among"),
        ({"max_depth": {"choices": [4, 6]}}, r"space\.max_depth: found 4, 6; .*\[training\] max_depth = 3 among"),
        ({}, r"a range for one parameter or more: trees, max_depth"),
    ],
)
def test_a_mistake_in_the_space_names_the_key_and_what_is_allowed(space: dict[str, Any], said: str) -> None:
    with pytest.raises(UseCaseError, match=said):
        declared(space)


def test_a_search_needs_a_budget() -> None:
    with pytest.raises(UseCaseError, match="a budget: trials, minutes, or both"):
        parse_usecase(case_data(tuning={"space": DEPTH}))
    tuning = parse_usecase(case_data(tuning={"space": DEPTH, "minutes": 1.5})).tuning
    assert tuning is not None
    assert (tuning.trials, tuning.minutes) == (None, 1.5)


def test_a_fold_has_a_day_or_more() -> None:
    with pytest.raises(UseCaseError, match="a fold of a day or more"):
        declared(DEPTH, fold="0d")
