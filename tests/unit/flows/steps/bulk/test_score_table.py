"""Items made one ahead in a thread: the same items, in order, with errors in their place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from flows.steps.bulk.score_table import map_in_order, prefetch


def counted(last: int, seen: list[str], broken: int | None = None) -> Iterator[int]:
    for number in range(last):
        if number == broken:
            raise ValueError("row 7 is broken")
        seen.append(threading.current_thread().name)
        yield number


def test_the_items_are_the_same_and_are_made_elsewhere() -> None:
    seen: list[str] = []
    assert list(prefetch(counted(5, seen))) == [0, 1, 2, 3, 4]
    assert threading.current_thread().name not in seen
    assert list(prefetch(iter(()))) == []


def test_only_one_item_is_made_ahead() -> None:
    seen: list[str] = []
    items = prefetch(counted(9, seen))
    assert next(items) == 0
    assert next(items) == 1
    items.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(seen) <= 3


def test_an_error_comes_after_the_items_before_it() -> None:
    items = prefetch(counted(9, [], broken=3))
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="row 7"):
        next(items)


def test_what_several_hands_make_comes_in_the_order_of_the_items() -> None:
    def slow(item: int) -> int:
        time.sleep(0.02 * (5 - item % 5))
        return item * item

    assert list(map_in_order(iter(range(12)), slow, 3)) == [n * n for n in range(12)]
    assert list(map_in_order(iter(()), slow, 3)) == []


def test_an_error_of_one_hand_comes_in_its_place_and_begins_nothing_more() -> None:
    begun: list[int] = []

    def fails(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise ValueError("two")
        return item

    made = map_in_order(iter(range(100)), fails, 2)
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        list(made)
    assert len(begun) < 10


def test_the_first_item_is_worked_on_alone() -> None:
    begun: list[int] = []

    def refuses(item: int) -> int:
        begun.append(item)
        raise ValueError("no table of ours")

    with pytest.raises(ValueError, match="no table of ours"):
        list(map_in_order(iter(range(100)), refuses, 4))
    assert begun == [0]
