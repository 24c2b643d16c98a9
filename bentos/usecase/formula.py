"""Formulas of a use case: a small language, read by Python's parser and computed by numpy.

Nothing is executed as Python: the text is parsed, every node must be one of a short list, and a tree
of our own functions is walked. Training walks it over whole columns and the service over a batch, with
the same operations on 64-bit floats, so both give the same bits; logarithms are taken one by one
because their vectorised form may differ in the last bit with the length of an array.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np

from bentos.usecase.calendar_parts import local_seconds, part_of

CALENDAR = ("hour", "weekday", "month", "day_of_month")
_DAY_US = 86_400_000_000.0
_DEPTH = 40
_LENGTH = 2_000
_EXCERPT_LENGTH = 80

Values = Mapping[str, Any]
"""float64 array of each number; int64 microseconds and a mask of missing ones of a datetime; texts as objects."""


class FormulaError(ValueError):
    """A formula that cannot be read; the message says what and where."""


def _logarithm(function: Callable[[float], float], floor: float) -> Callable[[Any], Any]:
    def apply(x: Any) -> Any:
        return np.array([function(v) if v > floor else math.nan for v in x.tolist()], dtype=np.float64)

    return apply


def _where(condition: Any, a: Any, b: Any) -> Any:
    return np.where(np.isnan(condition), np.nan, np.where(condition != 0.0, a, b))


_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, np.abs),
    "sqrt": (1, np.sqrt),
    "log": (1, _logarithm(math.log, 0.0)),
    "log1p": (1, _logarithm(math.log1p, -1.0)),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
    "where": (3, _where),
}
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}


class Formula:
    """A formula, checked.

    Attributes:
        names: what it names, in order of first sight.
        numbers: those that must be numbers or booleans; a name that is only asked ``missing`` may be anything.
        times: those that must be datetime columns.
        texts: those that must be texts, because they are compared with one.

    Raises:
        FormulaError: it is no formula of this language.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _LENGTH:
            raise FormulaError(
                f"{_excerpt(text)} is too long for a formula: {len(text):,} characters, {_LENGTH:,} at most; "
                "cut it into derived columns that use each other's results, or write a hook"
            )
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
            raise FormulaError(f"{_excerpt(text)} is no formula: {getattr(exc, 'msg', type(exc).__name__)}") from exc
        self._kind_by_name: dict[str, str] = {}
        self._check(self._tree, 0)
        self.names = tuple(self._kind_by_name)
        self.times = tuple(name for name, kind in self._kind_by_name.items() if kind == "time")
        self.numbers = tuple(name for name, kind in self._kind_by_name.items() if kind == "number")
        self.texts = tuple(name for name, kind in self._kind_by_name.items() if kind == "text")

    def compute(self, values: Values, rows: int, timezone: str) -> Any:
        """The formula's values, float64, NaN where there is none.

        Args:
            values: an array for each of :attr:`names`; datetimes as float64 microseconds (NaN: missing).
            rows: their length.
            timezone: zone of calendar parts.
        """
        with np.errstate(all="ignore"):
            result = np.asarray(self._value(self._tree, values, rows, timezone), dtype=np.float64)
        # An infinite number is one divided by zero, or too large for a model.
        return np.where(np.abs(result) < 1e38, result, np.nan)

    def _check(self, node: ast.AST, depth: int) -> None:
        if depth > _DEPTH:
            raise FormulaError("the formula is nested too deeply")
        if isinstance(node, ast.Name):
            self._note(node.id, "number")
        elif isinstance(node, ast.Constant) and _is_number(node.value):
            return
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            self._check_all(depth, node.left, node.right)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
            self._check(node.operand, depth + 1)
        elif isinstance(node, ast.BoolOp):
            self._check_all(depth, *node.values)
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
            self._check_comparison(node, depth)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            self._check_call(node.func.id, node.args, depth)
        else:
            raise FormulaError(
                f"{_source(node)} is not part of the language: numbers, names, + - * /, comparisons, "
                f"and, or, not, {', '.join([*_FUNCTIONS, 'missing', *CALENDAR, 'days'])}"
            )

    def _check_all(self, depth: int, *nodes: ast.AST) -> None:
        for node in nodes:
            self._check(node, depth + 1)

    def _check_comparison(self, node: ast.Compare, depth: int) -> None:
        right = node.comparators[0]
        if isinstance(right, ast.Constant) and isinstance(right.value, str):
            if not isinstance(node.left, ast.Name) or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
                raise FormulaError(f"{_source(node)}: a text is compared with a column by == or !=")
            self._note(node.left.id, "text")
            return
        self._check_all(depth, node.left, right)

    def _check_call(self, function: str, arguments: list[ast.expr], depth: int) -> None:
        if function in CALENDAR or function in ("days", "missing"):
            if len(arguments) != 1 or not isinstance(arguments[0], ast.Name):
                raise FormulaError(f"{function} takes the name of one column")
            self._note(arguments[0].id, "any" if function == "missing" else "time")
            return
        if function not in _FUNCTIONS:
            allowed_names = ", ".join([*_FUNCTIONS, "missing", *CALENDAR, "days"])
            raise FormulaError(f"{function!r} is no function of formulas; allowed: {allowed_names}")
        if len(arguments) != _FUNCTIONS[function][0]:
            raise FormulaError(f"{function} takes {_FUNCTIONS[function][0]} values, found {len(arguments)}")
        self._check_all(depth, *arguments)

    def _note(self, name: str, kind: str) -> None:
        earlier_kind = self._kind_by_name.get(name, "any")
        if kind != "any" and earlier_kind not in ("any", kind):
            raise FormulaError(f"{name!r} is used as a {earlier_kind} and as a {kind}")
        self._kind_by_name[name] = earlier_kind if kind == "any" else kind

    def _value(self, node: ast.AST, values: Values, rows: int, zone: str) -> Any:
        def evaluate(child: ast.AST) -> Any:
            return self._value(child, values, rows, zone)

        if isinstance(node, ast.Constant):
            return np.full(rows, float(node.value))  # type: ignore[arg-type]  # _check lets numbers through only
        if isinstance(node, ast.Name):
            return values[node.id]
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](evaluate(node.left), evaluate(node.right))
        if isinstance(node, ast.UnaryOp):
            operand = evaluate(node.operand)
            return -operand if isinstance(node.op, ast.USub) else _truth(operand == 0.0, operand)
        if isinstance(node, ast.BoolOp):
            combine = np.minimum if isinstance(node.op, ast.And) else np.maximum
            # Part by part, so that a long condition never holds an array for each of its parts.
            return reduce(combine, (_truth(part != 0.0, part) for part in map(evaluate, node.values)))
        if isinstance(node, ast.Compare):
            return self._compare(node, values, evaluate)
        assert isinstance(node, ast.Call)
        return self._call(node, values, zone, evaluate)

    def _compare(self, node: ast.Compare, values: Values, evaluate: Callable[[ast.AST], Any]) -> Any:
        compare, right = _COMPARISONS[type(node.ops[0])], node.comparators[0]
        if isinstance(right, ast.Constant) and isinstance(right.value, str):
            assert isinstance(node.left, ast.Name)
            expected_text = right.value if isinstance(node.ops[0], ast.Eq) else None
            texts = values[node.left.id].tolist()
            hits = [t == expected_text if expected_text is not None else t != right.value for t in texts]
            is_present = [t is not None and t == t for t in texts]
            return np.where(np.array(is_present, dtype=np.bool_), np.array(hits, dtype=np.float64), np.nan)
        first, second = evaluate(node.left), evaluate(right)
        return _truth(compare(first, second), first, second)

    def _call(self, node: ast.Call, values: Values, zone: str, evaluate: Callable[[ast.AST], Any]) -> Any:
        assert isinstance(node.func, ast.Name)
        function = node.func.id
        if function in _FUNCTIONS:
            return _FUNCTIONS[function][1](*map(evaluate, node.args))
        assert isinstance(node.args[0], ast.Name)
        column_values = values[node.args[0].id]
        if function == "missing":
            return np.array([v is None or v != v for v in column_values.tolist()], dtype=np.float64)
        is_present = ~np.isnan(column_values)
        if function == "days":
            return column_values / _DAY_US
        local = local_seconds(np.where(is_present, column_values, 0.0).astype(np.int64), zone)
        return np.where(is_present, part_of(function, local, (0, 0)), np.nan)


def _source(node: ast.AST) -> str:
    try:
        return _excerpt(ast.unparse(node))
    except RecursionError:
        return "a part nested very deeply"


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _EXCERPT_LENGTH else f"{text[:_EXCERPT_LENGTH]}...")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e15


def _truth(result: Any, *operands: Any) -> Any:
    """1 and 0; missing where an operand is."""
    truth = np.asarray(result, dtype=np.float64)
    for operand in operands:
        truth = np.where(np.isnan(operand), np.nan, truth)
    return truth
