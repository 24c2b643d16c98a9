"""Features in parts, dealt out by entity, against the build of the whole frame: the same bits."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.features.plan import FeaturePlan
from bentos.schema.event import Event
from flows.distributed.row_groups import read_frame, read_key, write_frame
from flows.distributed.shuffle import Shuffle, buckets_of
from flows.distributed.slices import require_distinct, split_window
from flows.errors import SchemaProblem
from monitoring.core.calendar import TimeWindow
from tests.support.builders import NOON, card_event, card_frame, case, empty_labels, label_frame
from tests.unit.bentos.features.test_features_agree import AS_OF, PLAN, SCHEMA, histories


def dealt(plan: FeaturePlan, parts: Sequence[pd.DataFrame], labels: pd.DataFrame, buckets: int) -> np.ndarray[Any, Any]:
    """The features of consecutive parts, by way of the files."""
    with tempfile.TemporaryDirectory() as folder:
        shuffle = Shuffle(Path(folder), plan, AS_OF, buckets)
        numbers = range(len(parts))
        for number in numbers:
            own = labels["event_id"].isin(parts[number]["id"])
            shuffle.put(number, parts[number], labels[own])
        for entity in shuffle.entities:
            assert sum(shuffle.build(entity, bucket, numbers) for bucket in range(buckets)) == sum(map(len, parts))
        return np.concatenate([shuffle.features(number)[1].to_numpy() for number in numbers])


def cut_at(frame: pd.DataFrame, places: Sequence[int]) -> list[pd.DataFrame]:
    edges = [0, *sorted(min(place, len(frame)) for place in places), len(frame)]
    return [frame.iloc[a:b].reset_index(drop=True) for a, b in pairwise(edges)]


@settings(max_examples=25)
@given(histories(), st.lists(st.integers(0, 25), max_size=3), st.integers(1, 4))
def test_any_cut_and_any_number_of_buckets_give_the_bits_of_the_whole_frame(
    history: tuple[list[Event], list[Any]], places: list[int], buckets: int
) -> None:
    events, labels = history
    frame = SCHEMA.frame(sorted(events, key=lambda e: (e.time_us, e.event_id)))
    told = label_frame(*labels)
    expected = PLAN.build(frame, told, AS_OF).to_numpy()
    found = dealt(PLAN, cut_at(frame, places), told, buckets)
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


def test_a_plan_without_windows_needs_no_entities() -> None:
    kept = [f for f in case().features if f.kind != "window"]
    plan = FeaturePlan.of(case().model_copy(update={"features": tuple(kept)}))
    frame = card_frame(card_event(1), card_event(2, amount=20.0))
    expected = plan.build(frame, empty_labels(), AS_OF).to_numpy()
    np.testing.assert_array_equal(dealt(plan, cut_at(frame, [1]), empty_labels(), 2), expected)


def test_a_key_is_read_out_of_many_files_in_their_order(tmp_path: Path) -> None:
    first = pd.DataFrame({"n": [1, 2, 3], "text": [None, None, None]})
    second = pd.DataFrame({"n": [4, 5], "text": ["four", None]})
    write_frame(tmp_path / "a", first, np.array([7, 2, 7]))
    write_frame(tmp_path / "b", second, np.array([7, 7]))
    write_frame(tmp_path / "none", second.iloc[:0], np.array([], dtype=np.int64))
    found = read_key([tmp_path / "a", tmp_path / "none", tmp_path / "b"], 7)
    assert found["n"].tolist() == [1, 3, 4, 5]
    assert found["text"].tolist() == [None, None, "four", None]
    assert read_key([tmp_path / "a"], 5).empty
    assert len(read_frame(tmp_path / "b", ["n"])) == 2


def test_an_id_in_two_parts_is_refused_by_name(tmp_path: Path) -> None:
    for part, ids in enumerate((["a", "b"], ["c", "b"])):
        file = tmp_path / "ids" / f"{part:06d}.parquet"
        write_frame(file, pd.DataFrame({"id": ids}), np.zeros(2, dtype=np.int64))
    with pytest.raises(SchemaProblem, match=r"'b'.*--engine single"):
        require_distinct(tmp_path, [0, 1], 0)
    assert require_distinct(tmp_path, [0], 0) == 2


@pytest.mark.parametrize("rows", [None, 1_000, 2_000_000, 10**9])
def test_slices_are_whole_days_and_cover_the_window_without_gaps(rows: int | None) -> None:
    usecase = case(timezone="Europe/Paris")
    window = TimeWindow(NOON, NOON + timedelta(days=61, hours=3))
    pieces = split_window(usecase, window, rows, workers=2)
    assert (pieces[0].start, pieces[-1].end) == (window.start, window.end)
    assert all(a.end == b.start for a, b in pairwise(pieces))
    calendar = usecase.calendar
    assert all(piece.end == calendar.start_of(calendar.day_of(piece.end)) for piece in pieces[:-1])


def test_more_rows_are_dealt_into_more_buckets_and_each_worker_has_one() -> None:
    assert buckets_of(10, workers=3) == 3
    assert buckets_of(20_000_000, workers=2) == 50
    assert buckets_of(None, workers=2) == 32
