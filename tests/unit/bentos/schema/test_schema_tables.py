from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.errors import EventError, TableError, UseCaseError
from bentos.schema.event_schema import EventSchema
from bentos.usecase.loading import parse_usecase
from tests.support.builders import NOON, card_event, case, case_data

SCHEMA = EventSchema.of(case())


def table(*rows: dict[str, Any], **columns: Any) -> pd.DataFrame:
    """A foreign table of good rows with some values, or whole columns, replaced."""
    frame = pd.DataFrame([card_event(n, timedelta(hours=n), **row) for n, row in enumerate(rows or ({}, {}, {}))])
    return frame.rename(columns={"id": "ID", "at": "WHEN"}).assign(**columns)


def reasons(frame: pd.DataFrame, schema: EventSchema = SCHEMA) -> list[tuple[int, str, str]]:
    quarantine = schema.validate_frame(frame)[1]
    return list(quarantine[["row", "reason", "column"]].itertuples(index=False, name=None))


def test_a_clean_table_gives_the_same_values_as_requests() -> None:
    rows = [card_event(n, timedelta(hours=n), fee=None if n % 2 else 2.5) for n in range(4)]
    events, quarantine = SCHEMA.validate_frame(pd.DataFrame(rows))
    pd.testing.assert_frame_equal(events, SCHEMA.frame([SCHEMA.event(r) for r in rows]))
    assert quarantine.empty
    assert list(quarantine.columns) == ["row", "event_id", "reason", "column"]


def test_foreign_names_are_mapped_and_other_columns_ignored() -> None:
    events, _ = SCHEMA.validate_frame(table(colour="red"))
    assert list(events.columns) == [c.name for c in case().columns]


def test_a_foreign_name_wins_over_our_own() -> None:
    events, _ = SCHEMA.validate_frame(table().assign(id=["x", "y", "z"]))
    assert events["id"].tolist() == ["e0000", "e0001", "e0002"]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("amount", None, "missing"),
        ("amount", "", "missing"),
        ("amount", "ten", "wrong_type"),
        ("amount", True, "wrong_type"),
        ("amount", -1.0, "out_of_range"),
        ("amount", float("inf"), "out_of_range"),
        ("amount", NOON, "wrong_type"),
        ("items", 1.5, "not_an_integer"),
        ("items", 0, "out_of_range"),
        ("items", "2.5", "not_an_integer"),
        ("fee", "?", "wrong_type"),
        ("fee", 1e16, "out_of_range"),
        ("online", "maybe", "wrong_type"),
        ("online", 2, "wrong_type"),
        ("online", None, "missing"),
        ("card", None, "missing"),
        ("card", "", "missing"),
        ("card", 1.5, "wrong_type"),
        ("card", True, "wrong_type"),
        ("card", "123456789", "too_long"),
        ("card", "a\x00b", "control_character"),
        ("card", "\ud800", "control_character"),
        ("channel", "phone", "unknown_category"),
        ("WHEN", "soon", "bad_time"),
        ("WHEN", None, "missing"),
        ("WHEN", 1772452800, "wrong_type"),
        ("WHEN", "1969-12-31T23:00:00Z", "bad_time"),
        ("WHEN", "2200-01-01T00:00:00Z", "bad_time"),
        ("WHEN", "2999-01-01T00:00:00Z", "bad_time"),
    ],
)
def test_a_bad_value_costs_its_row_and_says_why(column: str, value: Any, reason: str) -> None:
    frame = table().astype({column: object})
    frame.loc[1, column] = value
    internal = {"WHEN": "at"}.get(column, column)
    assert reasons(frame) == [(1, reason, internal)]
    events, quarantine = SCHEMA.validate_frame(frame)
    assert events["id"].tolist() == ["e0000", "e0002"]
    assert quarantine["event_id"].tolist() == ["e0001"]


def test_a_row_with_several_faults_is_listed_once_by_its_first_column() -> None:
    frame = table().astype(object)
    frame.loc[0, ["amount", "card", "online"]] = [None, None, None]
    assert reasons(frame) == [(0, "missing", "card")]


def test_nullable_columns_may_be_missing_in_every_style() -> None:
    styles = [None, float("nan"), pd.NA, pd.NaT, ""]
    frame = table(*[{"fee": s, "shop": s} for s in styles], {"fee": 1.0, "shop": "s"})
    events, quarantine = SCHEMA.validate_frame(frame)
    assert quarantine.empty
    assert events["fee"].isna().tolist() == [True] * 5 + [False]
    assert events["shop"].tolist() == [None] * 5 + ["s"]


def test_text_tables_such_as_csv_are_read_by_the_declared_types() -> None:
    good = table()
    text = good.assign(WHEN=good["WHEN"].map(lambda t: t.isoformat()), online="TRUE").astype(str).replace("None", "")
    events, quarantine = SCHEMA.validate_frame(text)
    assert quarantine.empty
    pd.testing.assert_frame_equal(events, SCHEMA.validate_frame(good)[0])


@pytest.mark.parametrize("kind", ["int32", "float64", "Int64", "object", "string"])
def test_numbers_that_name_things_become_their_decimal_text(kind: str) -> None:
    events, quarantine = SCHEMA.validate_frame(table(ID=pd.array([10, 11, 12]).astype(kind)))
    assert quarantine.empty
    assert events["id"].tolist() == ["10", "11", "12"]


@pytest.mark.parametrize("kind", ["float32", "Float64", "object", "string[pyarrow]", "double[pyarrow]"])
def test_amounts_of_any_dtype_are_read(kind: str) -> None:
    events, _ = SCHEMA.validate_frame(table(amount=pd.Series([1, 2.5, 3]).astype(kind)))
    assert events["amount"].tolist() == [1.0, 2.5, 3.0]
    events, _ = SCHEMA.validate_frame(table(amount=[Decimal("1"), Decimal("2.5"), np.float32(3)]))
    assert events["amount"].tolist() == [1.0, 2.5, 3.0]


@pytest.mark.parametrize("kind", ["category", "string", "string[pyarrow]", "object"])
def test_texts_of_any_dtype_are_read(kind: str) -> None:
    frame = table()
    events, _ = SCHEMA.validate_frame(frame.astype({"card": kind, "channel": kind, "shop": kind}))
    pd.testing.assert_frame_equal(events, SCHEMA.validate_frame(frame)[0])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit_and_zone_are_the_same_instants(unit: str) -> None:
    frame = table()
    other = frame.assign(WHEN=frame["WHEN"].dt.tz_convert("Asia/Tokyo").dt.as_unit(unit))
    pd.testing.assert_frame_equal(SCHEMA.validate_frame(other)[0], SCHEMA.validate_frame(frame)[0])


def test_times_without_offset_are_local_times_of_the_use_case() -> None:
    schema = EventSchema.of(case(timezone="Europe/Paris"))
    naive = pd.to_datetime(["2026-07-01 12:00", "2026-07-01 13:00", "2026-12-01 12:00"])
    expected = ["2026-07-01T10:00:00+00:00", "2026-07-01T11:00:00+00:00", "2026-12-01T11:00:00+00:00"]
    for column in (naive, naive.astype(str), naive.to_pydatetime()):
        events, quarantine = schema.validate_frame(table(WHEN=column))
        assert quarantine.empty
        assert [t.isoformat() for t in events["at"]] == expected


def test_text_times_with_and_without_offset_may_stand_in_one_column() -> None:
    schema = EventSchema.of(case(timezone="Europe/Paris"))
    events, _ = schema.validate_frame(table(WHEN=["2026-07-01 12:00", "2026-07-01T12:00:00Z", "2026-07-02"]))
    assert [t.hour for t in events["at"]] == [10, 12, 22]


def test_an_hour_that_a_clock_change_repeats_or_skips_goes_to_quarantine() -> None:
    schema = EventSchema.of(case(timezone="Europe/Paris"))
    times = ["2026-10-25 02:30:00", "2026-03-29 02:30:00", "2026-03-29 03:30:00"]
    for column in (times, pd.to_datetime(times)):
        assert reasons(table(WHEN=column), schema) == [
            (0, "ambiguous_local_time", "at"),
            (1, "nonexistent_local_time", "at"),
        ]


def test_the_first_row_of_an_event_id_is_kept() -> None:
    frame = table({}, {"amount": 5.0}, {}, {"amount": 7.0})
    frame["ID"] = ["a", "b", "a", "b"]
    events, _ = SCHEMA.validate_frame(frame)
    assert reasons(frame) == [(2, "duplicate_event_id", "id"), (3, "duplicate_event_id", "id")]
    assert events["amount"].tolist() == [10.0, 5.0]


def test_a_refused_row_does_not_shadow_a_good_one_with_its_id() -> None:
    frame = table({"amount": -1.0}, {"amount": 5.0}, {})
    frame["ID"] = ["a", "a", "b"]
    assert reasons(frame) == [(0, "out_of_range", "amount")]


def test_rows_are_sorted_by_time_and_then_id_and_disorder_is_reported() -> None:
    frame = table({}, {}, {}, {}).iloc[[3, 0, 2, 1]]
    frame["WHEN"] = [NOON + timedelta(hours=2), NOON, NOON, NOON + timedelta(hours=1)]
    read = SCHEMA.read_table(frame)
    assert read.events["id"].tolist() == ["e0000", "e0002", "e0001", "e0003"]
    assert read.rows.tolist() == [1, 2, 3, 0]
    assert read.out_of_order == 1
    assert read.events.attrs["out_of_order"] == 1
    assert read.events.index.tolist() == [0, 1, 2, 3]


def test_the_order_of_a_table_does_not_change_what_is_read() -> None:
    rng = np.random.default_rng(3)
    frame = table(*[{"amount": float(n), "fee": 1.0} for n in range(60)])
    frame["WHEN"] = NOON + pd.to_timedelta(rng.integers(0, 8, len(frame)), unit="h")
    expected = SCHEMA.validate_frame(frame)[0]
    for _ in range(5):
        pd.testing.assert_frame_equal(SCHEMA.validate_frame(frame.sample(frac=1, random_state=rng))[0], expected)


def test_cleaning_a_clean_frame_changes_nothing() -> None:
    events, _ = SCHEMA.validate_frame(table())
    again, quarantine = SCHEMA.validate_frame(events)
    pd.testing.assert_frame_equal(again, events)
    assert quarantine.empty


def test_an_empty_table_gives_empty_frames_of_the_right_types() -> None:
    empty = table().iloc[:0].astype(object)
    events, quarantine = SCHEMA.validate_frame(empty)
    assert events.empty
    assert quarantine.empty
    assert events.dtypes.equals(SCHEMA.frame([]).dtypes)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (table().drop(columns="amount"), "column 'amount' is missing; the table has ID"),
        (table().drop(columns="WHEN"), "column 'WHEN' or 'at' is missing"),
        (table(amount=None), "column 'amount': all 3 values are missing"),
        (table(amount=np.nan), "column 'amount': all 3 values are missing"),
        (table(amount=True), r"none of 3 values can be used \(wrong_type\); allowed is a number from 0 to 1000"),
        (table(amount=5000), r"none of 3 values can be used \(out_of_range\)"),
        (table(WHEN=[1, 2, 3]), r"none of 3 values can be used \(wrong_type\)"),
        (table(WHEN=["04/01/2018"] * 3), r"none of 3 values can be used \(bad_time\)"),
        (table(*[{} for _ in range(60)], fee=None), "column 'fee': all 60 values are missing"),
        (pd.concat([table(), table()[["amount"]]], axis=1), "column 'amount' is there 2 times"),
    ],
)
def test_what_makes_a_whole_table_suspect_is_an_error(frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(TableError, match=said):
        SCHEMA.validate_frame(frame)


def test_a_few_rows_without_an_optional_value_are_no_reason_to_refuse() -> None:
    assert SCHEMA.validate_frame(table(fee=None))[1].empty


def test_a_declared_share_of_missing_values_refuses_the_table_above_it() -> None:
    columns = [dict(c) for c in case_data()["columns"]]
    columns[6]["max_missing_share"] = 0.5
    schema = EventSchema.of(case(columns=columns))
    assert schema.validate_frame(table({"fee": 1.0}, {}))[1].empty
    with pytest.raises(TableError, match=r"column 'fee': 66.7% of 3 values are missing, allowed are 50.0%"):
        schema.validate_frame(table({"fee": 1.0}, {}, {}))


def test_labels_are_known_when_they_mature_unless_the_table_says_when() -> None:
    frame = table(fraud=[1, 0, None])
    events, labels, quarantine = SCHEMA.read_labelled(frame)
    assert (len(events), len(quarantine)) == (3, 0)
    assert labels["event_id"].tolist() == ["e0000", "e0001"]
    assert labels["y"].tolist() == [1, 0]
    assert labels["source"].unique().tolist() == ["chargeback"]
    assert (labels["observed_at"] == events["at"][:2] + pd.Timedelta(days=7)).all()
    assert [str(t) for t in labels.dtypes] == ["object", "int8", "datetime64[us, UTC]", "object"]


def test_a_declared_column_says_when_a_label_was_observed() -> None:
    policy = case_data()["label"] | {"source_name": "TX_FRAUD", "observed_at": "KNOWN"}
    schema = EventSchema.of(case(label=policy))
    known = NOON + timedelta(days=3)
    frame = table(TX_FRAUD=["1", "0", "1"], KNOWN=[known.isoformat(), None, known.isoformat()])
    _, labels, _ = schema.read_labelled(frame)
    assert labels["observed_at"].tolist() == [known, NOON + timedelta(hours=1, days=7), known]
    with pytest.raises(TableError, match=r"'KNOWN', declared as label.observed_at, is missing"):
        schema.read_labelled(frame.drop(columns="KNOWN"))


def test_a_row_with_a_doubtful_label_goes_to_quarantine() -> None:
    events, labels, quarantine = SCHEMA.read_labelled(table(fraud=[1, 2, 0]))
    assert events["id"].tolist() == labels["event_id"].tolist() == ["e0000", "e0002"]
    assert quarantine[["row", "reason", "column"]].values.tolist() == [[1, "bad_label", "fraud"]]


def test_labels_follow_their_events_through_sorting_and_quarantine() -> None:
    frame = table({}, {"amount": -1.0}, {}, {}, fraud=[0, 1, 1, 0]).iloc[::-1]
    events, labels, _ = SCHEMA.read_labelled(frame)
    assert dict(zip(labels["event_id"], labels["y"], strict=True)) == {"e0000": 0, "e0002": 1, "e0003": 0}
    assert events["id"].tolist() == labels["event_id"].tolist()


def test_a_table_without_labels_gives_an_empty_labels_frame() -> None:
    _, labels, _ = SCHEMA.read_labelled(table())
    assert labels.empty
    assert [str(t) for t in labels.dtypes] == ["object", "int8", "datetime64[us, UTC]", "object"]


def test_tables_and_requests_refuse_the_same_times() -> None:
    first, last = datetime(1970, 1, 1, tzinfo=UTC), datetime(2199, 12, 31, 23, 59, 59, tzinfo=UTC)
    events, quarantine = SCHEMA.validate_frame(table(WHEN=[first, last, NOON]))
    assert quarantine.empty
    assert events["at"].tolist() == [first, NOON, last]


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "card": st.text(min_size=1, max_size=10),
            "shop": st.text(min_size=1, max_size=4),
            "amount": st.floats(-10, 1100) | st.floats(allow_nan=False),
            "items": st.integers(-5, 60) | st.integers(),
            "fee": st.none() | st.floats(allow_nan=False),
            "channel": st.sampled_from(["app", "web", "phone", "APP"]),
            "at": st.datetimes(datetime(1960, 1, 1), datetime(2210, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        },
    )
)
def test_a_value_that_a_table_takes_a_request_takes_and_the_reverse(values: dict[str, Any]) -> None:
    good, doubtful = card_event(1), card_event(2, **values)
    events, quarantine = SCHEMA.validate_frame(pd.DataFrame([good, doubtful]).astype({"at": object}))
    try:
        asked = SCHEMA.event(doubtful)
    except EventError:
        assert quarantine["event_id"].tolist() == ["e0002"]
    else:
        assert quarantine.empty
        assert asked.as_json() in SCHEMA.bodies(events)


def counted(**changes: Any) -> EventSchema:
    """Events whose table numbers its half-hours."""
    data = case_data()
    when = {"column": "STEP", "start": "2026-03-02T12:00:00", "step": "30m"} | changes
    data["columns"][1] = {"name": "at", "type": "datetime", "source_name": "WHEN", "counted": when}
    return EventSchema.of(parse_usecase(data | {"timezone": "Australia/Brisbane"}))


def test_a_time_follows_from_the_number_of_its_step() -> None:
    numbered = table().drop(columns="WHEN").assign(STEP=[0, 3, 48])
    events, _ = counted().validate_frame(numbered)
    local = datetime(2026, 3, 2, 2, tzinfo=UTC)  # noon in Brisbane
    assert events["at"].tolist() == [local, local + timedelta(hours=1.5), local + timedelta(days=1)]
    aware, _ = counted(start="2026-03-02T12:00:00Z").validate_frame(numbered)
    assert aware["at"].iloc[0] == NOON


def test_a_table_that_has_the_time_needs_no_number() -> None:
    events, _ = counted().validate_frame(table())
    assert events["at"].iloc[0] == NOON


def test_a_number_that_leads_nowhere_costs_its_row() -> None:
    numbered = table().drop(columns="WHEN").assign(STEP=["0", "soon", "1e300"])
    assert reasons(numbered, counted()) == [(1, "missing", "at"), (2, "missing", "at")]


def test_only_a_time_is_counted_and_only_forward() -> None:
    with pytest.raises(UseCaseError, match="longer than nothing"):
        counted(step="0s")
    data = case_data()
    data["columns"][4]["counted"] = {"column": "STEP", "start": "2026-03-02T00:00:00", "step": "1d"}
    with pytest.raises(UseCaseError, match="counted is for times"):
        parse_usecase(data)
