"""What two versions of the data have in common, and how a snapshot comes back as a table."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bentos.usecase.definition import UseCase
from flows.errors import SnapshotError, SnapshotMissing
from flows.snapshots import dvc, versions
from flows.snapshots.store import Snapshot, SnapshotStore
from flows.snapshots.versions import LabelChanges, columns_of, compare, find_snapshot, write_table
from flows.sources import open_source
from monitoring.core.calendar import TimeWindow
from tests.support.builders import case, label_frame

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
WINDOW = TimeWindow(START, END)


@pytest.fixture
def usecase() -> UseCase:
    return case()


def events_of(usecase: UseCase, rows: int = 600, seed: int = 1) -> pd.DataFrame:
    """Events e0000.. with numbers drawn from a seed, in the declared types."""
    rng = np.random.default_rng(seed)
    made: dict[str, object] = {}
    for column in usecase.columns:
        if column.name == usecase.event_id:
            made[column.name] = pd.Series([f"e{n:04}" for n in range(rows)], dtype=object)
        elif column.type == "datetime":
            made[column.name] = pd.date_range(START, periods=rows, freq="h").as_unit("us")
        elif column.type in ("float", "integer"):
            made[column.name] = rng.normal(100, 10, rows).round(2)
        elif column.type == "boolean":
            made[column.name] = rng.random(rows) < 0.5
        else:
            made[column.name] = pd.Series(rng.choice(["a", "b"], rows), dtype=object)
    return pd.DataFrame(made)


def kept(store: SnapshotStore, usecase: UseCase, events: pd.DataFrame, labels: pd.DataFrame) -> Snapshot:
    ref = store.save(events, labels, usecase=usecase, window=WINDOW, source="test")
    return store.load(ref.digest)


def labels_of(events: pd.DataFrame, usecase: UseCase, y: list[int], skip: int = 0) -> pd.DataFrame:
    some = events.iloc[skip : skip + len(y)]
    return pd.DataFrame(
        {
            "event_id": some[usecase.event_id].to_numpy(),
            "y": np.array(y, np.int8),
            "observed_at": pd.Series([END] * len(y)).dt.as_unit("us").to_numpy("M8[us]"),
            "source": pd.Series([usecase.label.sources[0]] * len(y), dtype=object),
        }
    ).assign(observed_at=lambda f: f["observed_at"].dt.tz_localize("UTC"))


def number_of(usecase: UseCase) -> str:
    return next(c.name for c in usecase.columns if c.type in ("float", "integer"))


def test_a_snapshot_does_not_differ_from_itself(tmp_path: Path, usecase: UseCase) -> None:
    events = events_of(usecase)
    one = kept(SnapshotStore(tmp_path), usecase, events, labels_of(events, usecase, [0, 1, 0]))
    found = compare(one, one, usecase)
    assert (found.added, found.removed, found.common, found.changed) == (0, 0, 600, 0)
    assert found.labels == LabelChanges(0, 0, 0)
    assert found.drift is not None
    assert found.drift.status == "ok"
    assert found.drift.band == "none"


def test_rows_values_and_labels_that_changed_are_counted(tmp_path: Path, usecase: UseCase) -> None:
    store, events, number = SnapshotStore(tmp_path), events_of(usecase), number_of(usecase)
    first = kept(store, usecase, events.iloc[:590], labels_of(events, usecase, [0, 0, 1, 1]))
    later = events.iloc[10:].copy()
    later.iloc[:7, later.columns.get_loc(number)] += 1.0
    later.iloc[7:9, later.columns.get_loc(number)] = np.nan
    # e0010.. overlap nothing of the first labels; e0002, e0003 are gone with their events.
    second = kept(store, usecase, later, labels_of(events, usecase, [1, 0], skip=10))
    found = compare(first, second, usecase)
    assert (found.added, found.removed, found.common) == (10, 10, 580)
    assert found.changed == 9
    assert found.changed_columns == {number: 9}
    assert found.labels == LabelChanges(gained=2, lost=0, changed=0)
    assert found.positive_rate == (0.5, 0.5)


def test_labels_lost_and_changed_are_told_apart(tmp_path: Path, usecase: UseCase) -> None:
    store, events = SnapshotStore(tmp_path), events_of(usecase)
    first = kept(store, usecase, events, labels_of(events, usecase, [0, 0, 1, 1]))
    second = kept(store, usecase, events, labels_of(events, usecase, [1, 0, 1]))
    assert compare(first, second, usecase).labels == LabelChanges(gained=0, lost=1, changed=1)


def test_a_missing_value_equals_a_missing_value(tmp_path: Path, usecase: UseCase) -> None:
    events, number = events_of(usecase), number_of(usecase)
    events.loc[:9, number] = np.nan
    store, none = SnapshotStore(tmp_path), label_frame()
    first = kept(store, usecase, events, none)
    second = kept(store, usecase, events.iloc[:-1], none)
    assert compare(first, second, usecase).changed == 0


def test_a_shifted_column_drifts_and_the_others_do_not(tmp_path: Path, usecase: UseCase) -> None:
    store, events, number = SnapshotStore(tmp_path), events_of(usecase), number_of(usecase)
    shifted = events.assign(**{number: events[number] + 30.0})
    found = compare(kept(store, usecase, events, label_frame()), kept(store, usecase, shifted, label_frame()), usecase)
    assert found.drift is not None
    bands = {f.name: f.band for f in found.drift.features}
    assert bands.pop(number) == "severe"
    assert set(bands.values()) <= {"none"}
    assert found.changed == len(events)


def test_a_column_that_only_one_has_is_named(tmp_path: Path, usecase: UseCase) -> None:
    store, events, number = SnapshotStore(tmp_path), events_of(usecase), number_of(usecase)
    fewer = events.drop(columns=[number])
    found = compare(kept(store, usecase, fewer, label_frame()), kept(store, usecase, events, label_frame()), usecase)
    assert (found.added_columns, found.removed_columns, found.changed) == ((number,), (), 0)


def test_equal_columns_have_equal_digests_and_one_other_value_another(usecase: UseCase) -> None:
    events, number = events_of(usecase), number_of(usecase)
    other = events.copy()
    other.loc[5, number] += 1
    one = {c.name: c.digest for c in columns_of(events)}
    two = {c.name: c.digest for c in columns_of(other)}
    assert {n for n in one if one[n] != two[n]} == {number}


def test_a_short_an_unknown_and_an_ambiguous_digest_are_refused(tmp_path: Path, usecase: UseCase) -> None:
    store, events = SnapshotStore(tmp_path), events_of(usecase)
    ref = store.save(events, label_frame(), usecase=usecase, window=WINDOW, source="test")
    assert find_snapshot([store], ref.digest[:8])[1] == ref
    with pytest.raises(SnapshotError, match="at least 6"):
        find_snapshot([store], ref.digest[:3])
    with pytest.raises(SnapshotMissing):
        find_snapshot([store], "not-hex-at-all")


def test_a_restored_table_reads_back_to_the_same_events_and_labels(tmp_path: Path) -> None:
    from tests.support.builders import fraud

    usecase = fraud()
    read = open_source(usecase, "simulator", days=12, customers=50, terminals=60).read(
        open_source(usecase, "simulator", days=12, customers=50, terminals=60).extent()
    )
    store = SnapshotStore(tmp_path)
    snapshot = store.load(store.save_read(read, usecase).digest)
    for name in ("table.parquet", "table.csv"):
        rows = write_table(snapshot, usecase, tmp_path / name)
        again = open_source(usecase, name.rpartition(".")[2], path=str(tmp_path / name)).read(read.window)
        assert rows == len(read.events)
        pd.testing.assert_frame_equal(again.events, snapshot.events)
        merged = again.labels.merge(snapshot.labels, on="event_id", how="outer")
        assert (merged["y_x"] == merged["y_y"]).all()


def test_a_table_of_another_kind_is_refused(tmp_path: Path, usecase: UseCase) -> None:
    snapshot = kept(SnapshotStore(tmp_path), usecase, events_of(usecase), label_frame())
    with pytest.raises(SnapshotError, match="write a"):
        versions.write_table(snapshot, usecase, tmp_path / "table.xlsx")


def test_a_dvc_file_stands_beside_each_snapshot_where_dvc_is_installed(
    tmp_path: Path, usecase: UseCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, events = SnapshotStore(tmp_path), events_of(usecase)
    monkeypatch.setattr(dvc, "installed", lambda: False)
    ref = store.save(events, label_frame(), usecase=usecase, window=WINDOW, source="test")
    file = ref.path.with_name(ref.path.name + ".dvc")
    assert not file.exists()
    monkeypatch.setattr(dvc, "installed", lambda: True)
    assert store.save(events, label_frame(), usecase=usecase, window=WINDOW, source="test") == ref
    assert f"path: {ref.path.name}" in file.read_text()
    assert f"size: {ref.path.stat().st_size}" in file.read_text()


def test_the_cache_of_a_repository_around_it_is_filled_once(tmp_path: Path, usecase: UseCase) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = True\n[cache]\n    dir = ../kept\n")
    ref = SnapshotStore(tmp_path / "snapshots").save(
        events_of(usecase), label_frame(), usecase=usecase, window=WINDOW, source="test"
    )
    tracked = dvc.track(ref.path)
    entry = tmp_path / "kept" / "files" / "md5" / tracked.md5[:2] / tracked.md5[2:]
    assert tracked.cached
    assert entry.read_bytes() == ref.path.read_bytes()
    before = entry.stat().st_mtime_ns
    dvc.track(ref.path)
    assert entry.stat().st_mtime_ns == before
