"""What a rollback changes for people: the events that the restored version would have decided differently.

Read from the log, since the version that leaves became champion: the restored version's own shadow scores
where it kept scoring, else its scores on the features as they were served. The list is a CSV for those
who have to call customers and review payments; the chain of decisions keeps its path and its digest.
"""

from __future__ import annotations

import csv
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from bentos.errors import IncumbentError
from bentos.model.scoring_model import ScoringModel
from bentos.promotion.context import ReleaseContext
from bentos.promotion.request import ReleaseOutcome
from bentos.registry.cache import ModelCache
from bentos.registry.ports import ModelRef
from bentos.registry.routing_policy import EXTERNAL
from bentos.settings import Settings
from bentos.usecase.declarations import WindowFeature
from bentos.usecase.definition import UseCase
from monitoring.core.hashing import sha256_file
from monitoring.errors import LeaseHeld
from monitoring.store import Lease, Store
from monitoring.store.predictions.answers import LoggedAnswer, became_champion_at, read_answers_of

AFFECTED_LISTED: Final = "rollback.affected"
"""Kind of the decision that keeps a list's counts, path and digest."""
CLAIM_SECONDS: Final = 600.0
"""A claim on a list by a process that died, or that failed at it, holds others back no longer than this."""
SHOWN_ROWS: Final = 20
"""Rows that the summary holds; the file holds all."""
_BATCH: Final = 2_000


@dataclass(frozen=True)
class Affected:
    """The list of one rollback.

    Attributes:
        from_version, to_version: who left, who came back.
        since: machine time from which on answers were looked at.
        answered: answers of the version that left.
        call: flagged then, and not flagged by the restored version: somebody was stopped without need.
        review: not flagged then, and flagged by the restored version: something went through.
        unknown: answers that could be judged neither by shadow nor by features.
        rescored: how many were judged by features, the others by shadow scores.
        file: the CSV; none when nothing differs and nothing is unknown.
        digest: SHA-256 of the file.
        rows: the first rows of it.
    """

    from_version: str
    to_version: str
    since: str
    answered: int = 0
    call: int = 0
    review: int = 0
    unknown: int = 0
    rescored: int = 0
    file: str | None = None
    digest: str | None = None
    rows: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"rows": list(self.rows)}

    @property
    def summary(self) -> str:
        """One line for people."""
        line = f"{self.call} events to call about, {self.review} to review, of {self.answered} answered"
        unknown = f", {self.unknown} could not be judged" if self.unknown else ""
        return f"{line}{unknown}; list: {self.file}" if self.file else f"{line}{unknown}"


def columns_of(usecase: UseCase) -> list[str]:
    """The CSV's columns: the event, its entities and amount, both scores and decisions, what to do."""
    return [
        "event_id", "event_time", "received_at", *_event_columns(usecase), "score", "threshold", "decision",
        "restored_score", "restored_threshold", "restored_decision", "direction", "judged_by",
    ]  # fmt: skip


def list_affected(
    store: Store,
    usecase: UseCase,
    rollback: ReleaseOutcome,
    load: Callable[[], ScoringModel | None],
    file: Path,
) -> Affected:
    """Write the list of a rollback.

    Args:
        store: the log.
        usecase: which columns people need.
        rollback: what was rolled back.
        load: gives the restored version; called only when shadow scores are missing, none when it cannot be had.
        file: where the CSV goes.
    """
    from_version, to_version = rollback.from_version, rollback.to_version
    assert from_version is not None
    since = became_champion_at(store.database, rollback.model, from_version)
    if since is None:
        return Affected(from_version, to_version, "")
    rows = read_answers_of(store.database, usecase.name, rollback.model, from_version, since, to_version)
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    counts = dict.fromkeys(("answered", "call", "review", "unknown", "rescored"), 0)
    shown_rows: list[dict[str, Any]] = []
    # It names customers: for the owner's eyes, and outside the folder of reports that is served.
    descriptor = os.open(scratch, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as stream:
        out = csv.DictWriter(stream, columns_of(usecase))
        out.writeheader()
        for line in _lines(rows, usecase, load, counts, to_version == EXTERNAL):
            out.writerow(line)
            if len(shown_rows) < SHOWN_ROWS:
                shown_rows.append(line)
    affected = Affected(
        from_version, to_version, since.isoformat(), counts["answered"], counts["call"], counts["review"],
        counts["unknown"], counts["rescored"], rows=tuple(shown_rows),
    )  # fmt: skip
    if not (affected.call or affected.review or affected.unknown):
        scratch.unlink()
        return affected
    scratch.replace(file)
    return replace(affected, file=str(file), digest=sha256_file(file))


def note_affected(store: Store, usecase: UseCase, affected: Affected, op_id: str, actor: str, now: datetime) -> None:
    """Keep the list's counts, path and digest in the chain of decisions, beside the rollback."""
    payload = {k: v for k, v in affected.to_json().items() if k != "rows"}
    store.decisions.append(usecase.name, AFFECTED_LISTED, {"op_id": op_id, **payload}, actor, now)


def affected_by_rollback(
    context: ReleaseContext,
    settings: Settings,
    rollback: ReleaseOutcome,
    actor: str,
    now: datetime,
    *,
    if_missing: bool = False,
) -> Affected | None:
    """List what a rollback that was just carried out changes, and keep the list; none where nobody was replaced.

    With ``if_missing`` the rollback was another process's, which may have died: none also while that process, or any
    other, writes the list, and where it is written.
    """
    if rollback.from_version is None:
        return None
    registry, store, usecase, op_id = context.registry, context.store, context.usecase, rollback.op_id
    claim = _claim(store, op_id)
    if if_missing and (claim is None or _is_noted(store, usecase.name, op_id)):
        return None
    restored_ref = ModelRef(rollback.model, rollback.to_version)

    def load() -> ScoringModel | None:
        contract = store.decisions.contract_of(rollback.model, rollback.to_version)
        for cache in (ModelCache(settings.cache(usecase.name) / "flows"), ModelCache(settings.cache(usecase.name))):
            try:
                return ScoringModel.load(cache.fetch(registry, restored_ref, contract)[0], contract)
            except (IncumbentError, OSError):
                continue  # without a registry the service's own copy is next
        return None

    name = f"{rollback.model}-{rollback.from_version}-to-{rollback.to_version}-{op_id[:12]}"
    affected = list_affected(store, usecase, rollback, load, settings.root / "rollbacks" / f"{name}.csv")
    note_affected(store, usecase, affected, op_id, actor, now)
    if claim is not None:
        store.journal.release(claim)
    return affected


def _claim(store: Store, op_id: str) -> Lease | None:
    """The right to write one list, kept after a failure; none where another process has it."""
    try:
        return store.journal.acquire(f"affected:{op_id}", f"{socket.gethostname()}:{os.getpid()}", CLAIM_SECONDS)
    except LeaseHeld:
        return None


def _is_noted(store: Store, usecase: str, op_id: str) -> bool:
    return any(line.payload["op_id"] == op_id for line in store.decisions.list(usecase, (AFFECTED_LISTED,), limit=None))


def _lines(
    rows: Iterator[LoggedAnswer],
    usecase: UseCase,
    load: Callable[[], ScoringModel | None],
    counts: dict[str, int],
    external: bool,
) -> Iterator[dict[str, Any]]:
    model: ScoringModel | None = None
    is_loaded = False
    while batch := list(islice(rows, _BATCH)):
        counts["answered"] += len(batch)
        undecided = [row for row in batch if row.other_decision is None]
        if undecided and not is_loaded and not external:
            model, is_loaded = load(), True
        scores = {} if model is None else rescore(undecided, model)
        counts["rescored"] += len(scores)
        for row in batch:
            line = _line(row, usecase, *_restored(row, usecase, external, scores.get(row.event_id)))
            if line is not None:
                counts[line["direction"]] += 1
                yield line


def rescore(rows: list[LoggedAnswer], model: ScoringModel) -> dict[str, tuple[float, float]]:
    """Calibrated score and threshold of a version on logged features, by event id.

    Rows that lack a feature are left out.
    """
    scores: dict[str, tuple[float, float]] = {}
    plans: dict[tuple[str, ...], list[LoggedAnswer]] = {}
    for row in rows:
        if row.features is not None and set(model.plan.names) <= set(row.names):
            plans.setdefault(row.names, []).append(row)
    for names, group in plans.items():
        positions = [names.index(name) for name in model.plan.names]
        blob = b"".join(row.features or b"" for row in group)
        matrix = np.frombuffer(blob, dtype="<f4").reshape(len(group), len(names))
        model_scores = model.score(np.ascontiguousarray(matrix[:, positions]))
        cuts = np.full(len(group), model.threshold.value) if model_scores.cuts is None else model_scores.cuts
        ids = [row.event_id for row in group]
        scores |= dict(zip(ids, zip(model_scores.calibrated.tolist(), cuts.tolist(), strict=True), strict=True))
    return scores


def _restored(
    row: LoggedAnswer, usecase: UseCase, external: bool, rescored_values: tuple[float, float] | None
) -> tuple[str, float | None, float | None]:
    """How the restored one judges an event: by what, its score, its threshold."""
    if external and usecase.incumbent is not None:
        external_score = json.loads(row.body).get(usecase.incumbent.column)
        return (
            ("column", float(external_score), usecase.incumbent.threshold)
            if external_score is not None
            else ("nothing", None, None)
        )
    if row.other_decision is not None:
        return "shadow", row.other_score, row.other_threshold
    return ("nothing", None, None) if rescored_values is None else ("features", *rescored_values)


def _line(
    row: LoggedAnswer, usecase: UseCase, judged_by: str, score: float | None, cut: float | None
) -> dict[str, Any] | None:
    flag = row.other_decision if judged_by == "shadow" else None
    if flag is None and score is not None and cut is not None:
        flag = score >= cut
    if flag == row.decision:
        return None
    body = json.loads(row.body)
    event_fields = {name: body.get(name) for name in _event_columns(usecase)}
    direction = "unknown" if flag is None else "call" if row.decision else "review"
    return {
        "event_id": row.event_id, "event_time": row.event_time.isoformat(), "received_at": row.received_at.isoformat(),
        **event_fields, "score": row.score, "threshold": row.threshold, "decision": int(row.decision),
        "restored_score": score, "restored_threshold": cut, "restored_decision": None if flag is None else int(flag),
        "direction": direction, "judged_by": judged_by,
    }  # fmt: skip


def _event_columns(usecase: UseCase) -> list[str]:
    """Entities of the windows, the evaluation's entity, and the column that mistakes cost."""
    names = [f.entity for f in usecase.features if isinstance(f, WindowFeature)]
    names += [n for n in (usecase.evaluation.entity, usecase.cost.false_negative) if isinstance(n, str)]
    names += [c.name for c in usecase.columns if c.name == "amount"]
    return [name for name in dict.fromkeys(names) if name not in (usecase.event_id, usecase.event_time)]
