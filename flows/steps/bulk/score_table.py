"""Score a whole table in chunks: constant memory, resumable, every row accounted for.

Each chunk becomes one part with its own quarantine, written under a temporary name and renamed. A run
that was killed goes on after its last whole part. Windows need the events before a chunk: those that a
window can still reach are carried along, so such an input must be in the order of its event times.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import pyarrow as pa

from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused, NoData
from flows.steps.bulk.chunk_worker import Worker
from flows.steps.bulk.input import BulkInput, Rows
from flows.steps.bulk.output import BulkOutput
from flows.steps.bulk.parts import QUARANTINE, Parts, open_parts
from flows.workspace.step import step
from monitoring.core.hashing import canonical_json, sha256_hex

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel
    from bentos.registry.ports import ModelRef

T = TypeVar("T")
Made = TypeVar("Made")
CHUNK_ROWS = 65_536
_WORKERS = 4
"""Chunks that are worked on at once, at most: what is not the booster holds the interpreter."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BulkResult:
    """What a bulk scoring gave; ``rows_in`` is ``rows_out`` and ``quarantined`` together.

    Attributes:
        rows_in: rows of the input.
        rows_out: scored rows.
        quarantined: refused rows; ``quarantine`` says why.
        flagged: scored rows whose decision is an alert.
        resumed: rows that an earlier, interrupted run had done.
        output: where the list is, without passwords.
        quarantine: CSV file of the refused rows: row, event_id, reason, column.
    """

    rows_in: int
    rows_out: int
    quarantined: int
    flagged: int
    resumed: int
    output: str
    quarantine: Path


@step(name="score a table", run_name="score every row of a table with {ref.label}", tags=("files", "compute"))
def score_table(
    usecase: UseCase,
    model: ScoringModel,
    ref: ModelRef,
    source: BulkInput,
    target: BulkOutput,
    as_of: datetime,
    *,
    reasons: bool = False,
    chunk_rows: int = CHUNK_ROWS,
    threads: int | None = None,
    progress: Progress | None = None,
) -> BulkResult:
    """Score every row of a table.

    The first chunk decides whether the table fits the use case; after that one bad value costs its row.
    Repeated event ids are found within a chunk.

    Args:
        as_of: labels observed later are ignored by features that look at labels.
        reasons: adds the strongest reasons of each score, as JSON text.
        chunk_rows: rows in memory at a time, apart from those that windows reach back to.
        threads: of XGBoost; all processors by default. Scores do not depend on it.
        progress: told ``(step, rows done, rows in all)``.

    Raises:
        NoData: the input holds no row.
        SchemaProblem: it does not fit the use case, or is out of order where windows need order.
        FlowRefused: the output cannot be written there, another run writes it, or rows are unaccounted for.
    """
    target.check()
    model.check_schema(EventSchema.of(usecase).fingerprint)
    identity = run_identity(usecase, model, ref, source, as_of, reasons, chunk_rows)
    cores = threads or os.cpu_count() or 1
    # Windows carry events from one chunk to the next; without them several chunks are worked on at once, each with
    # its share of the cores: a booster that takes them all waits for the checks of the next chunk to let go of one.
    workers = 1 if model.plan.specs else min(cores, _WORKERS)
    model.booster.use_threads(max(1, cores // workers))
    try:
        with open_parts(target.parts, identity) as parts:
            total = source.rows()
            worker = Worker(usecase, model, ref, as_of, reasons)
            resumed = _score_all(worker, source, parts, chunk_rows, progress or _silent, total, workers)
            result = publish_result(parts, target, total, resumed)
        shutil.rmtree(target.parts.folder)
        return result
    finally:
        model.booster.use_threads(1)


def run_identity(
    usecase: UseCase, model: ScoringModel, ref: ModelRef, source: BulkInput, as_of: datetime, reasons: bool,
    chunk_rows: int,
) -> str:  # fmt: skip
    """What a run is: only parts of the very same one are taken up again."""
    run = {
        "input": source.identity(), "model": ref.label, "contract": model.contract_digest,
        "reasons": reasons, "chunk_rows": chunk_rows, "usecase": EventSchema.of(usecase).fingerprint,
    }  # fmt: skip
    if model.plan.specs:
        run["as_of"] = as_of.isoformat()
    return sha256_hex(canonical_json(run))


def _score_all(
    worker: Worker,
    source: BulkInput,
    parts: Parts,
    chunk_rows: int,
    progress: Progress,
    total: int | None,
    workers: int,
) -> int:
    """Score the chunks that have no part yet; returns the rows of those that had one."""
    row_count = resumed = 0

    def read() -> Iterator[_Chunk]:
        first = 0
        for number, table in enumerate(source.chunks(chunk_rows)):
            yield _Chunk(number, first, table, parts.has(number))
            first += len(table)

    run_chunks = _score_in_sequence if worker.model.plan.specs else partial(_score_in_parallel, workers=workers)
    for chunk in run_chunks(worker, read(), parts):
        resumed += len(chunk.table) if chunk.whole else 0
        row_count += len(chunk.table)
        progress("score", row_count, total or row_count)
    if not row_count:
        raise NoData(f"{source.address.shown}: it holds no rows")
    return resumed


def _score_in_sequence(worker: Worker, chunks: Iterator[_Chunk], parts: Parts) -> Iterator[_Chunk]:
    """Chunk after chunk, because windows reach from one into the next.

    The next one is read and checked while this one is scored: the booster leaves the interpreter alone. Likewise the
    next one is scored while this one is written.
    """

    def cleaned() -> Iterator[tuple[_Chunk, _Content]]:
        return ((chunk, worker.clean(chunk.table, chunk.first)) for chunk in chunks)

    def scored() -> Iterator[tuple[_Chunk, _Content, pa.Table | None]]:
        for chunk, content in prefetch(cleaned()):
            yield chunk, content, worker.take(content[0], content[1], only_carry=chunk.whole)

    for chunk, content, scored_rows in prefetch(scored()):
        if scored_rows is not None:
            parts.write(chunk.number, scored_rows, content[2], len(chunk.table))
        yield chunk


def _score_in_parallel(worker: Worker, chunks: Iterator[_Chunk], parts: Parts, workers: int) -> Iterator[_Chunk]:
    """Several chunks at once; one that has its part is only looked at if it is the first, which shows the table."""

    def one(chunk: _Chunk) -> _Chunk:
        if not chunk.whole:
            scored_rows, quarantine = worker.scored(chunk.table, chunk.first)
            parts.write(chunk.number, scored_rows, quarantine, len(chunk.table))
        elif chunk.number == 0:
            worker.clean(chunk.table, chunk.first)
        return chunk

    return map_in_order(prefetch(chunks), one, workers)


_Content = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
"""Events, labels and quarantine of a chunk."""


@dataclass(frozen=True)
class _Chunk:
    """One chunk of the input: its number, the number of its first row, its rows, whether it has its part."""

    number: int
    first: int
    table: Rows
    whole: bool


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in a thread of its own while the one before it is used; errors come in their place."""
    sentinel: Any = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as pool:
        future = pool.submit(next, items, sentinel)
        while (item := future.result()) is not sentinel:
            future = pool.submit(next, items, sentinel)
            yield item


def map_in_order(items: Iterator[T], work: Callable[[T], Made], workers: int) -> Iterator[Made]:
    """What ``work`` makes of each item, in their order, ``hands`` at a time; errors come in their place.

    The first item is worked on alone: it decides whether there is any sense in the others.
    """
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="bulk") as pool:
        futures: deque[Future[Made]] = deque()
        try:
            for number, item in enumerate(items):
                if number == 0:
                    yield work(item)
                    continue
                futures.append(pool.submit(work, item))
                if len(futures) > workers:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()


def publish_result(parts: Parts, target: BulkOutput, total: int | None, resumed: int) -> BulkResult:
    """Reconcile the rows, then put quarantine and list in their places."""
    counts = parts.counts()
    if counts["in"] != counts["out"] + counts["refused"] or total not in (None, counts["in"]):
        raise FlowRefused(
            f"{counts['in']} rows were read (of {total}), {counts['out']} scored and {counts['refused']} refused: "
            "these do not add up, so nothing was written; remove the parts beside --out and score again"
        )
    new_quarantine = target.quarantine.with_name(f".{target.quarantine.name}.new")
    with new_quarantine.open("w", encoding="utf-8") as stream:
        stream.write(",".join(QUARANTINE) + "\n")
        for file in parts.refusals():
            stream.write(file.read_text(encoding="utf-8"))
    target.publish(parts.files())
    new_quarantine.replace(target.quarantine)
    return BulkResult(
        counts["in"],
        counts["out"],
        counts["refused"],
        counts["flagged"],
        resumed,
        target.address.shown,
        target.quarantine,
    )


def _silent(step: str, row_count: int, total: int) -> None:
    """No progress."""
