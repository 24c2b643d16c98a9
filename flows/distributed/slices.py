"""The history of a training in slices of time: read, checked and kept by the workers, each for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bentos.features.definitions import ColumnDefinition
from bentos.features.plan import FeaturePlan
from bentos.schema.table_cleaning import FEW_ROWS
from bentos.usecase.definition import UseCase
from flows.distributed.row_groups import read_frame, read_key, write_frame
from flows.distributed.shuffle import Shuffle
from flows.errors import NoData, SchemaProblem
from flows.snapshots.store import SnapshotStore
from flows.sources import open_source
from flows.steps.bulk.chunk_worker import without_missing_limits
from flows.steps.data.folds import TrainingHistory
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from monitoring.store import Store

DAY = timedelta(days=1)
SLICE_ROWS = 250_000
"""Rows of one slice, as far as whole days allow."""
ID_ROWS = 2_000_000
"""Ids that are looked at together for repeats."""


@dataclass(frozen=True)
class SourceCall:
    """How a worker opens the source: the arguments of :func:`flows.sources.open_source`.

    Attributes:
        log_url: database of the source ``log``.
    """

    usecase: UseCase
    kind: str | None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    log_url: str = ""

    def open(self) -> Any:
        """The source; nothing is read yet."""
        store = _store(self.log_url) if (self.kind or self.usecase.source.kind) == "log" else None
        # In a slice rows are judged and not tables; see :func:`require_present` for those.
        return open_source(without_missing_limits(self.usecase), self.kind, store=store, **self.overrides)


@lru_cache(maxsize=1)
def _store(url: str) -> Store:
    """The database of the source ``log``, opened once by each worker."""
    from monitoring.store import open_store

    return open_store(url)


@dataclass(frozen=True)
class SliceJob:
    """What is to be done with each slice.

    Attributes:
        call: opens the source.
        as_of: business time.
        shuffle: where parts go; its plan needs no categories yet.
        ids: into how many parts ids are dealt, to find repeats.
        snapshots: folder of the snapshot store, shared by all workers.
        learnt_in: window whose values make open category lists.
    """

    call: SourceCall
    as_of: datetime
    shuffle: Shuffle
    ids: int
    snapshots: Path
    learnt_in: TimeWindow


@dataclass(frozen=True)
class SliceFacts:
    """What is known of one slice once it is kept.

    Attributes:
        part: its number.
        rows: its events; 0 for a slice without any.
        first: time of the first event.
        digest: of its snapshot.
        positives: labels with y = 1.
        origin: of the source.
        values: values of the open category columns in the training window.
        missing: events without a value, of each nullable column.
    """

    part: int
    rows: int = 0
    first: datetime | None = None
    digest: str = ""
    positives: int = 0
    origin: str = ""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)


def split_window(usecase: UseCase, window: TimeWindow, rows: int | None, workers: int) -> list[TimeWindow]:
    """A window as slices of whole business days, about :data:`SLICE_ROWS` each; one a day where nobody knows."""
    calendar = usecase.calendar
    days, day = [], calendar.day_of(window.start)
    while calendar.start_of(day) < window.end:
        days.append(calendar.start_of(day))
        day += DAY
    count = len(days) if rows is None else max(4 * workers, -(-rows // SLICE_ROWS))
    step = max(1, len(days) // max(1, min(count, len(days))))
    edges = [window.start, *days[step::step], window.end]
    return [TimeWindow(start, end) for start, end in pairwise(edges) if start < end]


def keep_slice(job: SliceJob, item: tuple[int, TimeWindow]) -> SliceFacts:
    """Read one slice, keep it as a snapshot, and deal its rows out; runs on a worker."""
    part, window = item
    usecase, source = job.call.usecase, job.call.open()
    try:
        dataset = source.read(window, as_of=job.as_of)
    except NoData:
        return SliceFacts(part)
    snapshot = SnapshotStore(job.snapshots).save_read(dataset, usecase)
    history = TrainingHistory.at(usecase, dataset.events, dataset.labels, dataset.revisions, job.as_of)
    folder = job.shuffle.folder
    job.shuffle.put(part, history.events, history.revisions)
    write_frame(folder / "final" / f"{part:06d}.parquet", history.labels)
    partition_ids(folder, part, history.events[usecase.event_id], job.ids)
    first = history.events[usecase.event_time].min()
    return SliceFacts(
        part, len(history.events), None if first is pd.NaT else first.to_pydatetime(), snapshot.digest,
        snapshot.positives, dataset.origin, _category_values(job, history.events),
        {c.name: int(history.events[c.name].isna().sum()) for c in usecase.columns if c.nullable},
    )  # fmt: skip


def final_labels_of(folder: Path, part: int) -> pd.DataFrame:
    """The final labels that :func:`keep_slice` kept."""
    return read_frame(folder / "final" / f"{part:06d}.parquet")


def require_distinct(folder: Path, parts: Sequence[int], bucket: int) -> int:
    """Refuse an id that stands in two slices; runs on a worker.

    Raises:
        SchemaProblem: one machine would refuse the later row alone, which slices cannot do.
    """
    ids = read_key([folder / "ids" / f"{part:06d}.parquet" for part in parts], bucket)["id"]
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise SchemaProblem(
            f"{len(repeated)} event ids stand in more than one part of the table, such as {str(repeated.iloc[0])!r}; "
            "clean the table, or use --engine single, which puts repeats into quarantine"
        )
    return len(ids)


def id_parts(rows: int | None) -> int:
    """Into how many parts the ids of so many rows are dealt."""
    return 16 if rows is None else max(1, -(-rows // ID_ROWS))


def partition_ids(folder: Path, part: int, ids: pd.Series[Any], parts: int) -> None:
    """Keep the ids of one part for :func:`require_distinct`."""
    keys = pd.util.hash_array(ids.to_numpy(dtype=object), categorize=False) % np.uint64(parts)
    write_frame(folder / "ids" / f"{part:06d}.parquet", pd.DataFrame({"id": ids.to_numpy()}), keys.astype(np.int64))


def require_present(usecase: UseCase, facts: Sequence[SliceFacts]) -> None:
    """Refuse a column that is missing more often than declared, over all slices together.

    Raises:
        SchemaProblem: as for a table that one machine reads.
    """
    rows = sum(fact.rows for fact in facts)
    for column in usecase.columns:
        share = sum(fact.missing.get(column.name, 0) for fact in facts) / max(1, rows)
        limit = 1.0 if column.max_missing_share is None else column.max_missing_share
        if share > limit or (share == 1.0 and column.max_missing_share is None and rows >= FEW_ROWS):
            raise SchemaProblem(
                f"column {column.name!r}: {share:.1%} of {rows} values are missing; declare max_missing_share if that "
                "is right"
            )


def with_categories(plan: FeaturePlan, facts: Sequence[SliceFacts]) -> FeaturePlan:
    """The plan whose open category lists are the values that the slices told."""
    values_by_column: dict[str, set[str]] = {}
    for fact in facts:
        for column, values in fact.values.items():
            values_by_column.setdefault(column, set()).update(values)
    return plan.with_categories(
        pd.DataFrame({c: pd.Series(sorted(v), dtype=object) for c, v in values_by_column.items()})
    )


def open_columns(plan: FeaturePlan) -> tuple[str, ...]:
    """Columns whose category lists are still to be learnt."""
    columns: list[str] = []
    definitions = list(plan.definitions)
    while definitions:
        definition = definitions.pop()
        definitions += list(getattr(definition, "operands", ()))
        if isinstance(definition, ColumnDefinition) and definition.is_open:
            columns.append(definition.column)
    return tuple(dict.fromkeys(columns))


def _category_values(job: SliceJob, events: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    times, window = events[job.call.usecase.event_time], job.learnt_in
    rows = events[(times >= window.start) & (times < window.end)]
    names = open_columns(job.shuffle.plan)
    return {name: tuple(map(str, rows[name].dropna().unique())) for name in names}
