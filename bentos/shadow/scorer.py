"""Score models in shadow on the logged features, each in a process of its own.

Challenger, ``@previous`` and champion are all due to score every event that another version answered
since they took their role, so pairs are complete whoever answers. What a model does wrong (an error,
a NaN, a crash, no answer in time) is stored as its answer to those events and held against it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bentos.errors import IncumbentError, RegistryUnavailable
from bentos.registry.cache import ModelCache
from bentos.registry.ports import ModelRef, ModelRegistry, Role
from bentos.shadow.channel import ChildFailed, Failed, ModelChild, Scored
from monitoring.errors import StoreError, StoreUnavailable
from monitoring.store import ShadowRecord, Store
from monitoring.store.predictions.log import unpack_features
from monitoring.store.predictions.shadow_scores import NOT_LOGGED, PendingRow

log = logging.getLogger("incumbent.shadow")

SHADOW_ROLES: Final[tuple[Role, ...]] = ("challenger", "previous", "champion")
_ROLE_SECONDS: Final = 1.0
_ADVANCE_SECONDS: Final = 10.0
_FIRST_BACKOFF: Final = 1.0
_LONGEST_BACKOFF: Final = 60.0


@dataclass
class _ShadowModel:
    """One model in shadow and its process, if that runs."""

    ref: ModelRef
    role: Role
    child: ModelChild | None = None
    failures: int = 0
    not_before: float = 0.0
    advance_at: float = 0.0
    after: int = 0  # rows up to here were looked at; the watch's own place moves every 10 s only
    positions: dict[str, NDArray[np.intp] | None] = field(default_factory=dict)

    def give_up(self) -> None:
        """End the process and wait longer each time before the next one."""
        if self.child is not None:
            self.child.close()
        self.child = None
        self.failures += 1
        self.not_before = time.monotonic() + min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** (self.failures - 1))


@dataclass(frozen=True)
class ShadowResult:
    """What one round did: rows scored, rows at which a model failed, processes lost; ``full`` if more is waiting."""

    scored: int = 0
    errors: int = 0
    failures: int = 0
    full: bool = False

    def __add__(self, other: ShadowResult) -> ShadowResult:
        return ShadowResult(
            self.scored + other.scored,
            self.errors + other.errors,
            self.failures + other.failures,
            self.full or other.full,
        )


@dataclass(frozen=True)
class ChildLimits:
    """How the processes of the models are run.

    Attributes:
        loader: ``module:function`` that loads a model in the child.
        chunk: rows of one request.
        score_seconds: longest time for one request.
    """

    loader: str = "bentos.shadow.worker:load_model"
    chunk: int = 1000
    score_seconds: float = 5.0


class ShadowScorer:
    """Scores what is pending for every watched role. Not thread-safe; close it when done.

    Args:
        store: the log.
        registry: who holds which role.
        usecase: name in the log.
        model: name in the registry.
        cache: folder for copies of model files.
        limits: of the models' processes.
    """

    def __init__(
        self,
        store: Store,
        registry: ModelRegistry,
        usecase: str,
        model: str,
        cache: Path,
        limits: ChildLimits | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._usecase = usecase
        self._model = model
        self._cache = ModelCache(cache)
        self._limits = limits or ChildLimits()
        self._targets: dict[ModelRef, _ShadowModel] = {}
        self._looked = -_ROLE_SECONDS
        self._names: dict[str, tuple[str, ...]] = {}

    def run_once(self) -> ShadowResult:
        """Score one chunk for every model that is due.

        Raises:
            StoreUnavailable: what was not stored is scored again.
        """
        self._update_targets()
        return sum((self._serve(target) for target in list(self._targets.values())), ShadowResult())

    def close(self) -> None:
        """End every process."""
        for target in self._targets.values():
            if target.child is not None:
                target.child.close()
        self._targets.clear()

    def _update_targets(self) -> None:
        if time.monotonic() - self._looked < _ROLE_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            roles = self._registry.roles(self._model)
        except RegistryUnavailable as exc:
            log.warning("the registry cannot be asked for roles: %s", exc)
            return
        role_by_ref: dict[ModelRef, Role] = {roles[role]: role for role in reversed(SHADOW_ROLES) if role in roles}
        for ref in self._targets.keys() - role_by_ref.keys():
            target = self._targets.pop(ref)
            if target.child is not None:
                target.child.close()
        for ref, role in role_by_ref.items():
            if ref not in self._targets:
                self._store.shadow.watch(self._usecase, ref.label)
                self._targets[ref] = _ShadowModel(ref, role)
            self._targets[ref].role = role

    def _serve(self, target: _ShadowModel) -> ShadowResult:
        if time.monotonic() < target.not_before:
            return ShadowResult()
        if time.monotonic() >= target.advance_at:
            # Now and then from the start: a row may become visible after a later one.
            target.advance_at, target.after = time.monotonic() + _ADVANCE_SECONDS, 0
            self._store.shadow.advance(self._usecase, target.ref.label)
        newest = self._store.shadow.newest_row()
        rows = self._store.shadow.pending(self._usecase, target.ref.label, self._limits.chunk, target.after)
        after = rows[-1].row_id if len(rows) == self._limits.chunk else newest
        if not rows:
            target.after = after
            return ShadowResult()
        child = self._child(target)
        if child is None:
            return ShadowResult(failures=1)
        records, failures = self._score(target, child, rows)
        self._store.shadow.append(records)
        target.after = after if len(records) == len(rows) else target.after
        errors = sum(record.error is not None for record in records)
        return ShadowResult(len(records) - errors, errors, failures, full=len(rows) == self._limits.chunk)

    def _child(self, target: _ShadowModel) -> ModelChild | None:
        """The seat's process; none when it cannot be had now (its rows stay pending)."""
        if target.child is not None:
            return target.child
        try:
            folder, digest = self._cache.fetch(self._registry, target.ref)
            target.child = ModelChild(folder, digest, self._limits.loader, score_seconds=self._limits.score_seconds)
        except (ChildFailed, IncumbentError, OSError) as exc:
            log.error("%s cannot be loaded for its shadow: %s", target.ref.label, type(exc).__name__)
            target.give_up()
            return None
        target.positions.clear()
        return target.child

    def _score(
        self, target: _ShadowModel, child: ModelChild, rows: Sequence[PendingRow]
    ) -> tuple[list[ShadowRecord], int]:
        """Records for the rows that could be answered, and how many processes were lost on the way."""
        records: list[ShadowRecord] = []
        failures = 0
        for plan_id in dict.fromkeys(row.plan_id for row in rows):
            plan_rows = [row for row in rows if row.plan_id == plan_id]
            features = self._features(target, child, plan_id, plan_rows)
            if features is None:
                records += self._failure_records(target, plan_rows, NOT_LOGGED)
                continue
            try:
                reply = child.score(features)
            except ChildFailed as exc:
                log.error("%s in shadow: the process %s", target.ref.label, exc.kind)
                failures += 1
                target.give_up()
                records += self._failure_records(target, plan_rows, exc.kind)
                break  # the rest stays pending for the next process
            if isinstance(reply, Failed):
                records += self._failure_records(target, plan_rows, f"raised_{reply.kind}")
            else:
                target.failures = 0
                records += self._score_records(target, child.threshold, plan_rows, reply)
        return records, failures

    def _features(
        self, target: _ShadowModel, child: ModelChild, plan_id: str, rows: Sequence[PendingRow]
    ) -> NDArray[np.float32] | None:
        """The model's own columns, by name, out of the logged union; none when one was not logged."""
        try:
            if plan_id not in self._names:
                self._names[plan_id] = self._store.log.plan_names(plan_id)
            if plan_id not in target.positions:
                target.positions[plan_id] = _positions(child.names, self._names[plan_id])
            table = unpack_features([row.features for row in rows], len(self._names[plan_id]))
        except StoreUnavailable:
            raise
        except StoreError:
            return None
        positions = target.positions[plan_id]
        return None if positions is None else np.ascontiguousarray(table[:, positions])

    def _score_records(
        self, target: _ShadowModel, threshold: float, rows: Sequence[PendingRow], reply: Scored
    ) -> Iterable[ShadowRecord]:
        raw = np.frombuffer(reply.raw, dtype=np.float32).astype(np.float64)
        calibrated = np.frombuffer(reply.calibrated, dtype=np.float64)
        flags = np.frombuffer(reply.flags, dtype=np.bool_)
        cuts = np.frombuffer(reply.cuts, dtype=np.float64) if reply.cuts else np.full(len(rows), threshold)
        if not len(raw) == len(calibrated) == len(flags) == len(cuts) == len(rows):
            return self._failure_records(target, rows, "wrong_length")
        is_probability = (raw >= 0) & (raw <= 1) & (calibrated >= 0) & (calibrated <= 1)  # NaN is neither
        values = zip(rows, *(part.tolist() for part in (raw, calibrated, cuts, flags, is_probability)), strict=True)
        now = _now_us()
        return [
            self._record(target, row, now, r, c, cut, flag)
            if is_valid
            else self._record(target, row, now, error="not_a_probability")
            for row, r, c, cut, flag, is_valid in values
        ]

    def _failure_records(self, target: _ShadowModel, rows: Sequence[PendingRow], error: str) -> list[ShadowRecord]:
        now = _now_us()
        return [self._record(target, row, now, error=error) for row in rows]

    def _record(
        self,
        target: _ShadowModel,
        row: PendingRow,
        now: int,
        raw: float | None = None,
        score: float | None = None,
        threshold: float | None = None,
        decision: bool | None = None,
        error: str | None = None,
    ) -> ShadowRecord:
        name, version, role = target.ref.name, target.ref.version, target.role
        return ShadowRecord(
            self._usecase, row.event_id, name, version, role, raw, score, threshold, decision, error, now
        )


def _positions(names: Sequence[str], logged_names: Sequence[str]) -> NDArray[np.intp] | None:
    index_by_name = {name: index for index, name in enumerate(logged_names)}
    if any(name not in index_by_name for name in names):
        return None
    return np.array([index_by_name[name] for name in names], dtype=np.intp)


def _now_us() -> int:
    return time.time_ns() // 1000
