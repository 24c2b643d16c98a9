"""Which files a path names: one file, a folder, a pattern, or any of them behind an fsspec URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows.errors import NoData, SourceOptionsError, SourceUnavailable
from flows.sources.address import Address


def list_files(address: Address, suffixes: tuple[str, ...]) -> tuple[Any, list[str]]:
    """The fsspec file system and the files of a path, sorted by name.

    A folder gives the files in it (at any depth) that end in one of ``suffixes``, without those whose
    name or folder begins with ``_`` or ``.``, which writers use for their own marks.

    Raises:
        SourceOptionsError: the path does not exist or its URL scheme is unknown.
        NoData: the folder holds no such file.
        SourceUnavailable: the file system cannot be reached.
    """
    import fsspec

    with translated(address):
        try:
            system, path = fsspec.core.url_to_fs(address.value)
        except (ValueError, ImportError) as exc:
            raise SourceOptionsError(f"{address.shown}: no such kind of path ({address.scrub(str(exc))})") from None
        if any(c in path for c in "*?[") and not system.exists(path):
            found = sorted(system.glob(path))
        elif system.isdir(path):
            found = sorted(f for f in system.find(path) if f.endswith(suffixes) and not _is_mark(f[len(path) :]))
        elif system.exists(path):
            return system, [path]
        else:
            raise SourceOptionsError(f"{address.shown}: no such file or folder")
    if not found:
        raise NoData(f"{address.shown}: no file that ends in {' or '.join(suffixes)}")
    return system, found


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn a failing disk or network into ``SourceUnavailable``, without secrets in its text."""
    try:
        yield
    except OSError as exc:
        cause = address.scrub(str(exc))
        hidden = cause != str(exc)
        raise SourceUnavailable(f"{address.shown}: cannot be read ({cause})") from (None if hidden else exc)


def _is_mark(relative: str) -> bool:
    return any(part[:1] in ("_", ".") for part in relative.strip("/").split("/"))
