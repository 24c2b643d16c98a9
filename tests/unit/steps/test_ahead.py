"""Items made one ahead in a thread: the same items, in order, with errors in their place."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from flows.steps.bulkrun import ahead


def counted(last: int, seen: list[str], broken: int | None = None) -> Iterator[int]:
    for number in range(last):
        if number == broken:
            raise ValueError("row 7 is broken")
        seen.append(threading.current_thread().name)
        yield number


def test_the_items_are_the_same_and_are_made_elsewhere() -> None:
    seen: list[str] = []
    assert list(ahead(counted(5, seen))) == [0, 1, 2, 3, 4]
    assert threading.current_thread().name not in seen
    assert list(ahead(iter(()))) == []


def test_only_one_item_is_made_ahead() -> None:
    seen: list[str] = []
    items = ahead(counted(9, seen))
    assert next(items) == 0
    assert next(items) == 1
    items.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(seen) <= 3


def test_an_error_comes_after_the_items_before_it() -> None:
    items = ahead(counted(9, [], broken=3))
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="row 7"):
        next(items)
