"""What is wrong with a use case: references that lead nowhere, leaks, limits, and words for each.

A problem is (key, found, allowed), the words of :class:`~bentos.errors.UseCaseError`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bentos.errors import UseCaseError
from bentos.usecase.declarations import CalendarFeature, Column, ColumnFeature, ExpressionFeature, WindowFeature
from bentos.usecase.limits import HASH_LENGTH, LARGEST_SCALED, bounds
from bentos.usecase.lookup_problems import lookup_problems
from bentos.windows.aggregates import AGGREGATES
from monitoring.policies import Policy

if TYPE_CHECKING:
    from bentos.usecase.definition import UseCase

Problem = tuple[str, str, str]
_KINDS = {
    "column": ColumnFeature,
    "calendar": CalendarFeature,
    "window": WindowFeature,
    "expression": ExpressionFeature,
}
_TEXTS = ("identifier", "category", "string")
_NUMBERS = ("float", "integer")


def problems(usecase: UseCase) -> Iterator[Problem]:
    """Every problem that no single value of the file shows."""
    yield from _repeat_problems("columns", [c.name for c in usecase.columns])
    for table in (None, *dict.fromkeys(c.lookup for c in usecase.columns if c.lookup is not None)):
        yield from _repeat_problems(
            "columns.source_name", [c.external_name for c in usecase.columns if c.lookup == table]
        )
    yield from _repeat_problems("features", [f.name for f in usecase.features])
    yield from _event_problems(usecase)
    yield from _untimed_problems(usecase)
    yield from lookup_problems(usecase)
    if usecase.label.kind != "binary":
        allowed = "'binary': models of two classes; make the target one, for example 'above a limit or not'"
        yield "label.kind", repr(usecase.label.kind), allowed
    for index, feature in enumerate(usecase.features):
        yield from _feature_problems(usecase, feature, f"features[{index}]")
    if usecase.evaluation.entity is not None:
        yield from _reference_problems(usecase, "evaluation.entity", usecase.evaluation.entity, ("identifier",))
    for name in usecase.evaluation.segments:
        yield from _reference_problems(usecase, "evaluation.segments", name, (*_TEXTS, "integer", "boolean"))
    if usecase.evaluation.amount is not None:
        yield from _reference_problems(usecase, "evaluation.amount", usecase.evaluation.amount, _NUMBERS)
    yield from _decision_day_problems(usecase)
    if isinstance(usecase.cost.false_negative, str):
        yield from _reference_problems(usecase, "cost.false_negative", usecase.cost.false_negative, _NUMBERS)
    yield from _threshold_problems(usecase)
    yield from _profit_problems(usecase)
    if usecase.incumbent is not None:
        yield from _reference_problems(usecase, "incumbent.column", usecase.incumbent.column, ("float",))
    yield from _fairness_problems(usecase)
    yield from _tuning_problems(usecase)
    yield from _leak_problems(usecase)
    for index, name in enumerate(usecase.privacy.hashed):
        yield from _hash_problems(usecase, name, f"privacy.hashed[{index}]")


def _threshold_problems(usecase: UseCase) -> Iterator[Problem]:
    """A threshold by the amount needs the amount among the features, because decisions are made from features."""
    cost = usecase.cost
    if cost.threshold != "by_amount":
        return
    if not isinstance(cost.false_negative, str):
        yield "cost.threshold", "'by_amount'", "'one' where false_negative is a constant; or name a column there"
    elif not any(isinstance(f, ColumnFeature) and f.column == cost.false_negative for f in usecase.features):
        yield "cost.threshold", "'by_amount'", f"a feature of kind 'column' on {cost.false_negative!r}, or 'one'"


def _profit_problems(usecase: UseCase) -> Iterator[Problem]:
    """An offer that costs more than it keeps earns nothing whatever the model says."""
    profit = usecase.gates.profit
    if profit is None:
        return
    if isinstance(profit.saved_value, str):
        yield from _reference_problems(usecase, "gates.profit.saved_value", profit.saved_value, _NUMBERS)
        return
    minimum_value = profit.offer_cost + profit.contact_cost / profit.acceptance_rate
    if profit.saved_value * profit.saved_times <= minimum_value:
        actual = f"{profit.saved_value:g} kept {profit.saved_times:g} times"
        allowed = (
            f"more than {minimum_value:g}, which is what keeping one customer costs, so that an offer can earn anything"
        )
        yield "gates.profit.saved_value", actual, allowed


def _tuning_problems(usecase: UseCase) -> Iterator[Problem]:
    """The file's own settings are always one candidate, so the search space holds them."""
    for name, span in usecase.tuning.space.spans.items() if usecase.tuning else ():
        file_value = getattr(usecase.training, name)
        if not span.holds(file_value):
            actual = ", ".join(map(str, span.edges)) if span.choices else " to ".join(map(str, span.edges))
            yield (
                f"tuning.space.{name}",
                actual,
                f"a range or choices with [training] {name} = {file_value!r} among them",
            )


def not_finite(data: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Keys of a parsed file that hold NaN or infinity, which TOML allows and no policy may hold."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from not_finite(value, f"{key}.{name}" if key else str(name))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from not_finite(value, f"{key}[{index}]")
    elif isinstance(data, float) and not math.isfinite(data):
        yield key, str(data)


def explain(exc: ValidationError, file: Path | str, root: type[Policy]) -> UseCaseError:
    """The first mistake that pydantic found, in our words; ``root`` is the model of the whole file."""
    error = exc.errors(include_url=False)[0]
    key = _path(error["loc"])
    if error["type"] == "extra_forbidden":
        allowed = _allowed_keys(error["loc"], root)
        close_matches = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
        hint = f" (did you mean {close_matches[0]!r}?)" if close_matches else ""
        return UseCaseError(file, key, "an unknown key", ", ".join(allowed) + hint)
    actual = "nothing" if error["type"] == "missing" else repr(error["input"])
    if len(actual) > 120:
        actual = actual[:117] + "..."
    return UseCaseError(file, key, actual, error["msg"].removeprefix("Value error, "))


def _event_problems(usecase: UseCase) -> Iterator[Problem]:
    yield from _reference_problems(usecase, "event_id", usecase.event_id, ("identifier",))
    yield from _reference_problems(usecase, "event_time", usecase.event_time, ("datetime",))
    for key, name in (("event_id", usecase.event_id), ("event_time", usecase.event_time)):
        if any(c.name == name and c.nullable for c in usecase.columns):
            yield key, f"{name!r}, which is nullable", "a column that every event has"


def _untimed_problems(usecase: UseCase) -> Iterator[Problem]:
    """Without a time there is no earlier and no later."""
    for index, feature in enumerate(usecase.features):
        if usecase.untimed and isinstance(feature, WindowFeature | CalendarFeature):
            yield f"features[{index}].kind", repr(feature.kind), "'column' or 'expression': this data has no time"


def _fairness_problems(usecase: UseCase) -> Iterator[Problem]:
    policy = usecase.fairness
    for key, names in (("sensitive", policy.sensitive), ("slices", policy.slices)):
        for name in names:
            yield from _reference_problems(usecase, f"fairness.{key}", name, (*_TEXTS, *_NUMBERS, "boolean"))
    numbers = {c.name for c in usecase.columns if c.type in _NUMBERS}
    for name in {*policy.sensitive, *policy.slices} & numbers - set(policy.edges):
        yield f"fairness.edges.{name}", "nothing", "edges that cut the number into groups, for example [30, 50]"
    for name in sorted(set(policy.edges) - numbers):
        yield f"fairness.edges.{name}", f"{name!r}, which is no number", "edges for numbers only"


def _decision_day_problems(usecase: UseCase) -> Iterator[Problem]:
    """The last look must come before the comparison ends by itself."""
    policy = usecase.promotion
    last_day = policy.decision_days[-1] + math.ceil(usecase.label.matures_after / timedelta(days=1))
    if policy.method == "lan_demets" and last_day > policy.max_shadow_days:
        allowed = f"at least {last_day}: the last decision day and the days that its labels take to mature"
        yield "promotion.max_shadow_days", str(policy.max_shadow_days), allowed


def _feature_problems(usecase: UseCase, feature: object, key: str) -> Iterator[Problem]:
    if isinstance(feature, ColumnFeature):
        yield from _reference_problems(usecase, f"{key}.column", feature.column, (*_NUMBERS, "boolean", "category"))
    if isinstance(feature, ExpressionFeature):
        yield from _formula_problems(usecase, feature, f"{key}.expression")
    if isinstance(feature, WindowFeature):
        yield from _reference_problems(usecase, f"{key}.entity", feature.entity, _TEXTS)
        if feature.column is not None:
            allowed = (*_NUMBERS, *_TEXTS) if AGGREGATES[feature.agg].accepts == "numbers and texts" else _NUMBERS
            mistakes = list(_reference_problems(usecase, f"{key}.column", feature.column, allowed))
            yield from mistakes or _scale_problems(usecase.column(feature.column), f"{key}.column")


def _formula_problems(usecase: UseCase, feature: ExpressionFeature, key: str) -> Iterator[Problem]:
    """A formula names columns and features above it, each as what it is."""
    from bentos.usecase.formula import Formula, FormulaError

    try:
        formula = Formula(feature.expression)
    except FormulaError as exc:
        yield key, repr(feature.expression), str(exc)
        return
    columns = {c.name: c.type for c in usecase.columns}
    earlier_features = list(takewhile(lambda other: other is not feature, usecase.features))
    types = columns | {f.name: "float" for f in earlier_features if f.name not in columns}
    for name in formula.names:
        if name not in types:
            yield key, repr(name), f"a column or a feature above: {', '.join(types)}"
        elif name in formula.times and types[name] != "datetime":
            yield key, f"{name!r}, which is a {types[name]}", "a datetime column inside hour, weekday, month, days"
        elif name in formula.texts and types[name] not in _TEXTS:
            yield key, f"{name!r}, which is a {types[name]}", "a text column where a text is compared"
        elif name in formula.numbers and types[name] not in (*_NUMBERS, "boolean"):
            yield key, f"{name!r}, which is a {types[name]}", "a number, or missing(), days(), == 'text' of it"


def _scale_problems(column: Column, key: str) -> Iterator[Problem]:
    """Sums are whole numbers of 10**-decimals in 64 bits."""
    if column.type in _NUMBERS and max(map(abs, bounds(column))) * 10**column.decimals > LARGEST_SCALED:
        allowed = f"numbers up to {LARGEST_SCALED / 10**column.decimals:.3g}; declare min and max, or fewer decimals"
        yield key, f"{column.name!r} with {column.decimals} decimals and no closer limit", allowed


def _leak_problems(usecase: UseCase) -> Iterator[Problem]:
    """The label must not come in as a column of the event."""
    names = {c.name for c in usecase.columns} | {c.external_name for c in usecase.columns}
    label = {"column": usecase.label.column, "source_name": usecase.label.source_name}
    for key, name in label.items():
        if name in names:
            allowed = "a name that no event column has: the label is not known when the event is scored"
            yield f"label.{key}", repr(name), allowed


def _hash_problems(usecase: UseCase, name: str, key: str) -> Iterator[Problem]:
    mistakes = list(_reference_problems(usecase, key, name, ("identifier", "string")))
    yield from mistakes
    if name == usecase.event_id:
        allowed = "another column: labels, answers and retries name an event by its id, so give events an opaque one"
        yield key, f"{name!r}, the event id", allowed
    if not mistakes and usecase.column(name).max_length < HASH_LENGTH:
        yield key, f"{name!r} with max_length {usecase.column(name).max_length}", f"a max_length from {HASH_LENGTH} on"


def _repeat_problems(key: str, names: list[str]) -> Iterator[Problem]:
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield key, f"{name!r} twice", "each name once"


def _reference_problems(usecase: UseCase, key: str, name: str, allowed: tuple[str, ...]) -> Iterator[Problem]:
    types = {c.name: c.type for c in usecase.columns}
    candidates = ", ".join(sorted(n for n, t in types.items() if t in allowed))
    if name not in types:
        yield key, repr(name), f"a declared column ({candidates or 'none of a fitting type is declared'})"
    elif types[name] not in allowed:
        yield key, f"{name!r} of type {types[name]}", f"a column of type {' or '.join(allowed)} ({candidates})"


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for index, part in enumerate(loc):
        if isinstance(part, int):
            text += f"[{part}]"
        elif not (index == 2 and loc[0] == "features" and part in _KINDS):
            text += f".{part}" if text else part
    return text or "file"


def _allowed_keys(loc: tuple[int | str, ...], root: Any) -> list[str]:
    model = root
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        model = _KINDS[part] if model is None else _model_of(model.model_fields[part].annotation)
    return sorted(model.model_fields) if model is not None else []


def _model_of(annotation: Any) -> Any:
    """The policy class inside an annotation, or none where several are possible."""
    if isinstance(annotation, type) and issubclass(annotation, Policy):
        return annotation
    policies = {m for m in map(_model_of, getattr(annotation, "__args__", ())) if m is not None}
    return policies.pop() if len(policies) == 1 else None
