"""The log as a source: ranks, contradictions, late and revised labels, and the way back in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from bentos.schema.event_schema import EventSchema
from bentos.scoring.future_bound import FutureBound
from bentos.scoring.recent_times import RecentTimes
from bentos.settings import Settings
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused, NoData, SourceUnavailable
from flows.snapshots.store import SnapshotStore
from flows.sources import SourceRead, open_source
from flows.steps.data.import_history import load_history
from monitoring.core.calendar import TimeWindow
from monitoring.errors import StoreUnavailable
from monitoring.store import Store, memory_store
from monitoring.store.database.frames import to_us
from monitoring.store.database.records import LabelRecord
from tests.integration.sources.source_cases import FRAUD, START, WINDOW, WORLD, csv_file, foreign, truth
from tests.support.builders import card_event, case, case_data

LATER = START + timedelta(days=60)


@pytest.fixture
def store() -> Iterator[Store]:
    opened = memory_store()
    yield opened
    opened.close()


def with_events(store: Store) -> list[str]:
    """Log the events without any label."""
    store.log.import_history("fraud", truth().events, "transaction_id", "tx_time")
    return truth().events["transaction_id"].tolist()


def say(store: Store, event_id: str, y: int, day: float, source: str = "chargeback") -> None:
    at = to_us(START + timedelta(days=day))
    store.labels.add([LabelRecord("fraud", event_id, y, at, source, at)], FRAUD.label)


def read_log(store: Store, as_of: datetime | None = LATER, usecase: UseCase = FRAUD) -> SourceRead:
    return open_source(usecase, "log", store=store).read(WINDOW, as_of)


def label_of(read: SourceRead, event_id: str) -> tuple[int, str] | None:
    rows = read.labels[read.labels["event_id"] == event_id]
    return None if rows.empty else (int(rows["y"].iloc[0]), str(rows["source"].iloc[0]))


def test_the_strongest_source_known_at_as_of_wins(store: Store) -> None:
    first, *_ = with_events(store)
    say(store, first, 1, day=2, source="analyst")
    say(store, first, 0, day=20, source="chargeback")
    assert label_of(read_log(store, START + timedelta(days=15)), first) == (1, "analyst")
    assert label_of(read_log(store, START + timedelta(days=25)), first) == (0, "chargeback")


def test_features_get_every_revision(store: Store) -> None:
    first, *_ = with_events(store)
    say(store, first, 1, day=2, source="analyst")
    say(store, first, 0, day=20, source="chargeback")
    revisions = read_log(store).revisions
    assert revisions[["y", "source"]].to_numpy().tolist() == [[1, "analyst"], [0, "chargeback"]]
    assert len(read_log(store, START + timedelta(days=15)).revisions) == 1


def test_a_contradicted_event_is_neither_positive_nor_absent(store: Store) -> None:
    first, *_ = with_events(store)
    say(store, first, 1, day=2)
    say(store, first, 0, day=3)
    read = read_log(store)
    assert label_of(read, first) is None
    assert len(read.labels) == len(read.events) - 1
    assert len(read.revisions) == 2


def test_matured_events_without_a_label_are_negative(store: Store) -> None:
    first, second, *_ = with_events(store)
    say(store, first, 1, day=2)
    read = read_log(store)
    assert label_of(read, first) == (1, "chargeback")
    assert label_of(read, second) == (0, "absent")
    assert read.labels["y"].sum() == 1


def test_matured_events_without_a_label_stay_unknown_where_the_use_case_says_so(store: Store) -> None:
    first, *_ = with_events(store)
    say(store, first, 1, day=2)
    unknown = FRAUD.model_copy(update={"label": FRAUD.label.model_copy(update={"absent_after_maturity": "unknown"})})
    assert read_log(store, usecase=unknown).labels["event_id"].tolist() == [first]


def test_labels_of_events_outside_the_window_do_not_come_along(store: Store) -> None:
    *_, last = with_events(store)
    say(store, last, 1, day=20)
    say(store, "never seen", 1, day=20)
    week = TimeWindow(START, START + timedelta(days=7))
    read = open_source(FRAUD, "log", store=store).read(week, LATER)
    assert read.revisions.empty
    assert set(read.labels["event_id"]) == set(read.events["transaction_id"])


def test_an_empty_log_says_how_to_fill_it(store: Store) -> None:
    with pytest.raises(NoData, match="it holds no events; import some with: incumbent windows load"):
        read_log(store)


def test_use_cases_do_not_see_each_other(store: Store) -> None:
    with_events(store)
    with pytest.raises(NoData):
        read_log(store, usecase=FRAUD.model_copy(update={"name": "other"}))


def test_a_locked_database_can_be_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object, **__: object) -> None:
        raise StoreUnavailable("database is locked")

    monkeypatch.setattr(type(store.log), "events", locked)
    with pytest.raises(SourceUnavailable, match="log of fraud: database is locked"):
        read_log(store)


def test_what_was_read_from_the_log_can_be_kept_and_loaded_again(store: Store, tmp_path: Path) -> None:
    first, *_ = with_events(store)
    say(store, first, 1, day=2, source="analyst")
    say(store, first, 0, day=20, source="chargeback")
    read = read_log(store)
    snapshots = SnapshotStore(tmp_path)
    loaded = snapshots.load(snapshots.save_read(read, FRAUD).digest)
    pd.testing.assert_frame_equal(loaded.events, read.events)
    pd.testing.assert_frame_equal(loaded.labels, read.labels)
    assert len(loaded.revisions) == 2


def test_an_imported_history_reads_back_as_it_was(store: Store) -> None:
    simulator = open_source(FRAUD, "simulator", **WORLD)
    result = load_history(simulator, WINDOW, store, FRAUD)
    assert (result.events, result.labels) == (len(truth().events), len(truth().labels))
    assert (result.repeated, result.quarantined) == (0, 0)
    read = read_log(store)
    pd.testing.assert_frame_equal(read.events, truth().events)
    pd.testing.assert_frame_equal(read.labels, truth().labels)


def test_importing_twice_changes_nothing(store: Store) -> None:
    simulator = open_source(FRAUD, "simulator", **WORLD)
    load_history(simulator, TimeWindow(WINDOW.start, WINDOW.start + timedelta(days=6)), store, FRAUD)
    again = load_history(simulator, WINDOW, store, FRAUD)
    assert again.repeated > 0
    assert again.events + again.repeated == len(truth().events)
    assert len(read_log(store).events) == len(truth().events)


def test_an_import_knows_only_what_was_known_then(store: Store) -> None:
    as_of = START + timedelta(days=9)
    load_history(open_source(FRAUD, "simulator", **WORLD), WINDOW, store, FRAUD, as_of)
    read = open_source(FRAUD, "log", store=store).read(WINDOW)
    assert read.events["tx_time"].max() <= as_of
    assert read.revisions["observed_at"].max() <= as_of


def test_refused_rows_are_counted_and_not_stored(store: Store, tmp_path: Path) -> None:
    table = foreign(truth()).reset_index(drop=True)
    table.loc[:2, "TX_AMOUNT"] = -1.0
    result = load_history(csv_file(table, tmp_path), WINDOW, store, FRAUD)
    assert result.quarantined == 3
    assert result.events == len(truth().events) - 3


@pytest.mark.parametrize("clock", ["machine", "stream"])
def test_rows_of_the_future_are_refused_counted_and_in_no_log(store: Store, tmp_path: Path, clock: str) -> None:
    table = foreign(truth()).reset_index(drop=True)
    table["TX_DATETIME"] = table["TX_DATETIME"].astype(object)
    table.loc[[3, 5], "TX_DATETIME"] = ["2099-01-01 00:00:00", "2150-06-01 12:00:00"]
    source = csv_file(table, tmp_path)
    declared = Settings(clock=clock, max_future="2d")  # type: ignore[arg-type]  # checked by the model itself
    reads: list[TimeWindow] = []
    read = source.read
    source.read = lambda window, as_of=None: reads.append(window) or read(window, as_of)  # type: ignore[method-assign]
    bound = FutureBound(declared, lambda: to_us(WINDOW.end), RecentTimes())
    result = load_history(source, source.extent(), store, FRAUD, bound=bound)
    assert (result.future, result.quarantined) == (2, 2)
    assert result.events == len(truth().events) - 2
    assert store.log.span("fraud")[2] < WINDOW.end  # type: ignore[index]  # there are events
    if clock == "machine":
        assert len(reads) == 2, "one part for all of the future"


def test_a_label_may_be_dated_when_it_matures_and_no_later(store: Store) -> None:
    simulator = open_source(FRAUD, "simulator", **WORLD)
    bound = FutureBound(Settings(), lambda: to_us(WINDOW.end), RecentTimes())
    result = load_history(simulator, WINDOW, store, FRAUD, bound=bound)
    limit = WINDOW.end + timedelta(hours=1) + FRAUD.label.matures_after
    late = (truth().labels["observed_at"] > limit).sum()
    assert (result.labels, result.future) == (len(truth().labels) - late, late)


def test_a_history_that_is_read_in_parts_is_the_same_history(store: Store, tmp_path: Path) -> None:
    table = foreign(truth()).reset_index(drop=True)
    table["TX_DATETIME"] = table["TX_DATETIME"].astype(object)
    table.loc[3, "TX_DATETIME"] = "soon"
    table.loc[5, "TX_AMOUNT"] = -1.0
    told: list[tuple[int, int]] = []
    source = csv_file(table, tmp_path)
    result = load_history(
        source, WINDOW, store, FRAUD, progress=lambda *now: told.append(now), part=timedelta(days=1, hours=5)
    )
    assert (result.events, result.repeated, result.quarantined) == (len(truth().events) - 2, 0, 2)
    assert result.labels == len(source.read(WINDOW).revisions)
    assert told[-1][0] == told[-1][1]
    pd.testing.assert_frame_equal(read_log(store).events, source.read(WINDOW).events)


def test_parts_without_events_are_passed_over_and_an_empty_window_is_refused(store: Store) -> None:
    simulator = open_source(FRAUD, "simulator", **WORLD)
    wide = TimeWindow(WINDOW.start - timedelta(days=90), WINDOW.end)
    assert load_history(simulator, wide, store, FRAUD).events == len(truth().events)
    with pytest.raises(NoData, match="no event"):
        load_history(simulator, TimeWindow(wide.start, WINDOW.start), store, FRAUD)


def test_progress_counts_to_the_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.steps.data.import_history.BATCH_ROWS", 250)
    told: list[tuple[int, int]] = []
    load_history(
        open_source(FRAUD, "simulator", **WORLD),
        WINDOW,
        store,
        FRAUD,
        progress=lambda done, total: told.append((done, total)),
    )
    assert [d for d, _ in told] == sorted(d for d, _ in told)
    assert told[-1][0] == told[-1][1] == len(truth().events) + len(truth().labels)


def test_the_log_is_not_imported_into_itself(store: Store) -> None:
    with_events(store)
    with pytest.raises(FlowRefused, match="refused: the log cannot be imported into itself"):
        load_history(open_source(FRAUD, "log", store=store), WINDOW, store, FRAUD)


def test_imported_rows_are_marked_as_history(store: Store) -> None:
    load_history(open_source(FRAUD, "simulator", **WORLD), WINDOW, store, FRAUD)
    (events,) = store.log.stream("fraud")
    assert {e.origin for e in events} == {"history"}
    assert all(e.score is None for e in events)


def test_optional_integers_and_booleans_of_a_table_come_back_from_the_log(store: Store, tmp_path: Path) -> None:
    more = [
        {"name": "items", "type": "integer", "nullable": True},
        {"name": "gift", "type": "boolean", "nullable": True},
    ]
    usecase = case(columns=[*case_data()["columns"], *({**c, "name": f"maybe_{c['name']}"} for c in more)])
    events = [card_event(1, maybe_items=3, maybe_gift=True), card_event(2, maybe_items=None, maybe_gift=None)]
    pd.DataFrame(events).to_parquet(tmp_path / "cards.parquet")
    source = open_source(usecase, "parquet", path=str(tmp_path / "cards.parquet"))
    load_history(source, source.extent(), store, usecase)
    read = open_source(usecase, "log", store=store).read(source.extent())
    assert read.events["maybe_items"].fillna(-1).tolist() == [3.0, -1.0]
    assert [None if pd.isna(v) else v for v in read.events["maybe_gift"]] == [True, None]
    (first, second) = next(iter(store.log.stream("cards", 0, 10)))
    assert [e.value("maybe_items") for e in map(EventSchema.of(usecase).decode, (first.body, second.body))] == [3, None]
