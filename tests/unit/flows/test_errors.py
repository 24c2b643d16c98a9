from __future__ import annotations

import pickle

import pytest

from flows import errors
from flows.errors import FlowError, NoData, OneClass, SchemaProblem


def every_error(base: type[FlowError] = FlowError) -> list[type[FlowError]]:
    return [base, *(e for child in base.__subclasses__() for e in every_error(child))]


def test_each_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in every_error()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("error", every_error())
def test_each_error_is_drawn_in_the_tree(error: type[FlowError]) -> None:
    assert f'"{error.code}"' in (errors.__doc__ or "")
    assert error.__name__ in (errors.__doc__ or "")


def test_the_text_begins_with_the_code() -> None:
    assert str(NoData("nothing in July")) == "no_data: nothing in July"
    assert OneClass.code == "one_class"
    assert SchemaProblem.code == "schema"


def test_an_error_survives_the_way_home_from_a_worker_process() -> None:
    again = pickle.loads(pickle.dumps(NoData("nothing in July")))
    assert type(again) is NoData
    assert str(again) == "no_data: nothing in July"
