"""Training data kept by content: the exact rows of every model can be loaded again.

A snapshot is one Parquet file, ``<folder>/<digest[:2]>/<digest>.parquet``, with a small JSON file
beside it that says where the rows came from; the JSON file is written last and makes it complete.

The digest is SHA-256 over the content in a canonical form (:mod:`flows.snapshots.format`), so
it does not change with the Parquet writer, its compression or its version.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.errors import SnapshotCorrupt, SnapshotError, SnapshotMissing
from flows.snapshots import dvc
from flows.snapshots.format import Frames
from flows.sources.base import SourceRead
from monitoring.core.calendar import TimeWindow
from monitoring.core.hashing import canonical_json, sha256_file, sha256_hex

log = logging.getLogger("incumbent.flows")

PARTS = ".parts"
"""Suffix of the list of parts that stands in the place of a Parquet file."""


@dataclass(frozen=True)
class SnapshotRef:
    """Where a snapshot is and what it holds.

    Content that was saved twice keeps what was said of it the first time.

    Attributes:
        digest: SHA-256 of the content; names the snapshot.
        path: the Parquet file; of a snapshot in parts the list of them.
        rows: events.
        positives: labels with y = 1.
        file_digest: SHA-256 of the Parquet file as written.
        usecase: name of the use case.
        window: the window that was read.
        source: what was read, without passwords.
        as_of: labels observed later were ignored; none means all labels.
    """

    digest: str
    path: Path
    rows: int
    positives: int
    file_digest: str
    usecase: str
    window: TimeWindow
    source: str
    as_of: datetime | None


@dataclass(frozen=True)
class Snapshot:
    """A snapshot's frames: rows in the order of the events, columns, types and values as saved."""

    ref: SnapshotRef
    events: pd.DataFrame
    labels: pd.DataFrame
    revisions: pd.DataFrame


class SnapshotStore:
    """A folder of snapshots. Saving the same content twice writes one file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self,
        events: pd.DataFrame,
        labels: pd.DataFrame,
        *,
        usecase: UseCase,
        window: TimeWindow,
        source: str,
        as_of: datetime | None = None,
        revisions: pd.DataFrame | None = None,
    ) -> SnapshotRef:
        """Store events and labels (the frames of a ``SourceRead``); idempotent and atomic.

        Args:
            events: clean events.
            labels: at most one label an event.
            usecase: names the id column, and is named in what is said of the snapshot.
            window: the window that was read.
            source: what was read, without passwords.
            as_of: labels observed later were ignored.
            revisions: every label revision, where there are more than ``labels``.

        Raises:
            SnapshotError: a label names no event, an id repeats, or the disk refuses the file.
        """
        frames = Frames.of(usecase.event_id, events, labels, revisions)
        digest = frames.digest()
        with suppress(SnapshotMissing, SnapshotCorrupt):
            return self._track_with_dvc(self._verified_ref(digest))
        metadata = {
            "rows": len(events),
            "positives": int((labels["y"] == 1).sum()),
            "usecase": usecase.name,
            "window": [window.start.isoformat(), window.end.isoformat()],
            "source": source,
            "as_of": as_of.isoformat() if as_of else None,
        }
        try:
            self._write(digest, frames, metadata)
        except OSError as exc:
            raise SnapshotError(f"{self.folder}: cannot write snapshot {digest[:12]} ({exc.strerror})") from exc
        return self._track_with_dvc(self._ref(digest))

    def save_read(self, dataset: SourceRead, usecase: UseCase) -> SnapshotRef:
        """Store what a source gave; see :meth:`save`."""
        return self.save(
            dataset.events,
            dataset.labels,
            usecase=usecase,
            window=dataset.window,
            source=dataset.origin,
            as_of=dataset.as_of,
            revisions=dataset.revisions,
        )

    def join(
        self, parts: Sequence[str], *, usecase: UseCase, window: TimeWindow, source: str, as_of: datetime
    ) -> SnapshotRef:
        """One snapshot of several that follow each other in time; its digest is that of the list of theirs.

        Loading it needs memory for all of them.

        Raises:
            SnapshotMissing: a part is not in the store.
            SnapshotError: the disk refuses the file.
        """
        refs = [self._ref(digest) for digest in parts]
        content = canonical_json({"parts": list(parts)})
        digest = sha256_hex(content)
        metadata = {
            "rows": sum(ref.rows for ref in refs), "positives": sum(ref.positives for ref in refs),
            "usecase": usecase.name, "window": [window.start.isoformat(), window.end.isoformat()], "source": source,
            "as_of": as_of.isoformat(), "parts": list(parts), "digest": digest, "file_sha256": digest,
        }  # fmt: skip
        path = self.path(digest).with_suffix(PARTS)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for file, data in ((path, content), (path.with_suffix(".json"), canonical_json(metadata))):
                partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
                partial.write_bytes(data)
                _publish_file(partial, file)
        except OSError as exc:
            raise SnapshotError(f"{self.folder}: cannot write snapshot {digest[:12]} ({exc.strerror})") from exc
        return self._ref(digest)

    def load(self, digest: str) -> Snapshot:
        """Load a snapshot and verify it, file and content.

        Raises:
            SnapshotMissing: no complete snapshot has this digest.
            SnapshotCorrupt: the file or its content gives another digest.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        ref = self._verified_ref(digest)
        if ref.path.suffix == PARTS:
            return self._joined(ref)
        try:
            frames = Frames.from_table(pq.read_table(ref.path, partitioning=None))
        except (pa.ArrowException, OSError, KeyError) as exc:
            raise SnapshotCorrupt(f"{ref.path}: not a readable snapshot ({type(exc).__name__})") from exc
        if frames.digest() != digest:
            raise SnapshotCorrupt(f"{ref.path}: the content has another digest; save the data again")
        revisions = frames.labels.copy() if frames.revisions is None else frames.revisions
        return Snapshot(ref, frames.events, frames.labels, revisions)

    def _joined(self, ref: SnapshotRef) -> Snapshot:
        parts = [self.load(digest) for digest in json.loads(ref.path.read_bytes())["parts"]]
        events, labels, revisions = (
            pd.concat([getattr(part, name) for part in parts], ignore_index=True)
            for name in ("events", "labels", "revisions")
        )
        return Snapshot(ref, events, labels, revisions)

    def find(self, prefix: str = "") -> list[SnapshotRef]:
        """All complete snapshots whose digest starts with ``prefix``, in order of their digest."""
        digests = sorted(p.stem for p in self.folder.glob("??/*.json") if p.stem.startswith(prefix))
        return [self._ref(d) for d in digests]

    def describe(self, digest: str) -> SnapshotRef:
        """What is said of a snapshot, without looking at its content; raises ``SnapshotMissing``."""
        return self._ref(digest)

    def path(self, digest: str) -> Path:
        """The Parquet file of a digest, whether it exists or not."""
        return self.folder / digest[:2] / f"{digest}.parquet"

    def _track_with_dvc(self, ref: SnapshotRef) -> SnapshotRef:
        """Where ``dvc`` is installed, a DVC file stands beside the snapshot; it never fails a save."""
        if dvc.installed():
            try:
                dvc.track(ref.path)
            except SnapshotError as exc:
                log.warning("no DVC file for a snapshot: %s", exc)
        return ref

    def _write(self, digest: str, frames: Frames, metadata: dict[str, Any]) -> None:
        import pyarrow.parquet as pq

        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{digest}.{os.getpid()}.partial")
        try:
            pq.write_table(frames.to_table(), partial, compression="zstd")
            metadata = metadata | {"digest": digest, "file_sha256": sha256_file(partial)}
            _publish_file(partial, path)
            partial.write_bytes(canonical_json(metadata))
            _publish_file(partial, path.with_suffix(".json"))
        finally:
            partial.unlink(missing_ok=True)

    def _ref(self, digest: str) -> SnapshotRef:
        path = self.path(digest)
        try:
            metadata = json.loads(path.with_suffix(".json").read_bytes())
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise SnapshotMissing(f"{self.folder}: no snapshot {digest!r}") from exc
        except ValueError as exc:
            raise SnapshotCorrupt(f"{path.with_suffix('.json')}: not JSON; save the data again") from exc
        start, end = (datetime.fromisoformat(t) for t in metadata["window"])
        return SnapshotRef(
            digest=digest,
            path=path.with_suffix(PARTS) if "parts" in metadata else path,
            rows=metadata["rows"],
            positives=metadata["positives"],
            file_digest=metadata["file_sha256"],
            usecase=metadata["usecase"],
            window=TimeWindow(start, end),
            source=metadata["source"],
            as_of=datetime.fromisoformat(metadata["as_of"]) if metadata["as_of"] else None,
        )

    def _verified_ref(self, digest: str) -> SnapshotRef:
        ref = self._ref(digest)
        if not ref.path.is_file():
            raise SnapshotMissing(f"{ref.path}: the file is gone; save the data again")
        if sha256_file(ref.path) != ref.file_digest:
            raise SnapshotCorrupt(f"{ref.path}: the file differs from its SHA-256; save the data again")
        return ref


def content_digest(usecase: UseCase, dataset: SourceRead) -> str:
    """The digest that a snapshot of these frames would have, without storing them."""
    return Frames.of(usecase.event_id, dataset.events, dataset.labels, dataset.revisions).digest()


def _publish_file(partial: Path, path: Path) -> None:
    """Flush a finished file to the disk and give it its name in one step."""
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)
