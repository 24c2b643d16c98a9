"""Nothing public takes more than seven parameters: what stands for a whole run goes into one frozen object."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
MOST = 7
FORMS = ("operation", "flow")
"""Decorators of Prefect flows: their parameters are the form that an operator fills in."""
STILL_LONGER = {
    "bentos/api/front_door.py FrontDoor.__init__": 8,
    "bentos/client/async_client.py AsyncClient.__init__": 9,
    "flows/distributed/fitting.py fit_on_cluster": 9,
    "flows/distributed/scoring.py score_on_cluster": 9,
    "flows/steps/bulk/score_table.py score_table": 10,
    "flows/steps/data/import_history.py load_history": 8,
    "flows/steps/tuning/search.py search": 9,
    "monitoring/drift/reference_profile.py ReferenceProfile.fit": 9,
}
"""Those that were there before the rule, with how many they may take: the list only gets shorter."""


def public_signatures(text: str) -> Iterator[tuple[str, int]]:
    """Public functions, methods and constructors of a module, with their parameters (``self`` not counted)."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and _is_public(member):
                    yield f"{node.name}.{member.name}", _count(member) - (not _is_static(member))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_public(node):
            yield node.name, _count(node)


def _is_public(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    decorators = {ast.unparse(decorator).partition("(")[0] for decorator in function.decorator_list}
    return (not function.name.startswith("_") or function.name == "__init__") and decorators.isdisjoint(FORMS)


def _is_static(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return "staticmethod" in [ast.unparse(decorator) for decorator in function.decorator_list]


def _count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    return len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)


def longer(room: str) -> dict[str, int]:
    """Everything public of a room that takes more than seven, and how many it takes."""
    return {
        f"{path.relative_to(PROJECT)} {name}": count
        for path in sorted((PROJECT / room).rglob("*.py"))
        for name, count in public_signatures(path.read_text(encoding="utf-8"))
        if count > MOST
    }


@pytest.mark.parametrize("room", ["flows", "bentos", "monitoring"])
def test_nothing_public_takes_more_than_seven_parameters(room: str) -> None:
    found = longer(room)
    assert {name: count for name, count in found.items() if count > STILL_LONGER.get(name, MOST)} == {}


@pytest.mark.parametrize("room", ["flows", "bentos", "monitoring"])
def test_whatever_has_become_short_leaves_the_list(room: str) -> None:
    listed = {name for name in STILL_LONGER if name.startswith(f"{room}/")}
    assert listed == set(longer(room))


def test_the_count_knows_methods_keywords_and_forms() -> None:
    eight = ", ".join(f"p{number}" for number in range(8))
    text = f"""
def plain({eight}): ...
def keywords(p0, *, {eight[4:]}): ...
async def later({eight}, *rest, **named): ...
def _own({eight}): ...
@operation("x {{time}}")
def form({eight}): ...
class Thing:
    def __init__(self, {eight}): ...
    def short(self, {eight[4:]}): ...
    @classmethod
    def made(cls, {eight}): ...
    @staticmethod
    def free({eight}): ...
    def _own(self, {eight}): ...
"""
    found = dict(public_signatures(text))
    assert {name for name, count in found.items() if count == 8} == {
        "plain", "keywords", "later", "Thing.__init__", "Thing.made", "Thing.free",
    }  # fmt: skip
    assert found["Thing.short"] == 7
    assert {"_own", "form", "Thing._own"}.isdisjoint(found)
