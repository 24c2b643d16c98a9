"""Ways in which a spool writer and a ledger fail, for the tests of the scribe."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bentos.spool.segments import segment_path, segments_of
from bentos.spool.writer import SpoolWriter
from monitoring.errors import StoreUnavailable
from monitoring.store.predictions.spool_ledger import SpoolLedger


def die(writer: SpoolWriter, tail: bytes = b"") -> None:
    """End a writer as SIGKILL does: no last fsync, no goodbye, perhaps half a record (``tail``) at the end."""
    writer._stop.set()
    writer._thread.join()
    for fd in (writer._fd, *writer._retired, writer._state_fd):
        if fd >= 0:
            os.close(fd)
    numbers = segments_of(writer.folder, writer.writer)
    if tail and numbers:
        with segment_path(writer.folder, writer.writer, numbers[-1]).open("ab") as file:
            file.write(tail)


class FlakyLedger:
    """A ledger whose calls fail as told: ``before`` nothing happened, ``after`` it happened and nobody heard.

    Args:
        real: what does the work.
        plan: one word for each call, ``ok`` when it has run out.
    """

    def __init__(self, real: SpoolLedger, plan: Sequence[str]) -> None:
        self._real = real
        self._plan = list(plan)
        self.writes = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call: Callable[..., Any] = getattr(self._real, name)
        return call if name in ("state", "states", "accounting") else lambda *a, **k: self._write(call, *a, **k)

    def _write(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        self.writes += 1
        word = self._plan.pop(0) if self._plan else "ok"
        if word == "before":
            raise StoreUnavailable("the database went away before")
        result = call(*args, **named)
        if word == "after":
            raise StoreUnavailable("the database went away after")
        return result


def sizes(folder: Path) -> list[int]:
    """Sizes of all segments."""
    return sorted(path.stat().st_size for path in folder.glob("*.seg"))
