"""What can be wrong with the look-up tables that a use case declares, before any file is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bentos.usecase.declarations import Column, Lookup

if TYPE_CHECKING:
    from bentos.usecase.definition import UseCase

VALID_FROM = "valid_from"
"""Column of every look-up table: when a row begins to hold."""
Problem = tuple[str, str, str]


def lookup_problems(usecase: UseCase) -> Iterator[Problem]:
    """(key, found, allowed) of each mistake; see :mod:`bentos.usecase.problems`."""
    declared_names = [lookup.name for lookup in usecase.lookups]
    for name, count in Counter(declared_names).items():
        if count > 1:
            yield "lookups", f"{name!r} twice", "each name once"
    if usecase.lookups and usecase.untimed:
        allowed = "time = 'column': a row counts from a moment on, so the event must say when it was"
        yield "lookups", "look-up tables with time = 'none'", allowed
    for index, lookup in enumerate(usecase.lookups):
        yield from _entity_problems(usecase, lookup, f"lookups[{index}]")
    for index, column in enumerate(usecase.columns):
        if column.lookup is not None:
            yield from _column_problems(usecase, column, declared_names, f"columns[{index}]")


def _entity_problems(usecase: UseCase, lookup: Lookup, key: str) -> Iterator[Problem]:
    sent_names = [c.name for c in usecase.columns if c.type == "identifier" and c.lookup is None]
    candidates = ", ".join(name for name in sent_names if name != usecase.event_id) or "none is declared"
    if lookup.entity not in sent_names or lookup.entity == usecase.event_id:
        yield f"{key}.entity", repr(lookup.entity), f"an identifier column that clients send ({candidates})"
    if not any(c.lookup == lookup.name for c in usecase.columns):
        yield f"{key}.name", repr(lookup.name), "a name that at least one column gives as its lookup"


def _column_problems(usecase: UseCase, column: Column, declared_names: list[str], key: str) -> Iterator[Problem]:
    if column.lookup not in declared_names:
        allowed = ", ".join(declared_names) or "the name of a [[lookups]] table; none is declared"
        yield f"{key}.lookup", repr(column.lookup), allowed
        return
    if column.name in usecase.privacy.hashed:
        yield f"{key}.lookup", f"{column.name!r}, a hashed column", "a column outside privacy.hashed"
    entity = next(lookup.entity for lookup in usecase.lookups if lookup.name == column.lookup)
    if column.external_name in (VALID_FROM, entity):
        allowed = f"another source_name: in the table {column.external_name!r} says when or of whom a row is"
        yield f"{key}.source_name", repr(column.external_name), allowed
