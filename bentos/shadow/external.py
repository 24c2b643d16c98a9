"""The external incumbent in shadow: its score is in the body, so events that a model answered have it too.

With it pairs are complete on both sides, whoever answered: while a canary runs beside the external
score, and after a model has taken its place.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from bentos.shadow.scorer import ShadowResult
from bentos.usecase.definition import ExternalIncumbent
from monitoring.store import ShadowRecord, Store
from monitoring.store.database.frames import decode_bodies
from monitoring.store.predictions.shadow_scores import PendingBody

_ADVANCE_SECONDS = 10.0


class ExternalShadow:
    """Reads the external score of every event that another one answered. Not thread-safe.

    Args:
        store: the log.
        usecase: name in the log.
        incumbent: its column and threshold.
        chunk: events of one round.
    """

    def __init__(self, store: Store, usecase: str, incumbent: ExternalIncumbent, chunk: int = 1000) -> None:
        self._store = store
        self._usecase = usecase
        self._incumbent = incumbent
        self._label = f"{incumbent.column}/0"
        self._chunk = chunk
        self._after = 0
        self._advance_at = 0.0
        self._watched = False

    def run_once(self) -> ShadowResult:
        """Note one chunk; raises ``StoreUnavailable``, and what was not stored is noted again."""
        shadow = self._store.shadow
        if not self._watched:
            shadow.watch(self._usecase, self._label)
            self._watched = True
        if time.monotonic() >= self._advance_at:
            # Now and then from the start: a row may become visible after a later one.
            self._advance_at, self._after = time.monotonic() + _ADVANCE_SECONDS, 0
            shadow.advance(self._usecase, self._label)
        newest = shadow.newest_row()
        rows = shadow.pending_bodies(self._usecase, self._label, self._chunk, self._after)
        full = len(rows) == self._chunk
        records = self._records(rows)
        if records:
            shadow.append(records)
        self._after = rows[-1].row_id if full else newest
        errors = sum(record.error is not None for record in records)
        return ShadowResult(len(records) - errors, errors, full=full)

    def _records(self, rows: Sequence[PendingBody]) -> list[ShadowRecord]:
        if not rows:
            return []
        column, cut = self._incumbent.column, self._incumbent.threshold
        scores = decode_bodies([row.body for row in rows], {column: "float"})[column].tolist()
        now = time.time_ns() // 1000
        return [
            ShadowRecord(
                self._usecase, row.event_id, column, "0", "external", score, score, cut, score >= cut, None, now
            )
            if 0.0 <= score <= 1.0  # NaN, a missing score, is not between them
            else ShadowRecord(
                self._usecase, row.event_id, column, "0", "external", None, None, None, None, "not_a_probability", now
            )
            for row, score in zip(rows, scores, strict=True)
        ]  # fmt: skip
