"""Zero-wait micro-batching."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bentos.scoring.batcher import MicroBatcher


class Recorder:
    def __init__(self) -> None:
        self.runs: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.runs.append(list(items))
        return [ValueError(f"{item} is odd") if item % 2 else item * 10 for item in items]


def test_items_of_one_turn_of_the_loop_run_together_and_in_order() -> None:
    recorder = Recorder()

    async def play() -> list[int]:
        loop = asyncio.get_running_loop()
        batcher = MicroBatcher(recorder)
        return await asyncio.gather(*(batcher.submit(n, loop) for n in (2, 4, 6)))

    assert asyncio.run(play()) == [20, 40, 60]
    assert recorder.runs == [[2, 4, 6]]


def test_a_lone_item_waits_for_nothing() -> None:
    recorder = Recorder()

    async def play() -> None:
        loop = asyncio.get_running_loop()
        batcher = MicroBatcher(recorder)
        for n in (2, 4):
            waiter = batcher.submit(n, loop)
            await asyncio.sleep(0)
            assert waiter.done()

    asyncio.run(play())
    assert recorder.runs == [[2], [4]]


def test_an_answer_that_is_an_exception_reaches_only_its_own_caller() -> None:
    async def play() -> list[int | BaseException]:
        loop = asyncio.get_running_loop()
        batcher = MicroBatcher(Recorder())
        return await asyncio.gather(*(batcher.submit(n, loop) for n in (2, 3, 4)), return_exceptions=True)

    first, bad, last = asyncio.run(play())
    assert (first, last) == (20, 40)
    assert isinstance(bad, ValueError)


def test_a_run_that_fails_reaches_every_caller_and_the_next_run_is_unharmed() -> None:
    calls = []

    def run(items: Sequence[int]) -> list[int | Exception]:
        calls.append(list(items))
        if len(calls) == 1:
            raise RuntimeError("once")
        return list(items)

    async def play() -> None:
        loop = asyncio.get_running_loop()
        batcher = MicroBatcher(run)
        failed = await asyncio.gather(*(batcher.submit(n, loop) for n in (1, 2)), return_exceptions=True)
        assert [type(f) for f in failed] == [RuntimeError, RuntimeError]
        assert await batcher.submit(3, loop) == 3

    asyncio.run(play())


def test_more_items_than_a_batch_takes_are_run_in_several_batches() -> None:
    recorder = Recorder()

    async def play() -> list[int]:
        loop = asyncio.get_running_loop()
        batcher = MicroBatcher(recorder, max_batch=2)
        return await asyncio.gather(*(batcher.submit(n, loop) for n in (0, 2, 4, 6, 8)))

    assert asyncio.run(play()) == [0, 20, 40, 60, 80]
    assert recorder.runs == [[0, 2], [4, 6], [8]]


def test_a_caller_who_went_away_is_scored_and_not_waited_for() -> None:
    recorder = Recorder()

    async def play() -> int:
        loop = asyncio.get_running_loop()
        batcher = MicroBatcher(recorder)
        gone, stays = batcher.submit(2, loop), batcher.submit(4, loop)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert batcher.waiting in (0, 2)
        return await stays

    assert asyncio.run(play()) == 40
    assert recorder.runs == [[2, 4]]
