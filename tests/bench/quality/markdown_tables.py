"""Generated parts of a page: what stands between two markers is written anew, the rest stays."""

from __future__ import annotations

from pathlib import Path


def write_between(file: Path, begin: str, end: str, text: str) -> None:
    """Put ``text`` between two markers of a page.

    Raises:
        ValueError: the page lacks the markers.
    """
    page = file.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        raise ValueError(f"{file} has no lines {begin} and {end} to write between")
    head, rest = page.split(begin, 1)
    tail = rest.split(end, 1)[1]
    file.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
