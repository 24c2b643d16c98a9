"""A whole table scored on a cluster: the chunks, checks and scores of the single engine, on many workers.

Without windows each chunk is scored where it is read. With windows a chunk is cleaned, its rows are dealt out by
entity (:mod:`flows.distributed.shuffle`), and it is scored once its features are there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from flows.distributed.dask_cluster import Cluster
from flows.distributed.row_groups import read_frame, write_frame
from flows.distributed.shuffle import Shuffle, buckets_of
from flows.distributed.slices import id_parts, partition_ids, require_distinct
from flows.errors import ClusterUnreachable, FlowRefused, NoData, SchemaProblem
from flows.sources.locations import translate_errors
from flows.sources.table import columns_to_read
from flows.steps.bulk.chunk_worker import UNORDERED, Worker
from flows.steps.bulk.input import BulkInput, Rows, even_tables
from flows.steps.bulk.output import BulkOutput
from flows.steps.bulk.parts import Parts, open_parts
from flows.steps.bulk.score_table import CHUNK_ROWS, BulkResult, publish_result, run_identity

if TYPE_CHECKING:
    import pyarrow as pa

SPAN_CHUNKS = 16
"""Chunks of one task at most; a task reads its rows in one go."""


def score_on_cluster(
    cluster: Cluster,
    usecase: UseCase,
    model: ScoringModel,
    ref: ModelRef,
    source: BulkInput,
    target: BulkOutput,
    as_of: datetime,
    *,
    reasons: bool = False,
    chunk_rows: int = CHUNK_ROWS,
) -> BulkResult:
    """Score every row of a Parquet table; see :func:`flows.steps.bulk.score_table.score_table`, whose list this gives.

    Raises:
        FlowRefused: the input is no Parquet, besides what the single engine refuses.
        SchemaProblem: an id stands in two chunks of a model with windows, besides what the single engine refuses.
        EngineError: the cluster failed, or does not see the folder of the output.
    """
    target.check()
    model.check_schema(EventSchema.of(usecase).fingerprint)
    if source.csv or not source.files:
        raise FlowRefused(f"{source.address.shown}: the engine dask reads Parquet; convert it, or use --engine single")
    total = source.rows() or 0
    if not total:
        raise NoData(f"{source.address.shown}: it holds no rows")
    identity = run_identity(usecase, model, ref, source, as_of, reasons, chunk_rows)
    with open_parts(target.parts, identity) as parts:
        _require_shared(cluster, parts.folder)
        model.save(cluster.folder / "model")
        job = ScoreJob(
            usecase, source.address.value, cluster.folder, parts, ref, as_of, reasons, chunk_rows,
            _shuffle(cluster, model, as_of, total), _witness(usecase, model, ref, source, as_of, reasons, chunk_rows),
        )  # fmt: skip
        resumed = _score(cluster, job, total)
        result = publish_result(parts, target, total, resumed)
    shutil.rmtree(target.parts.folder)
    return result


@dataclass(frozen=True, eq=False)
class ScoreJob:
    """What every task of one run needs.

    Attributes:
        source: path of the table.
        folder: of the cluster, with the model in it.
        parts: where scored chunks go.
        shuffle: none for a model without windows.
        witness: a good row and its id; see :class:`flows.steps.bulk.score_table.Worker`.
    """

    usecase: UseCase
    source: str
    folder: Path
    parts: Parts
    ref: ModelRef
    as_of: datetime
    reasons: bool
    chunk_rows: int
    shuffle: Shuffle | None
    witness: tuple[pd.DataFrame, str] | None

    def worker(self, number: int) -> Worker:
        """The scorer; the first chunk is read as strictly as a table."""
        scorer = Worker(self.usecase, _model(self.folder / "model"), self.ref, self.as_of, self.reasons)
        scorer.witness = self.witness if number else None
        return scorer


@dataclass(frozen=True)
class ChunkFacts:
    """One cleaned chunk: its rows in the input, how many are good, the first and the last of their times."""

    number: int
    rows: int
    good: int
    first: datetime | None
    last: datetime | None


def score_span(job: ScoreJob, span: range) -> int:
    """Clean, score and write the chunks of a span that have no part yet; runs on a worker."""
    for number, chunk in _chunks(job, span):
        if not job.parts.has(number):
            scores, refused_rows = job.worker(number).scored(chunk, number * job.chunk_rows)
            job.parts.write(number, scores, refused_rows, len(chunk))
    return len(span)


def partition_span(job: ScoreJob, ids: int, span: range) -> list[ChunkFacts]:
    """Clean the chunks of a span and deal their rows out by entity; runs on a worker."""
    assert job.shuffle is not None
    facts = []
    for number, chunk in _chunks(job, span):
        events, labels, refused_rows = job.worker(number).clean(chunk, number * job.chunk_rows)
        job.shuffle.put(number, events, labels)
        partition_ids(job.folder, number, events[job.usecase.event_id], ids)
        write_frame(job.folder / "refused" / f"{number:06d}.parquet", refused_rows)
        times = events[job.usecase.event_time]
        edges = (times.iloc[0].to_pydatetime(), times.iloc[-1].to_pydatetime()) if len(times) else (None, None)
        facts.append(ChunkFacts(number, len(chunk), len(events), *edges))
    return facts


def score_chunk(job: ScoreJob, fact: ChunkFacts) -> int:
    """Score one chunk whose windows are made; runs on a worker."""
    assert job.shuffle is not None
    events, features = job.shuffle.features(fact.number)
    scores = job.worker(fact.number).table(events, np.ascontiguousarray(features.to_numpy()))
    refused_rows = read_frame(job.folder / "refused" / f"{fact.number:06d}.parquet")
    job.parts.write(fact.number, scores, refused_rows, fact.rows)
    return fact.rows


def _score(cluster: Cluster, job: ScoreJob, total: int) -> int:
    """Score what has no part yet; returns the rows that an earlier run had done."""
    chunks = -(-total // job.chunk_rows)
    finished = [number for number in range(chunks) if job.parts.has(number)]
    resumed = sum(min(job.chunk_rows, total - number * job.chunk_rows) for number in finished)
    spans = _spans(chunks, cluster.workers)
    if job.shuffle is None:
        pending = [span for span in spans if not set(span) <= set(finished)]
        cluster.run("score", partial(score_span, job), pending)
        return resumed
    ids = id_parts(total)
    facts_by_span = cluster.run("read the table", partial(partition_span, job, ids), spans)
    facts = [fact for part in facts_by_span for fact in part]
    _require_order(facts)
    numbers = [fact.number for fact in facts]
    cluster.run("look for repeats", partial(require_distinct, job.folder, numbers), range(ids))
    for entity in job.shuffle.entities:
        build: Callable[[int], int] = partial(job.shuffle.build, entity, parts=numbers)
        cluster.run(f"windows of {entity}", build, range(job.shuffle.buckets))
    cluster.run("score", partial(score_chunk, job), [fact for fact in facts if fact.number not in set(finished)])
    return resumed


def _require_order(facts: Sequence[ChunkFacts]) -> None:
    for before, after in pairwise(fact for fact in facts if fact.good):
        if before.last is not None and after.first is not None and after.first < before.last:
            raise SchemaProblem(UNORDERED)


def _spans(chunks: int, workers: int) -> list[range]:
    size = max(1, min(SPAN_CHUNKS, -(-chunks // (4 * workers))))
    return [range(start, min(start + size, chunks)) for start in range(0, chunks, size)]


def _shuffle(cluster: Cluster, model: ScoringModel, as_of: datetime, total: int) -> Shuffle | None:
    if not model.plan.specs:
        return None
    return Shuffle(cluster.folder, model.plan, as_of, buckets_of(total, cluster.workers))


def _witness(
    usecase: UseCase, model: ScoringModel, ref: ModelRef, source: BulkInput, as_of: datetime, reasons: bool, size: int
) -> tuple[pd.DataFrame, str] | None:
    """Read the first chunk as strictly as a table: it decides whether the table fits the use case."""
    worker = Worker(usecase, model, ref, as_of, reasons)
    worker.clean(next(source.chunks(size)), 0)
    return worker.witness


def _require_shared(cluster: Cluster, parts: Path) -> None:
    visibility = cluster.client.run(_exists, str(parts / "run"))
    blind = sorted(address for address, visible in visibility.items() if not visible)
    if blind:
        raise ClusterUnreachable(
            f"worker {blind[0]} does not see {parts.parent}; --out must lie in a folder that this process and all "
            "workers share under the same path"
        )


def _exists(path: str) -> bool:
    return Path(path).exists()


@lru_cache(maxsize=1)
def _model(folder: Path) -> ScoringModel:
    """The model of a run, loaded once by each worker."""
    return ScoringModel.load(folder)


def _chunks(job: ScoreJob, span: range) -> Iterator[tuple[int, Rows]]:
    """The chunks of a span, with their numbers; one is in memory at a time."""
    start, stop = span.start * job.chunk_rows, span.stop * job.chunk_rows
    source = BulkInput(job.usecase, job.source)
    yield from zip(span, even_tables(_rows(source, start, stop, job.chunk_rows), job.chunk_rows), strict=False)


def _rows(source: BulkInput, start: int, stop: int, size: int) -> Iterator[pa.RecordBatch]:
    """The rows ``start`` to ``stop`` of the input; row groups before them are passed over unread."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    parquet, offset = source._parquet(), 0
    with translate_errors(source.address):
        try:
            dataset = parquet._dataset()
            names = columns_to_read(dataset.schema.names, source.usecase)
            for fragment in dataset.get_fragments():
                for group in fragment.split_by_row_group():
                    rows = int(group.row_groups[0].num_rows)
                    if offset < stop and offset + rows > start:
                        scanner = ds.Scanner.from_fragment(
                            group, schema=dataset.schema, columns=names, batch_size=size, batch_readahead=2,
                            use_threads=False,
                        )  # fmt: skip
                        yield from _between(scanner.to_batches(), start - offset, stop - offset)
                    offset += rows
        except pa.ArrowException as exc:
            raise SchemaProblem(f"{parquet.origin}: not readable as one Parquet table ({exc})") from exc


def _between(batches: Iterator[object], start: int, stop: int) -> Iterator[object]:
    """Those rows of consecutive batches that lie between two numbers."""
    offset = 0
    for batch in batches:
        rows = batch.num_rows  # type: ignore[attr-defined]  # a record batch of Arrow, which has no types
        low, high = max(start - offset, 0), min(stop - offset, rows)
        if low < high:
            yield batch.slice(low, high - low)  # type: ignore[attr-defined]  # likewise
        offset += rows
