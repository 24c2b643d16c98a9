"""Score a whole table in chunks: constant memory, resumable, every row accounted for.

Each chunk becomes one part with its own quarantine, written under a temporary name and renamed. A run
that was killed goes on after its last whole part. Windows need the events before a chunk: those that a
window can still reach are carried along, so such an input must be in the order of its event times.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from bentos.errors import TableError
from bentos.schema import EventSchema
from bentos.tables import empty_labels
from bentos.usecase import UseCase
from flows.errors import FlowRefused, NoData, SchemaProblem
from flows.steps.bulkfiles import DICTIONARY, BulkInput, BulkOutput
from monitoring.digest import canonical_json, sha256_hex

if TYPE_CHECKING:
    from bentos.model import ScoringModel
    from bentos.roles import ModelRef

T = TypeVar("T")
Made = TypeVar("Made")
CHUNK_ROWS = 65_536
_HANDS = 4
"""Chunks that are worked on at once, at most: what is not the booster holds the interpreter."""
QUARANTINE = ("row", "event_id", "reason", "column")
UNORDERED = (
    "the rows to score are not in the order of their event times, which this model's windows need; "
    "sort the input by time"
)
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
    hands = 1 if model.plan.specs else min(cores, _HANDS)
    model.booster.set_param({"nthread": max(1, cores // hands)})
    try:
        with run_parts(target.parts, identity) as parts:
            total = source.rows()
            worker = Worker(usecase, model, ref, as_of, reasons)
            resumed = _score_all(worker, source, parts, chunk_rows, progress or _silent, total, hands)
            result = conclude(parts, target, total, resumed)
        shutil.rmtree(target.parts)
        return result
    finally:
        model.booster.set_param({"nthread": 1})


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
    worker: Worker, source: BulkInput, parts: Path, chunk_rows: int, progress: Progress, total: int | None, hands: int
) -> int:
    """Score the chunks that have no part yet; returns the rows of those that had one."""
    done = resumed = 0

    def read() -> Iterator[_Chunk]:
        first = 0
        for number, table in enumerate(source.chunks(chunk_rows)):
            yield _Chunk(number, first, table, (parts / f"part-{number:06d}.json").exists())
            first += len(table)

    work = _in_line if worker.model.plan.specs else partial(_side_by_side, hands=hands)
    for chunk in work(worker, read(), parts):
        resumed += len(chunk.table) if chunk.whole else 0
        done += len(chunk.table)
        progress("score", done, total or done)
    if not done:
        raise NoData(f"{source.address.shown}: it holds no rows")
    return resumed


def _in_line(worker: Worker, chunks: Iterator[_Chunk], parts: Path) -> Iterator[_Chunk]:
    """Chunk after chunk, because windows reach from one into the next.

    The next one is read and checked while this one is scored: the booster leaves the interpreter alone. Likewise the
    next one is scored while this one is written.
    """

    def cleaned() -> Iterator[tuple[_Chunk, _Content]]:
        return ((chunk, worker.clean(chunk.table, chunk.first)) for chunk in chunks)

    def scored() -> Iterator[tuple[_Chunk, _Content, pd.DataFrame | None]]:
        for chunk, content in ahead(cleaned()):
            yield chunk, content, worker.take(content[0], content[1], only_carry=chunk.whole)

    for chunk, content, found in ahead(scored()):
        if found is not None:
            write_part(parts, chunk.number, found, content[2], len(chunk.table))
        yield chunk


def _side_by_side(worker: Worker, chunks: Iterator[_Chunk], parts: Path, hands: int) -> Iterator[_Chunk]:
    """Several chunks at once; one that has its part is only looked at if it is the first, which shows the table."""

    def one(chunk: _Chunk) -> _Chunk:
        if not chunk.whole or chunk.number == 0:
            events, labels, refused = worker.clean(chunk.table, chunk.first)
            found = worker.take(events, labels, only_carry=chunk.whole)
            if found is not None:
                write_part(parts, chunk.number, found, refused, len(chunk.table))
        return chunk

    return in_order(ahead(chunks), one, hands)


_Content = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
"""Events, labels and quarantine of a chunk."""


@dataclass(frozen=True)
class _Chunk:
    """One chunk of the input: its number, the number of its first row, its rows, whether it has its part."""

    number: int
    first: int
    table: pd.DataFrame
    whole: bool


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in a thread of its own while the one before it is used; errors come in their place."""
    end: Any = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item


def in_order(items: Iterator[T], work: Callable[[T], Made], hands: int) -> Iterator[Made]:
    """What ``work`` makes of each item, in their order, ``hands`` at a time; errors come in their place.

    The first item is worked on alone: it decides whether there is any sense in the others.
    """
    with ThreadPoolExecutor(max_workers=hands, thread_name_prefix="bulk") as pool:
        under_way: deque[Future[Made]] = deque()
        try:
            for number, item in enumerate(items):
                if number == 0:
                    yield work(item)
                    continue
                under_way.append(pool.submit(work, item))
                if len(under_way) > hands:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for coming in under_way:
                coming.cancel()


class Worker:
    """Cleans and scores chunks in the order of the input.

    Attributes:
        witness: a good row of the first chunk, and its id; none until the first chunk was cleaned.
    """

    def __init__(self, usecase: UseCase, model: ScoringModel, ref: ModelRef, as_of: datetime, reasons: bool) -> None:
        self.usecase, self.model, self.ref, self.as_of, self.reasons = usecase, model, ref, as_of, reasons
        self._lenient = lenient(usecase)
        self.witness: tuple[pd.DataFrame, str] | None = None
        self._carried: tuple[pd.DataFrame, pd.DataFrame] | None = None
        self._rated = any(spec.agg == "label_rate" for spec in model.plan.specs)
        self._reach = max((spec.over + spec.delay for spec in model.plan.specs), default=0)

    def clean(self, chunk: pd.DataFrame, first_row: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Events, labels and quarantine of a chunk whose first row is number ``first_row`` of the input."""
        if self.witness is None:
            events, labels, refused = self._read(chunk, self.usecase)
            at = next(i for i in range(len(chunk)) if i not in set(refused["row"].tolist()))
            lone, _, _ = self._read(chunk.iloc[at : at + 1], self._lenient)
            self.witness = chunk.iloc[at : at + 1], str(lone[self.usecase.event_id].iloc[0])
        else:
            try:
                events, labels, refused = self._read(chunk, self._lenient)
            except SchemaProblem:
                events, labels, refused = self._beside_witness(chunk, *self.witness)
        return events, labels, refused.assign(row=refused["row"] + first_row)

    def _beside_witness(
        self, chunk: pd.DataFrame, row: pd.DataFrame, name: str
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """The same with a known good row in front: a chunk whose rows are all bad is no reason to refuse the table."""
        events, labels, refused = self._read(pd.concat([row, chunk], ignore_index=True), self._lenient)
        own = (events[self.usecase.event_id] != name).to_numpy()
        events, labels = events[own].reset_index(drop=True), labels[labels["event_id"] != name]
        return events, labels, refused.assign(row=refused["row"] - 1)

    def take(self, events: pd.DataFrame, labels: pd.DataFrame, *, only_carry: bool) -> pd.DataFrame | None:
        """The scored rows of cleaned events, or none where they are only context of later ones."""
        plan = self.model.plan
        context, known = events, labels
        if plan.specs:
            context, known = self._with_carried(events, labels)
            self._carry(context, known)
        if only_carry:
            return None
        features = plan.build(context, known, self.as_of).to_numpy()[len(context) - len(events) :]
        return self.table(events, np.ascontiguousarray(features))

    def _read(self, table: pd.DataFrame, usecase: UseCase) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        schema = EventSchema.of(usecase)
        try:
            if self._rated:
                return schema.read_labelled(table)
            read = schema.read_table(table)
        except TableError as exc:
            raise SchemaProblem(f"the rows to score: {exc}") from exc
        return read.events, empty_labels(), read.quarantine

    def _with_carried(self, events: pd.DataFrame, labels: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        if self._carried is None or events.empty:
            return events, labels
        before, told = self._carried
        time, name = self.usecase.event_time, self.usecase.event_id
        if len(before) and events[time].iloc[0] < before[time].iloc[-1]:
            raise SchemaProblem(UNORDERED)
        before = before[~before[name].isin(events[name])]
        return pd.concat([before, events], ignore_index=True), pd.concat([told, labels], ignore_index=True)

    def _carry(self, context: pd.DataFrame, known: pd.DataFrame) -> None:
        if context.empty:
            return
        times = context[self.usecase.event_time]
        kept = context[(times >= times.iloc[-1] - pd.Timedelta(self._reach, unit="us")).to_numpy()]
        self._carried = kept, known[known["event_id"].isin(kept[self.usecase.event_id])]

    def table(self, events: pd.DataFrame, features: Any) -> pd.DataFrame:
        """The scored rows of cleaned events and their features."""
        scores = self.model.score(features)
        columns: dict[str, Any] = {
            "event_id": events[self.usecase.event_id].to_numpy(dtype=object),
            "score": scores.calibrated,
            "decision": self.model.decide(scores.calibrated, scores.cuts),
            "model": pd.Categorical([self.ref.label]).repeat(len(events)),
        }
        if self.reasons:
            columns["reasons"] = self._reasons(features)
        return pd.DataFrame(columns)

    def _reasons(self, features: Any) -> list[str]:
        from bentos.predictor import fast_contributions
        from bentos.reasons import explain

        contributions = fast_contributions(self.model.booster, self.model.golden.features[:4])
        if not len(features):
            return []
        rows = zip(features, contributions(features), strict=True)
        return [json.dumps(explain(self.model.plan.names, row, part)["reasons"]) for row, part in rows]


def lenient(usecase: UseCase) -> UseCase:
    """The use case without limits on missing shares: in a chunk, rows are judged and not tables."""
    columns = tuple(column.model_copy(update={"max_missing_share": 1.0}) for column in usecase.columns)
    return usecase.model_copy(update={"columns": columns})


@contextmanager
def run_parts(folder: Path, identity: str) -> Iterator[Path]:
    """The folder of parts of exactly this run; parts of another run are thrown away."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        _lock(lock, folder)
        known = folder / "run"
        if not known.exists() or known.read_text() != identity:
            for file in folder.glob("part-*"):
                file.unlink()
            known.write_text(identity)
        yield folder


def _lock(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise FlowRefused(f"another run is writing to {folder}; wait for it, or name another --out") from exc


def write_part(parts: Path, number: int, scored: pd.DataFrame, refused: pd.DataFrame, rows: int) -> None:
    """Write one part; its note comes last, and a part without one does not count."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stem = parts / f"part-{number:06d}"
    # Every part has the same types, also one without rows.
    texts = [name for name in ("event_id", "model", "reasons") if name in scored]
    columns = {str(name): pa.array(scored[name]) for name in scored if name not in texts}
    columns |= {name: pa.array(scored[name]).cast(pa.string()) for name in texts}
    table = pa.table({str(name): columns[str(name)] for name in scored})
    pq.write_table(table, stem.with_suffix(".parquet"), use_dictionary=DICTIONARY)
    refused[list(QUARANTINE)].to_csv(stem.with_suffix(".csv"), index=False, header=False)
    note = {"in": rows, "out": len(scored), "refused": len(refused), "flagged": int(scored["decision"].sum())}
    fresh = stem.with_suffix(".new")
    fresh.write_text(json.dumps(note))
    fresh.replace(stem.with_suffix(".json"))


def conclude(parts: Path, target: BulkOutput, total: int | None, resumed: int) -> BulkResult:
    """Reconcile the rows, then put quarantine and list in their places."""
    notes = [json.loads(file.read_text()) for file in sorted(parts.glob("part-*.json"))]
    sums = {key: sum(int(note[key]) for note in notes) for key in ("in", "out", "refused", "flagged")}
    if sums["in"] != sums["out"] + sums["refused"] or total not in (None, sums["in"]):
        raise FlowRefused(
            f"{sums['in']} rows were read (of {total}), {sums['out']} scored and {sums['refused']} refused: "
            "these do not add up, so nothing was written; remove the parts beside --out and score again"
        )
    fresh = target.quarantine.with_name(f".{target.quarantine.name}.new")
    with fresh.open("w", encoding="utf-8") as out:
        out.write(",".join(QUARANTINE) + "\n")
        for file in sorted(parts.glob("part-*.csv")):
            out.write(file.read_text(encoding="utf-8"))
    files = sorted(parts.glob("part-*.parquet"))
    target.publish(files)
    fresh.replace(target.quarantine)
    return BulkResult(
        sums["in"], sums["out"], sums["refused"], sums["flagged"], resumed, target.address.shown, target.quarantine
    )


def _silent(step: str, done: int, total: int) -> None:
    """No progress."""
