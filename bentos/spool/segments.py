"""The files of the spool: how a record lies in a segment, and how to read it back.

A record is a header, then msgpack: two bytes that start every record, its kind, the length and
CRC-32 of the payload, and its number. Numbers run 1, 2, 3 ... for each writer, dropped records
included, so that what was accepted can be told from the files alone; plans carry number 0.

    <writer>.<number>.seg   records of one process, in order; only the last one may still grow
    <writer>.writer         locked while that process lives; holds its count of dropped records
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from monitoring.store.database.records import ActionRecord, LabelRecord, PlanRecord, RefusedRecord, ScoreRecord

MAGIC: Final = b"\xa5I"
HEADER: Final = struct.Struct("<2sBxIIQ")  # magic, kind, length, CRC-32, number
STATE: Final = struct.Struct("<QQI")  # highest number at the last drop, drops so far, CRC-32
SCORE, LABEL, PLAN, ACTION, REFUSED = 1, 2, 3, 4, 5
_KINDS: Final[dict[type, int]] = {
    ScoreRecord: SCORE, LabelRecord: LABEL, PlanRecord: PLAN, ActionRecord: ACTION, RefusedRecord: REFUSED,
}  # fmt: skip
_LONGEST: Final = 64 << 20  # a longer length is damage
_BLOCK: Final = 1 << 20
_ENCODE: Final = msgspec.msgpack.Encoder().encode
Record = ScoreRecord | LabelRecord | ActionRecord | RefusedRecord
_DECODE: Final[Mapping[int, Callable[[bytes], Record | PlanRecord]]] = {
    SCORE: msgspec.msgpack.Decoder(ScoreRecord).decode,
    LABEL: msgspec.msgpack.Decoder(LabelRecord).decode,
    PLAN: msgspec.msgpack.Decoder(PlanRecord).decode,
    ACTION: msgspec.msgpack.Decoder(ActionRecord).decode,
    REFUSED: msgspec.msgpack.Decoder(RefusedRecord).decode,
}


class Item(msgspec.Struct, frozen=True, gc=False):
    """One record as it lies in a file; ``end`` is the byte offset behind it."""

    kind: int
    seq: int
    payload: bytes
    end: int

    def decode(self) -> Record | PlanRecord:
        """The record.

        Raises:
            msgspec.MsgspecError: the payload is no such record.
        """
        return _DECODE[self.kind](self.payload)


@dataclass(frozen=True)
class Chunk:
    """What one read of a segment gave.

    Attributes:
        items: whole, undamaged records.
        position: byte offset behind the last of them: where to go on.
        size: size of the file when it was read.
        skipped: damaged bytes before the first item.
    """

    items: Sequence[Item]
    position: int
    size: int
    skipped: int = 0


@dataclass(frozen=True)
class WriterFile:
    """Highest number at the writer's last drop, and how many it dropped so far."""

    seq: int = 0
    dropped: int = 0


def frame(records: Sequence[Record], seq: int) -> bytes:
    """The bytes of records numbered ``seq + 1`` and so on."""
    # Two microseconds a record are the budget of the serving path: names are local, nothing is called twice.
    parts: list[bytes] = []
    add, pack, crc, encode, kinds = parts.append, HEADER.pack, zlib.crc32, _ENCODE, _KINDS
    for record in records:
        seq += 1
        kind = kinds[type(record)]
        payload = encode(record)
        add(pack(MAGIC, kind, len(payload), crc(payload, (seq ^ kind << 24) & 0xFFFFFFFF), seq))
        add(payload)
    return b"".join(parts)


def frame_plan(plan: PlanRecord) -> bytes:
    """The bytes of a plan, which has no number."""
    payload = _ENCODE(plan)
    return HEADER.pack(MAGIC, PLAN, len(payload), _checksum(payload, PLAN, 0), 0) + payload


def read_segment(path: Path, position: int, limit: int, final: bool) -> Chunk:
    """Read whole records from ``position`` on.

    A damaged stretch is skipped when a whole record follows it. A half record at the end is left
    there; ``final`` says that nobody will complete it, so whole records behind it are looked for too.

    Raises:
        FileNotFoundError: the segment is gone.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(position)
        data = file.read(_BLOCK)
        chunk = _parse(data, position, limit, size)
        if chunk.items or not data:
            return chunk
        # A record longer than the block, or half a record, or damage: the next whole one tells.
        data += file.read()
    start = _next_record(data, final)
    return chunk if start is None else _parse(data[start:], position + start, limit, size, skipped=start)


def count_whole(data: bytes) -> tuple[int, int]:
    """How many whole records ``data`` starts with, and where the last of them ends."""
    count = end = 0
    while (next_end := _end_of(data, end)) is not None:
        count, end = count + 1, next_end
    return count, end


def _parse(data: bytes, base: int, limit: int, size: int, skipped: int = 0) -> Chunk:
    # The scribe's hottest loop: names are local, each header is unpacked once, each payload is cut once.
    items: list[Item] = []
    at, length_of_all, header = 0, len(data), HEADER.size
    unpack, crc32, add = HEADER.unpack_from, zlib.crc32, items.append
    while len(items) < limit and length_of_all - at >= header:
        magic, kind, length, crc, seq = unpack(data, at)
        end = at + header + length
        if magic != MAGIC or kind not in _DECODE or length > _LONGEST or end > length_of_all:
            break
        payload = data[at + header : end]
        if crc32(payload, (seq ^ kind << 24) & 0xFFFFFFFF) != crc:
            break
        add(Item(kind, seq, payload, base + end))
        at = end
    return Chunk(items, base + at, size, skipped)


def _end_of(data: bytes, at: int) -> int | None:
    """Where the record at ``at`` ends; ``None`` when there is no whole, undamaged one."""
    if len(data) - at < HEADER.size:
        return None
    magic, kind, length, crc, seq = HEADER.unpack_from(data, at)
    end = at + HEADER.size + length
    if magic != MAGIC or kind not in _DECODE or length > _LONGEST or end > len(data):
        return None
    return end if _checksum(data[at + HEADER.size : end], kind, seq) == crc else None


def _next_record(data: bytes, final: bool) -> int | None:
    if not final and _is_partial(data):
        return None
    at = data.find(MAGIC)
    while at >= 0:
        if _end_of(data, at) is not None:
            return at
        at = data.find(MAGIC, at + 1)
    return None


def _is_partial(data: bytes) -> bool:
    """Whether ``data`` may be the start of a record that is still being written."""
    if len(data) < HEADER.size:
        return MAGIC.startswith(data[:2])
    magic, kind, length, _, _ = HEADER.unpack_from(data)
    return magic == MAGIC and kind in _DECODE and length <= _LONGEST and len(data) < HEADER.size + length


def _checksum(payload: bytes, kind: int, seq: int) -> int:
    """CRC-32 of a record; number and kind are part of it."""
    return zlib.crc32(payload, (seq ^ kind << 24) & 0xFFFFFFFF)


def segment_path(folder: Path, writer: str, number: int) -> Path:
    """Path of a segment."""
    return folder / f"{writer}.{number:08d}.seg"


def writer_path(folder: Path, writer: str) -> Path:
    """Path of a writer's own file."""
    return folder / f"{writer}.writer"


def segments_of(folder: Path, writer: str) -> list[int]:
    """Numbers of the writer's segments, ascending."""
    names = (name.removeprefix(f"{writer}.") for name in _names(folder) if name.startswith(f"{writer}."))
    return sorted(int(name.removesuffix(".seg")) for name in names if name.endswith(".seg"))


def writers_of(folder: Path) -> list[str]:
    """Writers that have files in the folder; the default names sort by age."""
    endings = (".seg", ".writer")
    return sorted({name.split(".")[0] for name in _names(folder) if name.endswith(endings) and name[0] != "."})


def spool_bytes(folder: Path) -> int:
    """Size of all segments in the folder."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".seg"):
                with contextlib.suppress(OSError):
                    total += entry.stat().st_size
    return total


def is_alive(folder: Path, writer: str) -> bool:
    """Whether the process that writes under this name lives: the kernel drops its lock when it dies."""
    try:
        fd = os.open(writer_path(folder, writer), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def claim(folder: Path, writer: str) -> int:
    """Make and lock the writer's file; returns its descriptor.

    The file gets its name only when it is locked: a scribe takes the writer of an unlocked one for dead.
    """
    new_file = folder / f".{writer}.new"
    fd = os.open(new_file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        for slot in (0, 1):
            write_state(fd, WriterFile(), slot)
        new_file.rename(writer_path(folder, writer))
    except OSError:
        os.close(fd)
        new_file.unlink(missing_ok=True)
        raise
    return fd


def write_state(fd: int, state: WriterFile, slot: int) -> None:
    """Write one of two slots, used in turn, so that a torn write leaves the other."""
    body = struct.pack("<QQ", state.seq, state.dropped)
    os.pwrite(fd, body + struct.pack("<I", zlib.crc32(body)), slot * STATE.size)


def read_state(folder: Path, writer: str) -> WriterFile:
    """The newest undamaged slot of the writer's file; zeros when there is none."""
    try:
        data = writer_path(folder, writer).read_bytes()
    except OSError:
        return WriterFile()
    newest = WriterFile()
    for at in range(0, len(data) - STATE.size + 1, STATE.size):
        seq, dropped, crc = STATE.unpack_from(data, at)
        if zlib.crc32(data[at : at + STATE.size - 4]) == crc and dropped >= newest.dropped:
            newest = WriterFile(seq, dropped)
    return newest


def spooled_records(folder: Path) -> Iterator[Record]:
    """Every record that lies in the spool, also those that the scribe has shipped and not deleted yet.

    For a service that rebuilds its state: read this FIRST, then the database. The scribe moves
    records from here to there, so the other order could miss some; events seen twice are harmless.
    """
    for writer in writers_of(folder):
        for number in segments_of(folder, writer):
            with contextlib.suppress(FileNotFoundError):
                yield from _records(segment_path(folder, writer, number))


def _records(path: Path) -> Iterator[Record]:
    position, has_more = 0, True
    while has_more:
        chunk = read_segment(path, position, limit=10_000, final=False)
        for item in chunk.items:
            with contextlib.suppress(msgspec.MsgspecError):
                record = item.decode()
                if not isinstance(record, PlanRecord):
                    yield record
        position, has_more = chunk.position, bool(chunk.items)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
