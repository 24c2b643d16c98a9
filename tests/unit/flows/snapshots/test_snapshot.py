from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bentos.usecase.definition import SimulatorOptions
from bentos.usecase.loading import load_usecase
from flows.errors import SnapshotCorrupt, SnapshotError, SnapshotMissing
from flows.snapshots.store import SnapshotRef, SnapshotStore, content_digest
from flows.sources import open_source
from flows.sources.base import SourceRead
from monitoring.core.calendar import TimeWindow
from monitoring.core.hashing import canonical_json, sha256_file, sha256_hex

FRAUD = load_usecase("fraud")
OPTIONS = SimulatorOptions(customers=50, terminals=100, days=12)
WINDOW = TimeWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 13, tzinfo=UTC))
AS_OF = datetime(2026, 1, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def read() -> SourceRead:
    return open_source(FRAUD, "simulator", **OPTIONS.model_dump()).read(WINDOW, AS_OF)


def save(folder: Path, read: SourceRead) -> SnapshotRef:
    return SnapshotStore(folder).save_read(read, FRAUD)


def with_revisions(read: SourceRead) -> pd.DataFrame:
    analyst = read.labels.head(5).assign(source="analyst", y=np.int8(1))
    return pd.concat([read.labels, analyst]).astype({"y": np.int8})


def test_what_was_saved_is_loaded_again(read: SourceRead, tmp_path: Path) -> None:
    ref = save(tmp_path, read)
    snapshot = SnapshotStore(tmp_path).load(ref.digest)
    pd.testing.assert_frame_equal(snapshot.events, read.events)
    pd.testing.assert_frame_equal(snapshot.labels, read.labels)
    pd.testing.assert_frame_equal(snapshot.revisions, read.revisions)
    assert snapshot.ref == ref


def test_the_reference_says_where_the_rows_came_from(read: SourceRead, tmp_path: Path) -> None:
    ref = save(tmp_path, read)
    assert (ref.rows, ref.positives) == (len(read.events), int(read.labels["y"].sum()))
    assert (ref.usecase, ref.window, ref.as_of, ref.source) == ("fraud", WINDOW, AS_OF, read.origin)
    assert ref.path == tmp_path / ref.digest[:2] / f"{ref.digest}.parquet"


def test_saving_the_same_content_again_writes_nothing(read: SourceRead, tmp_path: Path) -> None:
    first = save(tmp_path, read)
    written = first.path.stat().st_mtime_ns
    later = SnapshotStore(tmp_path).save(
        read.events, read.labels, usecase=FRAUD, window=WINDOW, source="a copy", as_of=None, revisions=read.revisions
    )
    assert later == first
    assert first.path.stat().st_mtime_ns == written
    assert len(list(tmp_path.rglob("*.*"))) == 2


def test_the_digest_ignores_how_the_file_was_written(read: SourceRead, tmp_path: Path) -> None:
    ref = save(tmp_path, read)
    pq.write_table(pq.read_table(ref.path, partitioning=None), ref.path, compression="gzip", row_group_size=100)
    about = ref.path.with_suffix(".json")
    about.write_text(json.dumps(json.loads(about.read_text()) | {"file_sha256": sha256_file(ref.path)}))
    assert SnapshotStore(tmp_path).load(ref.digest).ref.digest == ref.digest


def test_the_digest_of_a_small_snapshot_is_pinned() -> None:
    # If this changes, snapshots of earlier versions no longer verify: give the format a new name.
    moment = pd.Timestamp("2026-01-01T00:00:01.000002Z").as_unit("us")
    events = pd.DataFrame(
        {
            "transaction_id": pd.Series(["a", "é"], dtype=object),
            "tx_time": pd.Series([moment, moment]),
            "customer_id": pd.Series(["", None], dtype=object),
            "terminal_id": pd.Series(["x", "x"], dtype=object),
            "amount": [1.5, np.nan],
        }
    )
    labels = pd.DataFrame(
        {"event_id": ["é"], "y": np.array([1], np.int8), "observed_at": [moment], "source": ["chargeback"]}
    )
    read = SourceRead(events, labels, pd.DataFrame(), WINDOW, "test", revisions=labels)

    def line(frame: str, rows: int, columns: list[list[str]]) -> bytes:
        return canonical_json({"frame": frame, "rows": rows, "columns": columns}) + b"\n"

    def whole(*values: int) -> bytes:
        return struct.pack(f"<{len(values)}q", *values)

    stamp = 1_767_225_601_000_002
    kinds = [["transaction_id", "text"], ["tx_time", "time"], ["customer_id", "text"], ["terminal_id", "text"]]
    expected = b"".join(
        [
            b"incumbent-snapshot-1\n",
            line("events", 2, [*kinds, ["amount", "float64"]]),
            whole(1, 2) + "aé".encode(),
            whole(stamp, stamp),
            whole(0, -1),
            whole(1, 1) + b"xx",
            struct.pack("<dQ", 1.5, 0x7FF8000000000000),
            line("labels", 1, [["event_id", "text"], ["y", "int8"], ["observed_at", "time"], ["source", "text"]]),
            whole(2) + "é".encode(),
            b"\x01",
            whole(stamp),
            whole(10) + b"chargeback",
        ]
    )
    assert content_digest(FRAUD, read) == sha256_hex(expected)
    assert sha256_hex(expected) == "5fa5b2da3fe5af58957f9e1e5808956d3a4457f587d44582b7398ede8194ed5e"


@pytest.mark.parametrize("change", ["amount", "label", "column name", "row order", "text boundary", "type", "revision"])
def test_any_change_of_the_content_changes_the_digest(change: str, read: SourceRead) -> None:
    events, labels, revisions = read.events.copy(), read.labels.copy(), read.revisions
    if change == "amount":
        events.loc[3, "amount"] = np.nextafter(events.loc[3, "amount"], 1e9)
    if change == "label":
        labels.loc[0, "y"] = 1 - labels.loc[0, "y"]
    if change == "column name":
        events = events.rename(columns={"amount": "value"})
    if change == "row order":
        events = events.iloc[::-1]
    if change == "text boundary":
        customer, terminal = events.loc[0, "customer_id"], events.loc[1, "customer_id"]
        events.loc[0, "customer_id"], events.loc[1, "customer_id"] = customer + terminal[:1], terminal[1:]
    if change == "type":
        events["amount"] = events["amount"].astype(np.float32)
    if change == "revision":
        revisions = with_revisions(read)
    changed = SourceRead(events, labels, read.quarantine, WINDOW, read.origin, AS_OF, revisions)
    assert content_digest(FRAUD, changed) != content_digest(FRAUD, read)


def test_the_order_and_index_of_the_labels_do_not_matter(read: SourceRead) -> None:
    mixed = read.labels.sample(frac=1.0, random_state=1)
    changed = SourceRead(read.events, mixed, read.quarantine, WINDOW, read.origin, AS_OF, mixed)
    assert content_digest(FRAUD, changed) == content_digest(FRAUD, read)


def test_revisions_are_kept_beside_the_final_labels(read: SourceRead, tmp_path: Path) -> None:
    revisions = with_revisions(read)
    store = SnapshotStore(tmp_path)
    ref = store.save(read.events, read.labels, usecase=FRAUD, window=WINDOW, source="test", revisions=revisions)
    snapshot = store.load(ref.digest)
    pd.testing.assert_frame_equal(snapshot.labels, read.labels)
    order = ["event_id", "source"]
    pd.testing.assert_frame_equal(
        snapshot.revisions.sort_values(order, ignore_index=True), revisions.sort_values(order, ignore_index=True)
    )


def test_any_parquet_reader_finds_the_label_beside_its_event(read: SourceRead, tmp_path: Path) -> None:
    table = pd.read_parquet(save(tmp_path, read).path)
    assert len(table) == len(read.events)
    assert table["label.y"].notna().sum() == len(read.labels) < len(table)
    known = table[table["label.y"].notna()]
    assert known["transaction_id"].tolist() == read.labels["event_id"].tolist()
    assert known["label.y"].astype(int).tolist() == read.labels["y"].tolist()


def test_events_without_any_label_can_be_kept(read: SourceRead, tmp_path: Path) -> None:
    none = read.labels.iloc[:0]
    store = SnapshotStore(tmp_path)
    ref = store.save(read.events, none, usecase=FRAUD, window=WINDOW, source="test")
    snapshot = store.load(ref.digest)
    assert snapshot.labels.empty
    assert snapshot.labels.dtypes.equals(read.labels.dtypes)


def test_a_flipped_byte_is_refused_and_mended_by_saving_again(read: SourceRead, tmp_path: Path) -> None:
    ref = save(tmp_path, read)
    body = bytearray(ref.path.read_bytes())
    body[len(body) // 2] ^= 1
    ref.path.write_bytes(body)
    with pytest.raises(SnapshotCorrupt, match=r"snapshot_corrupt: .*differs from its SHA-256"):
        SnapshotStore(tmp_path).load(ref.digest)
    save(tmp_path, read)
    assert SnapshotStore(tmp_path).load(ref.digest).ref.rows == len(read.events)


def test_exchanged_content_is_refused_even_with_a_fitting_file_digest(read: SourceRead, tmp_path: Path) -> None:
    ref = save(tmp_path, read)
    fewer = SnapshotStore(tmp_path).save(
        read.events.iloc[1:], read.labels.iloc[1:], usecase=FRAUD, window=WINDOW, source="test"
    )
    ref.path.write_bytes(fewer.path.read_bytes())
    ref.path.with_suffix(".json").write_bytes(fewer.path.with_suffix(".json").read_bytes())
    with pytest.raises(SnapshotCorrupt, match="the content has another digest"):
        SnapshotStore(tmp_path).load(ref.digest)


def test_an_unfinished_snapshot_is_missing(read: SourceRead, tmp_path: Path) -> None:
    ref = save(tmp_path, read)
    ref.path.with_suffix(".json").unlink()
    with pytest.raises(SnapshotMissing):
        SnapshotStore(tmp_path).load(ref.digest)
    assert SnapshotStore(tmp_path).find() == []
    assert save(tmp_path, read) == ref


def test_an_unknown_digest_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SnapshotMissing, match="no snapshot 'feed'"):
        SnapshotStore(tmp_path).load("feed")


def test_snapshots_are_found_by_the_beginning_of_their_digest(read: SourceRead, tmp_path: Path) -> None:
    ref = save(tmp_path, read)
    assert SnapshotStore(tmp_path).find(ref.digest[:6]) == [ref]
    assert SnapshotStore(tmp_path).find("zz") == []


def test_labels_of_unknown_events_are_refused(read: SourceRead, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="labels name no event"):
        SnapshotStore(tmp_path).save(read.events.iloc[10:], read.labels, usecase=FRAUD, window=WINDOW, source="test")


def test_repeated_ids_are_refused(read: SourceRead, tmp_path: Path) -> None:
    twice = pd.concat([read.events, read.events.head(1)])
    with pytest.raises(SnapshotError, match="an event id repeats"):
        SnapshotStore(tmp_path).save(twice, read.labels, usecase=FRAUD, window=WINDOW, source="test")


def test_a_folder_that_cannot_be_written_is_named(read: SourceRead, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    with pytest.raises(SnapshotError, match="cannot write snapshot"):
        save(in_the_way, read)


def test_nothing_is_left_behind_when_writing_fails(
    read: SourceRead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(SnapshotError, match="No space left on device"):
        save(tmp_path, read)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_window_in_another_zone_is_kept(read: SourceRead, tmp_path: Path) -> None:
    window = TimeWindow(WINDOW.start - timedelta(hours=1), WINDOW.end)
    ref = SnapshotStore(tmp_path).save(read.events, read.labels, usecase=FRAUD, window=window, source="test")
    assert SnapshotStore(tmp_path).find()[0].window == ref.window == window
