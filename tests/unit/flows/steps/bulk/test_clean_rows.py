"""Rows that are clean to see are exactly those of the careful reader; whatever is not goes to that one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from flows.sources.parquet import frame_of, to_plain_types
from flows.steps.bulk.chunk_worker import without_missing_limits
from flows.steps.bulk.clean_rows import ClearRows, clear_rows
from tests.support.builders import NOON, card_event, case, case_data

USECASE = without_missing_limits(case())


def _table(*changes: dict[str, Any], rows: int = 6) -> pa.Table:
    """Good rows an hour apart; each of ``changes`` replaces values of the row of its place."""
    made = [card_event(n, timedelta(hours=n), fee=n / 8) for n in range(rows)]
    for event, change in zip(made, changes, strict=False):
        event.update(change)
    return pa.table({name: [event[name] for event in made] for name in made[0]})


def _clear(table: pa.Table, usecase: UseCase = USECASE) -> ClearRows | None:
    return clear_rows(to_plain_types(table, usecase), usecase)


def _require_equal(found: ClearRows, table: pa.Table, usecase: UseCase = USECASE) -> None:
    read = EventSchema.of(usecase).read_table(frame_of(table, usecase))
    assert read.quarantine.empty
    assert found.ids.to_pylist() == read.events[usecase.event_id].tolist()
    expected = read.events.drop(columns=usecase.event_id)
    pd.testing.assert_frame_equal(found.events, expected, check_exact=True)


HOURS = st.integers(0, 4).map(lambda hours: NOON + timedelta(hours=hours))
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "id": st.sampled_from(["a", "B 7", "é", "", " ", "x" * 300, "tab\t", "\x7f", "日本", None]),
    "at": HOURS,
    "card": st.sampled_from(["c1", "", "too long a card", None, "ü"]),
    "shop": st.sampled_from(["s1", None, "line\nbreak"]),
    "amount": st.sampled_from([0.0, -0.0, 1000.0, 1000.5, -1.0, float("nan"), float("inf"), None]),
    "items": st.sampled_from([1, 50, 51, None]),
    "fee": st.sampled_from([None, float("nan"), 1e16, 3.25]),
    "online": st.sampled_from([True, False, None]),
    "channel": st.sampled_from(["app", "web", "fax", None]),
}
CHANGE = st.sampled_from(sorted(CHANGES)).flatmap(lambda name: st.fixed_dictionaries({name: CHANGES[name]}))


@given(st.lists(st.one_of(st.just({}), CHANGE), max_size=6))
def test_rows_are_clear_only_where_the_careful_reader_refuses_none_and_then_they_are_the_same(
    changes: list[dict[str, Any]],
) -> None:
    table = _table(*changes)
    found = _clear(table)
    if found is not None:
        _require_equal(found, table)


@given(st.lists(HOURS, min_size=6, max_size=6), st.permutations(["10", "9", "b", "B", "a", "a b"]))
def test_rows_out_of_order_and_ties_of_time_come_in_the_order_of_the_careful_reader(
    times: list[Any], ids: list[str]
) -> None:
    table = _table(*({"at": at, "id": name} for at, name in zip(times, ids, strict=True)))
    found = _clear(table)
    assert found is not None
    _require_equal(found, table)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("id", pa.int64()), ("id", pa.uint8()), ("id", pa.dictionary(pa.int32(), pa.string())),
        ("amount", pa.float32()), ("amount", pa.int16()), ("amount", pa.decimal128(9, 2)), ("items", pa.int8()),
        ("items", pa.float64()), ("at", pa.timestamp("ns", "Europe/Berlin")), ("at", pa.timestamp("ms", "UTC")),
        ("shop", pa.dictionary(pa.int8(), pa.string())), ("shop", pa.large_string()), ("online", pa.int8()),
    ],
)  # fmt: skip
def test_many_types_of_columns_are_clear(name: str, kind: pa.DataType) -> None:
    table = _table(*({"id": str(n)} for n in (12, 7, 100, 9, 0, 5)))
    at = table.column_names.index(name)
    column = table.column(name)
    if pa.types.is_dictionary(kind):
        table = table.set_column(at, name, column.dictionary_encode().cast(kind))
    else:
        table = table.set_column(at, name, column.cast(kind))
    found = _clear(table)
    assert found is not None
    _require_equal(found, table)


def test_a_part_of_longer_columns_in_several_pieces_is_looked_at_alone() -> None:
    bad = _table({"id": ""}, {"id": "é"}, rows=2)
    good = _table(rows=5)
    table = pa.concat_tables([bad, good, _table({"id": "x" * 300}, rows=1)]).slice(3, 4)
    found = _clear(table)
    assert found is not None
    _require_equal(found, table)
    assert _clear(pa.concat_tables([good.slice(2), _table({"id": "e0002"}, rows=1)])) is None


@pytest.mark.parametrize("length", [1, 8, 9, 16, 40])
def test_one_repeated_id_among_ids_of_one_length_is_seen(length: int) -> None:
    ids = [f"{n:0{length}d}" for n in range(6)]
    assert _clear(_table(*({"id": name} for name in ids))) is not None
    assert _clear(_table(*({"id": name} for name in [*ids[:5], ids[2]]))) is None


def test_ids_that_are_hashed_or_guarded_take_the_careful_reader() -> None:
    guarded = [c | {"pan_guard": True} if c["name"] == "id" else c for c in case_data()["columns"]]
    assert _clear(_table(), case(columns=guarded)) is None
    assert _clear(_table(), case(privacy={"hashed": ["shop"]})) is None


def test_numbers_stay_what_they_were_in_the_table() -> None:
    table = _table()
    amounts = table.column("amount").to_numpy().copy()
    found = _clear(table)
    assert found is not None
    found.events["amount"].to_numpy()[:] = 0.0
    np.testing.assert_array_equal(table.column("amount").to_numpy(), amounts)
