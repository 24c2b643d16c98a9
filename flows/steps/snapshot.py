"""Training data kept by content: the exact rows of every model can be loaded again.

A snapshot is one Parquet file, ``<folder>/<digest[:2]>/<digest>.parquet``, with a small JSON file
beside it. The digest is SHA-256 over the CONTENT in a canonical form, so it does not change with the
Parquet writer, its compression or its version.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from monitoring.calendar import TimeWindow


@dataclass(frozen=True)
class SnapshotRef:
    """Where a snapshot is and what it holds.

    Attributes:
        digest: SHA-256 of the content; names the snapshot.
        path: the Parquet file.
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
    """A snapshot's frames, as they were saved (row order, column order, types, values)."""

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
        usecase: str,
        window: TimeWindow,
        source: str,
        as_of: datetime | None = None,
        revisions: pd.DataFrame | None = None,
    ) -> SnapshotRef:
        """Store events and labels; idempotent. See ``SourceRead`` for the frames."""
        raise NotImplementedError

    def load(self, digest: str) -> Snapshot:
        """Load and verify a snapshot.

        Raises:
            SnapshotMissing: no such file.
            SnapshotCorrupt: the content gives another digest.
        """
        raise NotImplementedError


def content_digest(events: pd.DataFrame, labels: pd.DataFrame, revisions: pd.DataFrame | None = None) -> str:
    """SHA-256 of the canonical form of the frames."""
    raise NotImplementedError
