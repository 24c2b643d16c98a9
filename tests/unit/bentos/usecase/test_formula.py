"""The language of derived columns: what it refuses, and what it says about it."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from bentos.errors import UseCaseError
from bentos.features.plan import FeaturePlan
from bentos.schema.event_schema import EventSchema
from bentos.usecase.formula import Formula, FormulaError
from bentos.windows.memory import MemoryWindows
from tests.support.builders import card_event, case, case_data


def value(text: str, **names: float) -> float:
    values = {name: np.array([number], dtype=np.float64) for name, number in names.items()}
    return float(Formula(text).compute(values, 1, "UTC")[0])


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.__class__",
        "a[0]",
        "[a for a in b]",
        "lambda: a",
        "open('x')",
        "a ** 9",
        "a @ b",
        "min(a, b, key=c)",
        "f'{a}'",
        "(a := 1)",
        "a if b else c",
        "True",
        "'text'",
        "hour(a + b)",
        "a < b < c",
        "1e300",
        "a +",
        "a; b",
        "-" * 5000 + "a",
    ],
)
def test_only_the_listed_words_are_a_formula(text: str) -> None:
    with pytest.raises(FormulaError):
        Formula(text)


@pytest.mark.parametrize("depth", [100, 500, 900, 1500])
@pytest.mark.parametrize("more", [".b", "[0]"])
def test_a_part_nested_deeper_than_python_prints_is_refused_in_a_short_message(depth: int, more: str) -> None:
    with pytest.raises(FormulaError) as refused:
        Formula("a" + more * depth)
    assert len(str(refused.value)) < 400


def test_a_text_of_ten_thousand_characters_is_no_formula_and_is_not_printed_back() -> None:
    for text in ("+".join(["a"] * 5000), " and ".join(["a"] * 5000), "9" * 10_000):
        with pytest.raises(FormulaError, match="is too long for a formula") as refused:
            Formula(text)
        assert len(str(refused.value)) < 400


def test_a_long_condition_holds_no_array_for_each_of_its_parts() -> None:
    long, a = Formula(" and ".join(["a"] * 200)), np.ones(100_000)
    tracemalloc.start()
    found = long.compute({"a": a}, len(a), "UTC")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.all()
    assert peak < 12 * a.nbytes


def test_a_division_by_zero_and_a_missing_operand_have_no_value() -> None:
    assert value("a / b", a=1.0, b=4.0) == 0.25
    for text in ("a / 0", "log(0 * a)", "n + a", "n < a", "not n", "where(n, a, a)", "sqrt(-a)"):
        assert math.isnan(value(text, a=1.0, n=math.nan))
    assert value("missing(n) + 10 * missing(a)", a=1.0, n=math.nan) == 1.0


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("amount / nothing", "a column or a feature above"),
        ("amount / later", "a column or a feature above"),
        ("hour(amount)", "datetime"),
        ("shop + 1", "a number"),
        ("amount == 'web'", "text"),
        ("exec(amount)", "no function"),
    ],
)
def test_a_use_case_with_a_wrong_formula_is_refused_with_a_reason(expression: str, said: str) -> None:
    features: list[dict[str, Any]] = [
        {"name": "wrong", "kind": "expression", "expression": expression},
        {"name": "later", "kind": "column", "column": "amount"},
    ]
    with pytest.raises(UseCaseError, match=said):
        case(features=features)


def test_a_missing_value_is_what_the_policy_says() -> None:
    columns = [c | {"missing": 7.0} if c["name"] == "fee" else c for c in case_data()["columns"]]
    features = [
        {"name": "fee", "kind": "column", "column": "fee"},
        {"name": "twice", "kind": "expression", "expression": "2 * fee"},
    ]
    usecase = case(columns=columns, features=features)
    schema, plan = EventSchema.of(usecase), FeaturePlan.of(usecase)
    row = plan.row(schema.event(card_event(1, fee=None)), MemoryWindows(()))
    assert row.tolist() == [7.0, 14.0]
    refusing = [{k: v for k, v in c.items() if k != "nullable"} | {"missing": "refuse"} for c in columns[6:7]]
    strict = case(columns=[*columns[:6], *refusing, *columns[7:]], features=features)
    assert not strict.column("fee").nullable


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_a_target_that_is_not_binary_is_refused(kind: str) -> None:
    with pytest.raises(UseCaseError, match="two classes"):
        case(label={**case_data()["label"], "kind": kind})
