"""Look-up tables while serving: kept in memory, changed by one reference, filled in where requests are decoded.

A thread looks at the files; a changed one is read beside the old and takes its place when it is whole and fits. One
that does not leaves the old rows in use, is logged and counted, and is tried again when the file changes again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bentos.errors import EventError, LookupProblem, ModelNotReady
from bentos.schema.event import Event
from bentos.schema.event_schema import EventSchema
from bentos.schema.lookup_file import lookup_path
from bentos.schema.lookups import LookupIndex
from bentos.settings import Settings
from bentos.usecase.definition import UseCase
from monitoring.metrics import serving as metrics

log = logging.getLogger("incumbent.lookups")

Stamp = tuple[int, int, int]
"""Inode, size and time of a file: another table has another."""


class LookupKeeper:
    """Owner of the tables in memory.

    Args:
        usecase: declares them.
        folder: where the files are.

    Attributes:
        tables: those that were read, by name; replaced as a whole, never changed.
    """

    def __init__(self, usecase: UseCase, folder: Path) -> None:
        self.tables: Mapping[str, LookupIndex] = {}
        self._usecase = usecase
        self._folder = folder
        self._stamps: dict[str, Stamp | None] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, usecase: UseCase, settings: Settings) -> LookupKeeper:
        """The keeper of an installation's tables; nothing is read yet."""
        return cls(usecase, settings.lookups(usecase.name))

    @property
    def complete(self) -> bool:
        """Whether every declared table was read once."""
        return len(self.tables) == len(self._usecase.lookups)

    def start(self, poll_seconds: float) -> None:
        """Read the tables, and again whenever their files change, until :meth:`stop`."""
        self._thread = threading.Thread(target=self._run, args=(poll_seconds,), name="lookups", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=3.0)

    def look(self) -> None:
        """Look at each file once, and read those that changed since the last look."""
        for lookup in self._usecase.lookups:
            stamp = _stamp(lookup_path(self._folder, lookup.name))
            if lookup.name in self._stamps and self._stamps[lookup.name] == stamp:
                continue
            self._stamps[lookup.name] = stamp
            self._read(lookup.name)

    def card(self) -> dict[str, dict[str, Any]]:
        """What is in memory, for the model card."""
        return {n: {"rows": t.rows, "newest": t.newest, "digest": t.digest} for n, t in self.tables.items()}

    def _run(self, poll_seconds: float) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as exc:  # the thread must outlive any fault
                log.error("the look-up tables cannot be looked at: %s", type(exc).__name__)
            self._stop.wait(poll_seconds)

    def _read(self, name: str) -> None:
        try:
            index = LookupIndex(self._usecase, name, self._folder)
        except LookupProblem as exc:
            metrics.LOOKUP_READS.labels(name, "failed").inc()
            consequence = (
                "the rows in memory stay in use" if name in self.tables else "nothing can be answered without it"
            )
            log.error("%s; %s", exc, consequence)
            return
        self.tables = {**self.tables, name: index}
        metrics.LOOKUP_READS.labels(name, "read").inc()
        metrics.LOOKUP_NEWEST.labels(name).set(0.0 if index.newest is None else index.newest.timestamp())
        log.info("lookup %s: %d rows, digest %s", name, index.rows, index.digest[:12])


class FillingSchema(EventSchema):
    """The schema of requests to a use case with look-up tables: what is decoded is also filled.

    A client that sends a looked-up value is refused: in the log it could not be told from what the table said.

    Args:
        usecase: declares columns and tables.
        keeper: has the tables.
    """

    def __init__(self, usecase: UseCase, keeper: LookupKeeper) -> None:
        super().__init__(usecase)
        self._keeper = keeper
        self._steps = tuple(
            (
                lookup.name,
                self.position[lookup.entity],
                tuple(self.position[column.name] for column in usecase.columns_of_lookup(lookup.name)),
            )
            for lookup in usecase.lookups
        )

    def decode(self, body: bytes) -> Event:
        """See :meth:`bentos.schema.event_schema.EventSchema.decode`; looked-up values are filled in.

        Raises:
            EventError: also where a looked-up value is sent.
            ModelNotReady: a table was not read yet.
        """
        return self._complete(self._decoder.one(body), "")

    def decode_many(self, body: bytes, limit: int) -> list[Event]:
        """See :meth:`bentos.schema.event_schema.EventSchema.decode_many` and :meth:`decode`."""
        rows = enumerate(self._decoder.many(body, limit))
        return [self._complete(row, f"event {index} of the batch: ") for index, row in rows]

    def _complete(self, values: tuple[Any, ...], intro: str) -> Event:
        row, tables, time_us = list(values), self._keeper.tables, values[self._time_at]
        for at in self._filled:
            if row[at] is not None:
                column = self.columns[at]
                raise EventError(
                    f"{intro}column {column.name!r} is filled from lookup {column.lookup!r}; leave it out, or send null"
                )
        for name, entity_at, positions in self._steps:
            if name not in tables:
                raise ModelNotReady(f"the look-up table {name!r} was not read yet; ask /readyz")
            for at, value in zip(positions, tables[name].row(row[entity_at], time_us), strict=True):
                row[at] = value
        return self._event(self, row[self._id_at], time_us, tuple(row))


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
