"""Work that can wait rests while the machine is busy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bentos.spool.throttle import Idleness, Ticks, read_ticks


def idleness(*ticks: Ticks | None) -> Idleness:
    steps: Iterator[Ticks | None] = iter(ticks)
    return Idleness(lambda: next(steps))


def test_there_is_no_rest_while_the_machine_has_time_to_spare() -> None:
    assert idleness((0, 0), (50, 100)).rest_after(0.1) == 0.0


def test_on_a_busy_machine_the_work_takes_a_tenth_of_its_time() -> None:
    assert idleness((0, 0), (5, 100)).rest_after(0.1) == pytest.approx(0.9)


def test_each_look_counts_from_the_look_before() -> None:
    looks = idleness((0, 0), (90, 100), (91, 200))
    assert looks.rest_after(0.1) == 0.0
    assert looks.rest_after(0.1) > 0.0


def test_a_rest_is_bounded() -> None:
    assert idleness((0, 0), (0, 100)).rest_after(60.0) == 3.0


@pytest.mark.parametrize("ticks", [(None, None), ((0, 0), None), ((5, 10), (5, 10))])
def test_a_machine_that_cannot_tell_gives_no_rest(ticks: tuple[Ticks | None, Ticks | None]) -> None:
    assert idleness(*ticks).rest_after(1.0) == 0.0


def test_linux_counts_waiting_for_a_disk_as_idle(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_text("cpu  10 1 5 80 4 0 0 0 3 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert read_ticks(file) == (84, 100)
    assert read_ticks(tmp_path / "absent") is None
