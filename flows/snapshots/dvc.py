"""DVC files beside snapshots, so that ``dvc push`` and ``dvc pull`` carry them.

A DVC file names its content by MD5 and ``dvc push`` sends what the cache holds. Both are plain files,
so they are written here, in the layout of DVC 3, without starting ``dvc`` (seconds for each snapshot)
and without depending on it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

from flows.errors import SnapshotError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class DvcFile:
    """A file that DVC knows.

    Attributes:
        file: the ``.dvc`` file beside it.
        md5: MD5 of the content; DVC's name for it, not a protection.
        size: bytes.
        cached: whether the content lies in a DVC cache, so that ``dvc push`` sends it.
    """

    file: Path
    md5: str
    size: int
    cached: bool


def installed() -> bool:
    """Whether the ``dvc`` command is on PATH."""
    return shutil.which("dvc") is not None


def track(path: Path) -> DvcFile:
    """Write ``<name>.dvc`` beside a file, and put the file into the cache of the DVC repository around it.

    Idempotent; every step is atomic. Without a repository only the DVC file is written: after
    ``dvc init`` call it again.

    Raises:
        SnapshotError: the file is gone, or the disk refuses one of the two.
    """
    file = path.with_name(f"{path.name}.dvc")
    try:
        md5, size = _md5(path), path.stat().st_size
        text = f"outs:\n- md5: {md5}\n  size: {size}\n  hash: md5\n  path: {path.name}\n"
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            _write(file, text)
        repository = next(_repositories(path.parent), None)
        if repository is not None:
            _cache(path, _cache_folder(repository) / "files" / "md5" / md5[:2] / md5[2:])
    except OSError as exc:
        raise SnapshotError(f"{file}: cannot be written ({exc.strerror})") from exc
    return DvcFile(file, md5, size, repository is not None)


def _md5(path: Path) -> str:
    hasher = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def _repositories(folder: Path) -> Iterator[Path]:
    """The ``.dvc`` folders around a folder, the nearest first."""
    for parent in (folder, *folder.parents):
        if (parent / ".dvc").is_dir():
            yield parent / ".dvc"


def _cache_folder(repository: Path) -> Path:
    """``cache.dir`` of the repository (relative to its configuration), else DVC's default."""
    cache = "cache"
    for name in ("config", "config.local"):
        config = ConfigParser(interpolation=None)
        config.read(repository / name, encoding="utf-8")
        cache = config.get("cache", "dir", fallback=cache)
    return repository / cache


def _cache(path: Path, entry: Path) -> None:
    """A copy, never a link: a file in the cache must not change when somebody edits the snapshot."""
    if entry.is_file():
        return
    entry.parent.mkdir(parents=True, exist_ok=True)
    partial = entry.with_name(f".{entry.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(path, partial)
        partial.chmod(0o444)
        partial.replace(entry)
    finally:
        partial.unlink(missing_ok=True)
