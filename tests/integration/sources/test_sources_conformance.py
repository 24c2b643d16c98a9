"""One suite over every source: the same events in, the same frames out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.errors import NoData, SchemaProblem
from flows.sources import EventSource
from monitoring.core.calendar import TimeWindow
from tests.integration.sources.source_cases import (
    EVERY,
    FOREIGN,
    FRAUD,
    START,
    WINDOW,
    Case,
    Make,
    csv_file,
    foreign,
    parquet_file,
    parquet_text,
    sql_text,
    truth,
)

every_source = pytest.mark.parametrize("case", EVERY, ids=lambda c: c.name)
every_foreign_source = pytest.mark.parametrize("case", FOREIGN, ids=lambda c: c.name)


def made(case: Case, folder: Path, table: pd.DataFrame | None = None) -> EventSource:
    return case.make(foreign(truth()) if table is None else table, folder)


def days(first: float, last: float) -> TimeWindow:
    return TimeWindow(START + timedelta(days=first), START + timedelta(days=last))


@every_source
def test_the_same_events_and_labels_come_out(case: Case, tmp_path: Path) -> None:
    source = made(case, tmp_path)
    assert isinstance(source, EventSource)
    read = source.read(WINDOW)
    pd.testing.assert_frame_equal(read.events, truth().events)
    pd.testing.assert_frame_equal(read.labels, truth().labels)
    assert read.quarantine.empty
    assert read.labelled
    assert read.window == WINDOW
    assert read.origin == source.origin


@every_source
def test_a_window_has_its_start_and_not_its_end(case: Case, tmp_path: Path) -> None:
    times = truth().events["tx_time"]
    start, end = times.iloc[40].to_pydatetime(), times.iloc[400].to_pydatetime()
    read = made(case, tmp_path).read(TimeWindow(start, end))
    expected = truth().events[(times >= start) & (times < end)].reset_index(drop=True)
    pd.testing.assert_frame_equal(read.events, expected)
    assert read.labels["event_id"].tolist() == expected["transaction_id"].tolist()


@every_source
def test_adjoining_windows_give_the_whole(case: Case, tmp_path: Path) -> None:
    source = made(case, tmp_path)
    parts = [source.read(days(0, 4.3)), source.read(days(4.3, 12))]
    whole = pd.concat([p.events for p in parts], ignore_index=True)
    pd.testing.assert_frame_equal(whole, truth().events)


@every_source
def test_labels_are_those_known_at_as_of(case: Case, tmp_path: Path) -> None:
    as_of = START + timedelta(days=10)
    read = made(case, tmp_path).read(WINDOW, as_of)
    known = truth().labels[truth().labels["observed_at"] <= as_of].reset_index(drop=True)
    pd.testing.assert_frame_equal(read.labels, known)
    assert read.as_of == as_of
    assert (read.events["tx_time"] <= as_of).all()
    assert 0 < len(read.labels) < len(read.events) < len(truth().events)


@every_source
def test_an_empty_window_is_no_data_and_says_what_there_is(case: Case, tmp_path: Path) -> None:
    source = made(case, tmp_path)
    with pytest.raises(NoData, match=r"^no_data: .*no event from 2027-01-01.*it holds events from 2026-01-01"):
        source.read(TimeWindow(datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)))
    with pytest.raises(NoData, match="known at 2025-12-31"):
        source.read(WINDOW, datetime(2025, 12, 31, tzinfo=UTC))


@every_source
def test_the_extent_holds_every_event(case: Case, tmp_path: Path) -> None:
    source = made(case, tmp_path)
    assert len(source.read(source.extent()).events) == len(truth().events)


@every_source
def test_a_window_in_another_zone_is_the_same_window(case: Case, tmp_path: Path) -> None:
    from zoneinfo import ZoneInfo

    tokyo = TimeWindow(*(t.astimezone(ZoneInfo("Asia/Tokyo")) for t in (WINDOW.start, WINDOW.end)))
    pd.testing.assert_frame_equal(made(case, tmp_path).read(tokyo).events, truth().events)


@every_foreign_source
def test_bad_rows_go_to_quarantine_with_a_reason(case: Case, tmp_path: Path) -> None:
    table = foreign(truth())
    ids = table["TRANSACTION_ID"].tolist()
    table = table.reset_index(drop=True).astype({"TX_FRAUD": object})
    table.loc[1, "TX_AMOUNT"] = -5.0
    table.loc[2, "TX_AMOUNT"] = np.nan
    table.loc[3, "CUSTOMER_ID"] = None
    table.loc[4, "TERMINAL_ID"] = "m" * 200
    table.loc[5, "TRANSACTION_ID"] = ids[6]
    table.loc[7, "TX_FRAUD"] = 2
    table["TX_FRAUD"] = table["TX_FRAUD"].astype(int)
    read = made(case, tmp_path, table).read(WINDOW)
    reasons = dict(zip(read.quarantine["column"], read.quarantine["reason"], strict=True))
    assert reasons == {
        "amount": reasons["amount"],
        "customer_id": "missing",
        "terminal_id": "too_long",
        "transaction_id": "duplicate_event_id",
        "is_fraud": "bad_label",
    }
    assert sorted(read.quarantine.loc[read.quarantine["column"] == "amount", "reason"]) == ["missing", "out_of_range"]
    assert len(read.quarantine) == 6
    assert len(read.events) == len(truth().events) - 6
    assert read.quarantine["row"].is_unique
    assert not set(read.labels["event_id"]) & (set(read.quarantine["event_id"]) - {ids[6]})


@every_foreign_source
def test_a_row_without_a_time_goes_to_quarantine(case: Case, tmp_path: Path) -> None:
    table = foreign(truth()).reset_index(drop=True)
    table.loc[3, "TX_DATETIME"] = pd.NaT
    read = made(case, tmp_path, table).read(WINDOW)
    assert read.quarantine[["column", "reason"]].to_numpy().tolist() == [["tx_time", "missing"]]
    assert len(read.events) == len(truth().events) - 1


@every_foreign_source
def test_a_missing_label_is_unknown_until_the_event_matures(case: Case, tmp_path: Path) -> None:
    table = foreign(truth()).astype({"TX_FRAUD": "float64"})
    table.loc[table["TX_FRAUD"] == 0, "TX_FRAUD"] = np.nan
    as_of = START + timedelta(days=12)
    read = made(case, tmp_path, table).read(WINDOW, as_of)
    matured = truth().events["tx_time"] + timedelta(days=7) <= as_of
    assert read.labels["event_id"].tolist() == truth().events.loc[matured, "transaction_id"].tolist()
    assert read.labels["y"].tolist() == truth().labels.loc[matured, "y"].tolist()
    assert set(read.labels.loc[read.labels["y"] == 0, "source"]) == {"absent"}
    assert set(read.revisions["y"]) == {1}


@every_foreign_source
def test_a_table_without_labels_gives_events_only(case: Case, tmp_path: Path) -> None:
    read = made(case, tmp_path, foreign(truth()).drop(columns="TX_FRAUD")).read(WINDOW)
    assert not read.labelled
    assert read.labels.empty
    assert read.revisions.empty
    pd.testing.assert_frame_equal(read.events, truth().events)


@every_foreign_source
@pytest.mark.parametrize("missing", ["TX_AMOUNT", "TRANSACTION_ID"])
def test_a_missing_column_is_a_schema_problem_that_names_it(case: Case, missing: str, tmp_path: Path) -> None:
    table = foreign(truth()).rename(columns={missing: "SOMETHING_ELSE"})
    with pytest.raises(SchemaProblem, match=f"^schema: .*{missing}.*is missing"):
        made(case, tmp_path, table).read(WINDOW)


@pytest.mark.parametrize("make", [csv_file, parquet_file, sql_text])
def test_a_table_without_event_times_is_a_schema_problem_that_shows_its_columns(make: Make, tmp_path: Path) -> None:
    source = make(foreign(truth()), tmp_path)
    columns = tuple(
        c.model_copy(update={"name": "booked_at", "source_name": "BOOKED"}) if c.type == "datetime" else c
        for c in FRAUD.columns
    )
    source.usecase = FRAUD.model_copy(update={"columns": columns, "event_time": "booked_at"})
    with pytest.raises(SchemaProblem, match=r"no column BOOKED or booked_at \(event time\); the table has TX_FRAUD"):
        source.read(WINDOW)


@pytest.mark.parametrize("make", [csv_file, parquet_file, parquet_text, sql_text])
def test_a_table_of_unreadable_times_is_a_schema_problem(make: Make, tmp_path: Path) -> None:
    table = foreign(truth()).assign(TX_DATETIME=None).astype({"TX_DATETIME": object})
    with pytest.raises(SchemaProblem, match=r"none of .* event times can be read; write them as ISO 8601"):
        make(table, tmp_path).read(WINDOW)


@every_foreign_source
def test_a_column_of_missing_values_is_a_schema_problem(case: Case, tmp_path: Path) -> None:
    with pytest.raises(SchemaProblem, match=r"^schema: .*amount"):
        made(case, tmp_path, foreign(truth()).assign(TX_AMOUNT=np.nan)).read(WINDOW)


@every_foreign_source
def test_a_table_with_our_own_names_needs_no_mapping(case: Case, tmp_path: Path) -> None:
    names = {c.external_name: c.name for c in FRAUD.columns if c.name != "tx_time"} | {"TX_FRAUD": "is_fraud"}
    read = made(case, tmp_path, foreign(truth()).rename(columns=names)).read(WINDOW)
    pd.testing.assert_frame_equal(read.events, truth().events)
    pd.testing.assert_frame_equal(read.labels, truth().labels)


@every_foreign_source
def test_integer_ids_stay_whole_even_beside_a_missing_one(case: Case, tmp_path: Path) -> None:
    table = foreign(truth()).reset_index(drop=True)
    table["CUSTOMER_ID"] = table["CUSTOMER_ID"].str[2:].astype("Int64")
    table.loc[0, "CUSTOMER_ID"] = pd.NA
    read = made(case, tmp_path, table).read(WINDOW)
    assert len(read.quarantine) == 1
    assert read.events["customer_id"].str.fullmatch(r"\d+").all()
