"""What day it is, told by the events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bentos.scoring.recent_times import SAMPLE, RecentTimes
from bentos.usecase.limits import LATEST_US


def of(times: list[int]) -> RecentTimes:
    found = RecentTimes()
    found.add(times)
    return found


def test_before_the_first_event_there_is_no_time() -> None:
    assert RecentTimes().newest_us == 0


def test_a_few_events_are_believed() -> None:
    assert of([5]).newest_us == 5
    assert of([5, 9, 7]).newest_us == 7


def test_one_date_far_in_the_future_moves_nothing_among_others_and_is_forgotten_alone() -> None:
    found = of([*range(100, 120), LATEST_US - 1])
    assert found.newest_us < 120
    alone = of([LATEST_US - 1])
    assert alone.newest_us == LATEST_US - 1
    alone.add([6])
    assert alone.newest_us == 6


@given(st.lists(st.integers(0, 10**6), min_size=56, max_size=3000), st.integers(0, 7), st.randoms())
def test_up_to_seven_strays_among_the_latest_never_move_it_past_the_others(
    times: list[int], strays: int, chance: object
) -> None:
    mixed = times[-(SAMPLE - strays) :] + [LATEST_US - 1] * strays
    chance.shuffle(mixed)  # type: ignore[attr-defined]  # a random.Random
    assert of(mixed).newest_us <= max(times)


def test_what_was_logged_before_counts_only_where_nothing_was_seen_yet() -> None:
    found = RecentTimes()
    found.seed([1, 2, 3])
    found.seed([50, 60])
    assert found.newest_us == 2
