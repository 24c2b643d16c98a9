"""The reports folder as a browser may see it: a list of its files, and each of them by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

LIST_LENGTH = 500
"""Files that the list names; the newest."""


@dataclass(frozen=True)
class ReportFile:
    """One line of the list.

    Attributes:
        name: path inside the folder.
        link: the same, for an address.
        written: when, UTC, to the minute.
        size: kilobytes.
    """

    name: str
    link: str
    written: str
    size: int


def find_report(folder: Path, name: str) -> Path | None:
    """The regular file of that name inside the folder, or none. A link that leads out of the folder is none."""
    if "\0" in name or "\\" in name or any(part.startswith(".") for part in name.split("/")):
        return None
    root = folder.resolve()
    try:
        path = (root / name.lstrip("/")).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return path if path.is_relative_to(root) and path.is_file() else None


def list_reports(folder: Path) -> list[ReportFile]:
    """The newest files of the folder and its sub-folders, pages before tables."""
    files = sorted(_files(folder), key=lambda pair: (pair[0].suffix != ".html", -pair[1]))
    return [_report_file(folder, path) for path, _ in files[:LIST_LENGTH]]


def _files(folder: Path) -> Iterator[tuple[Path, float]]:
    for path in folder.rglob("*"):
        if find_report(folder, path.relative_to(folder).as_posix()) is not None:
            yield path, path.stat().st_mtime


def _report_file(folder: Path, path: Path) -> ReportFile:
    name = path.relative_to(folder).as_posix()
    status = path.stat()
    written_at = datetime.fromtimestamp(status.st_mtime, UTC).strftime("%Y-%m-%d %H:%M")
    return ReportFile(name, f"/{quote(name)}", written_at, -(-status.st_size // 1024))
