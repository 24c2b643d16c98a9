from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from bentos.errors import SpoolFull
from bentos.settings import read_settings
from bentos.spool.segments import (
    is_alive,
    read_segment,
    read_state,
    segment_path,
    segments_of,
    spool_bytes,
    spooled_records,
    writers_of,
)
from bentos.spool.writer import ROOM_BYTES, SpoolWriter
from monitoring.store import ScoreRecord
from tests.support.log.logged import PLAN, label, scored

ROOT = Path(__file__).parents[3]


def ids(folder: Path) -> list[str]:
    return [record.event_id for record in spooled_records(folder)]


def fill(writer: SpoolWriter) -> None:
    for number in range(20):
        writer.append([scored(number)])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_what_was_appended_can_be_read_back_at_once(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "new" / "spool")
    writer.declare(PLAN)
    writer.append([scored(1), label(1, 1, 2)])
    writer.append([])
    writer.append([scored(2)])
    assert list(spooled_records(writer.folder)) == [scored(1), label(1, 1, 2), scored(2)]
    assert writer.stats.accepted == 3
    writer.close()
    writer.close()


def test_records_are_numbered_without_gaps_and_plans_head_every_segment(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, rotate_bytes=600)
    writer.append([scored(0)])
    writer.declare(PLAN)
    writer.declare(PLAN)
    for number in range(1, 7):
        writer.append([scored(number)])
    writer.close()
    numbers = segments_of(tmp_path, writer.writer)
    assert len(numbers) > 2
    found = [read_segment(segment_path(tmp_path, writer.writer, n), 0, 99, final=True).items for n in numbers]
    assert [item.seq for items in found for item in items if item.seq] == [1, 2, 3, 4, 5, 6, 7]
    assert all(items[0].decode() == PLAN for items in found[1:])
    assert found[0][1].decode() == PLAN


def test_an_old_segment_is_closed_in_the_background(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, rotate_seconds=0.02, sync_seconds=0.01)
    writer.append([scored(1)])
    wait_until(lambda: writer._fd < 0)
    writer.append([scored(2)])
    assert len(segments_of(tmp_path, writer.writer)) == 2
    writer.close()


def test_several_threads_share_a_writer(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, rotate_bytes=4000)

    def work(part: int) -> None:
        for n in range(50):
            writer.append([scored(part * 100 + n)])

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert len(set(ids(tmp_path))) == writer.stats.accepted == 200


def test_at_the_cap_an_available_spool_counts_what_it_drops(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, cap_bytes=900, sync_seconds=3600)
    for number in range(6):
        writer.append([scored(number)])
    kept = len(ids(tmp_path))
    assert 0 < kept < 6
    assert (writer.stats.accepted, writer.stats.dropped) == (6, 6 - kept)
    assert read_state(tmp_path, writer.writer).dropped == 6 - kept
    assert read_state(tmp_path, writer.writer).seq == 6
    writer.close()


@pytest.mark.parametrize(("mode", "refuses"), [("strict", True), ("available", False)])
def test_near_the_cap_a_strict_spool_says_so_before_anything_is_written(
    tmp_path: Path, mode: Literal["strict", "available"], refuses: bool
) -> None:
    writer = SpoolWriter(tmp_path, cap_bytes=3 * ROOM_BYTES, mode=mode, sync_seconds=3600)
    writer.require_room(3)
    with pytest.raises(SpoolFull, match="cap") if refuses else contextlib.nullcontext():
        writer.require_room(4)
    assert (writer.stats.accepted, writer.stats.dropped) == (0, 0)
    writer.close()


def test_at_the_cap_a_strict_spool_refuses_and_accepts_nothing(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, cap_bytes=900, mode="strict", sync_seconds=3600)
    with pytest.raises(SpoolFull, match="cap"):
        fill(writer)
    assert writer.stats.accepted == len(ids(tmp_path))
    assert writer.stats.dropped == 0
    writer.close()


def test_a_spool_that_is_emptied_takes_records_again(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, cap_bytes=1500, mode="strict", rotate_bytes=300, sync_seconds=0.01)
    with pytest.raises(SpoolFull):
        fill(writer)
    for number in segments_of(tmp_path, writer.writer)[:-1]:
        segment_path(tmp_path, writer.writer, number).unlink()
    wait_until(lambda: writer.stats.bytes < 700)
    writer.append([scored(9)])
    writer.close()


@pytest.mark.parametrize("mode", ["available", "strict"])
def test_a_full_disk_keeps_whole_records_and_cuts_the_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    writer = SpoolWriter(tmp_path, mode=mode)  # type: ignore[arg-type]  # one of the two words
    writer.append([scored(1)])
    size = spool_bytes(tmp_path)
    real = os.write
    monkeypatch.setattr("bentos.spool.writer.os.write", lambda fd, data: real(fd, data[: size + size // 2]))
    if mode == "strict":
        with pytest.raises(SpoolFull, match="full"):
            writer.append([scored(2), scored(3), scored(4)])
    else:
        writer.append([scored(2), scored(3), scored(4)])
    monkeypatch.undo()
    writer.append([scored(5)])
    writer.close()
    assert ids(tmp_path) == ["e00001", "e00002", "e00005"]
    assert writer.stats.accepted == (3 if mode == "strict" else 5)
    assert writer.stats.dropped == (0 if mode == "strict" else 2)


def test_a_disk_that_refuses_every_write_only_costs_drops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(tmp_path)

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bentos.spool.writer.os.write", refuse)
    writer.append([scored(1), scored(2)])
    monkeypatch.undo()
    writer.append([scored(3)])
    writer.close()
    assert ids(tmp_path) == ["e00003"]
    assert (writer.stats.accepted, writer.stats.dropped) == (3, 2)


def test_a_failed_fsync_is_counted_and_nothing_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("bentos.spool.writer._FLUSH", fail)
    writer = SpoolWriter(tmp_path, sync_seconds=0.01)
    writer.append([scored(1)])
    wait_until(lambda: writer.stats.sync_errors > 0)
    monkeypatch.undo()
    writer.append([scored(2)])
    writer.close()
    assert len(ids(tmp_path)) == 2


def test_what_lies_in_the_open_segment_is_flushed_within_the_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[int, int]] = []  # inode and size at each flush: what a power cut leaves

    def flush(fd: int) -> None:
        state = os.fstat(fd)
        os.fdatasync(fd)
        flushed.append((state.st_ino, state.st_size))

    monkeypatch.setattr("bentos.spool.writer._FLUSH", flush)
    writer = SpoolWriter(tmp_path, sync_seconds=0.01, rotate_seconds=3600.0)
    for number in (1, 2):
        writer.append([scored(number)])
        (segment,) = segments_of(tmp_path, writer.writer)
        state = segment_path(tmp_path, writer.writer, segment).stat()
        wait_until(lambda state=state: (state.st_ino, state.st_size) in flushed)  # type: ignore[misc]
    writer.close()


def damaged(folder: Path, change: Callable[[bytearray], bytes | bytearray]) -> Path:
    """A closed segment of five records with one change."""
    writer = SpoolWriter(folder)
    writer.append([scored(n) for n in range(1, 6)])
    writer.close()
    path = segment_path(folder, writer.writer, 1)
    path.write_bytes(change(bytearray(path.read_bytes())))
    return path


def flip(at: float) -> Callable[[bytearray], bytearray]:
    def change(data: bytearray) -> bytearray:
        data[int(len(data) * at)] ^= 0x10
        return data

    return change


@pytest.mark.parametrize("at", [0.0, 0.21, 0.5, 0.999])
def test_a_flipped_bit_costs_one_record(tmp_path: Path, at: float) -> None:
    damaged(tmp_path, flip(at))
    assert len(ids(tmp_path)) == 4


def test_a_torn_last_record_is_left_out(tmp_path: Path) -> None:
    path = damaged(tmp_path, lambda data: data[:-7])
    assert len(ids(tmp_path)) == 4
    chunk = read_segment(path, 0, 99, final=True)
    assert chunk.position < chunk.size


def test_a_half_written_record_is_waited_for_while_its_writer_lives(tmp_path: Path) -> None:
    whole = damaged(tmp_path, lambda data: data).read_bytes()
    path = tmp_path / "open.00000001.seg"
    path.write_bytes(whole[:-7])
    first = read_segment(path, 0, 99, final=False)
    assert (len(first.items), first.skipped) == (4, 0)
    assert not read_segment(path, first.position, 99, final=False).items
    path.write_bytes(whole)
    assert len(read_segment(path, first.position, 99, final=False).items) == 1


def test_zeros_in_the_middle_are_stepped_over(tmp_path: Path) -> None:
    def zero(data: bytearray) -> bytearray:
        third = len(data) // 5 * 2
        data[third : third + 50] = bytes(50)
        return data

    path = damaged(tmp_path, zero)
    chunks = [read_segment(path, 0, 99, final=False)]
    chunks.append(read_segment(path, chunks[0].position, 99, final=False))
    assert [len(chunk.items) for chunk in chunks] == [2, 2]
    assert chunks[1].skipped > 0


def test_a_record_longer_than_a_block_is_read(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.append([scored(1, body=b"x" * (3 << 20)), scored(2)])
    writer.close()
    assert ids(tmp_path) == ["e00001", "e00002"]


def test_a_writer_lives_until_its_process_ends(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    assert is_alive(tmp_path, writer.writer)
    assert writers_of(tmp_path) == [writer.writer]
    writer.close()
    assert not is_alive(tmp_path, writer.writer)


KILLED = """
import sys
from bentos.spool.writer import ROOM_BYTES, SpoolWriter
from pathlib import Path
from tests.support.log.logged import scored
writer = SpoolWriter(Path(sys.argv[1]), rotate_bytes=40_000)
number = 0
while True:
    writer.append([scored(number + n) for n in range(7)])
    number += 7
    print(number, flush=True)
"""


def test_what_a_killed_process_acknowledged_is_in_the_spool(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = [child.stdout.readline() for _ in range(400)]
    child.send_signal(signal.SIGKILL)
    said += child.stdout.readlines()
    child.stdout.close()
    child.wait()
    acknowledged = int([line for line in said if line.endswith("\n")][-1])
    found = ids(tmp_path)
    assert found[:acknowledged] == [f"e{n:05d}" for n in range(acknowledged)]
    (writer,) = writers_of(tmp_path)
    assert not is_alive(tmp_path, writer)


def test_the_settings_describe_a_writer(tmp_path: Path) -> None:
    settings = read_settings(home=tmp_path, log_mode="strict", spool_cap_mb=1)
    writer = SpoolWriter.of(settings, "fraud")
    writer.append([scored(1)])
    assert writer.folder == settings.spool("fraud")
    with pytest.raises(SpoolFull):
        writer.append([scored(2, body=b"x" * (2 << 20))])
    writer.close()


def test_a_record_keeps_every_field(tmp_path: Path) -> None:
    record = scored(1, event_id="가😀", propensity=0.05, raw_score=0.1 + 0.2, decision=True)
    writer = SpoolWriter(tmp_path)
    writer.append([record])
    writer.close()
    (found,) = spooled_records(tmp_path)
    assert isinstance(found, ScoreRecord)
    assert found == record


def test_after_the_disk_refused_a_record_strict_mode_refuses_events_at_the_door_until_it_takes_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, write = threading.Event(), os.write

    def refusing(fd: int, data: bytes) -> int:
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", refusing)
    monkeypatch.setattr(SpoolWriter, "_disk_takes", lambda writer: not full.is_set())
    writer = SpoolWriter(tmp_path, mode="strict", sync_seconds=0.01)
    writer.append([scored(1)])
    writer.require_room(1)
    full.set()
    with pytest.raises(SpoolFull, match="disk is full"):
        writer.append([scored(2)])
    with pytest.raises(SpoolFull, match="refuses new records"):
        writer.require_room(1)
    full.clear()

    def open_again() -> bool:
        with contextlib.suppress(SpoolFull):
            writer.require_room(1)
            return True
        return False

    wait_until(open_again)
    writer.append([scored(3)])
    writer.close()
    assert ids(tmp_path) == ["e00001", "e00003"]


def test_the_probe_of_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, mode="strict")
    before = sorted(tmp_path.iterdir())
    assert writer._disk_takes()
    assert sorted(tmp_path.iterdir()) == before
    writer.close()
