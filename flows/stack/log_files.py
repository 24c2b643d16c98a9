"""Log files of living processes, kept short without losing a line.

A part writes into its file by itself (``O_APPEND``), so nothing that happens to the supervisor can block or end
it. A file that has grown too long gives its beginning to ``NAME.log.1``: the kernel takes it out of the file in
one step (ext4, XFS). Where the file system cannot, all is copied and the file is cut to nothing at once; a line
that is written in between, some microseconds, is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

MAX_BYTES = 10 << 20
"""Bytes of a log file before its beginning is moved."""
OLDER_FILES = 2
"""Older files beside each, ``.1`` the younger."""
_COLLAPSE_RANGE = 0x08
_BLOCK = 1 << 20  # a multiple of every file system's block


def rotate(folder: Path, max_bytes: int = MAX_BYTES, count: int = OLDER_FILES) -> None:
    """Move the beginning of every log file of a folder that is longer than ``max_bytes`` bytes.

    A disk that is full leaves a file as it is.
    """
    for file in sorted(folder.glob("*.log")):
        with contextlib.suppress(OSError):
            if file.stat().st_size > max_bytes:
                _rotate_one(file, count)


def _rotate_one(file: Path, count: int) -> None:
    for number in range(count, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            _older_file(file, number - 1).replace(_older_file(file, number))
    with file.open("r+b") as source:
        size = os.fstat(source.fileno()).st_size
        length = size - size % _BLOCK
        target = _older_file(file, 1)
        try:
            _copy(source.fileno(), target, 0, length)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        if not _collapse(source.fileno(), length):
            _cut(source.fileno(), target, length)


def _older_file(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}.{number}")


def _copy(source: int, target: Path, start: int, end: int) -> None:
    with target.open("wb" if start == 0 else "ab") as out:
        while start < end and (data := os.pread(source, min(_BLOCK, end - start), start)):
            out.write(data)
            start += len(data)


def _collapse(descriptor: int, length: int) -> bool:
    """Take the first bytes out of a file while others append to it; false where the file system cannot."""
    if sys.platform != "linux":
        return False
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
    return bool(fallocate(descriptor, _COLLAPSE_RANGE, 0, length) == 0)


def _cut(descriptor: int, target: Path, copied: int) -> None:
    while (size := os.fstat(descriptor).st_size) > copied:
        _copy(descriptor, target, copied, size)
        copied = size
    os.ftruncate(descriptor, 0)
