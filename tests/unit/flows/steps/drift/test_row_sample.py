"""A sample of rows that arrive part by part."""

import numpy as np
import pytest

from flows.steps.drift.served_windows import RowSample

ROWS = np.arange(10_000, dtype=np.float32).reshape(-1, 1)


def sample(size: int, part: int, seed: int = 7) -> list[float]:
    found = RowSample(size, seed)
    for start in range(0, len(ROWS), part):
        found.add(ROWS[start : start + part])
    return found.rows(1)[:, 0].tolist()


def test_fewer_rows_than_wanted_are_all_kept_in_their_order() -> None:
    assert sample(20_000, 777) == ROWS[:, 0].tolist()


@pytest.mark.parametrize("part", [1, 33, 10_000])
def test_a_sample_does_not_depend_on_how_the_rows_are_cut(part: int) -> None:
    assert sample(100, part) == sample(100, 500)
    assert len(sample(100, part)) == 100


def test_a_sample_keeps_the_order_and_comes_from_everywhere() -> None:
    found = sample(2000, 500)
    assert found == sorted(set(found))
    assert np.mean(found) == pytest.approx(5000, abs=250)
    assert sample(2000, 500, seed=8) != found


def test_no_row_gives_an_empty_table_of_the_wanted_width() -> None:
    assert RowSample(5).rows(3).shape == (0, 3)
    none = RowSample(0)
    none.add(ROWS)
    assert none.rows(1).shape == (0, 1)
