"""A drill: the champion changes a hundred times under load, and every answer must be by the version it names.

Changes go through the release journal like any other: an appointment and a promotion, or a rollback.
"""

from __future__ import annotations

import shutil
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from bentos.model.isolated_check import Verifier
from bentos.model.scoring_model import ScoringModel
from bentos.promotion.appointments import appoint, lift_bar
from bentos.promotion.evidence import write_verdict
from bentos.promotion.promote import ReleaseContext, Request, install_first, promote, rollback
from bentos.registry.mlflow import MlflowRegistry
from bentos.registry.ports import ModelRef, ModelRegistry
from bentos.schema.event_schema import EventSchema
from bentos.usecase.loading import load_usecase
from flows.drills.load.bodies import BodySpec
from flows.drills.load.homes import BenchHome
from flows.drills.load.load_generator import LoadRound
from flows.drills.load.models import fit_model, training_rows
from flows.drills.load.run_load import RecordedAnswer, RunningLoad, read_answers
from flows.drills.prediction_log import SMALL_WORLD, drain_spool
from flows.errors import StackError
from flows.workspace.processes import Child, free_port, stop_all
from monitoring.core.calendar import TimeWindow
from monitoring.core.verdict import Verdict
from monitoring.store import Store

ProgressCallback = Callable[[str], None]
FLIPS = 100
VERSIONS = 36
_ROLLBACK_EVERY = 10
_RATE = 200.0
_WAIT_SECONDS = 60.0
_ACTOR = "drill"
_ALL_TIME = TimeWindow(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


class WatchedRegistry:
    """The registry, which notes when ``@champion`` was moved to which version."""

    def __init__(self, real: MlflowRegistry) -> None:
        self.moves: list[tuple[float, str]] = []
        self._real = real

    def point(self, name: str, alias: str, version: str) -> None:
        """See :class:`bentos.registry.ports.ModelRegistry`."""
        self._real.point(name, alias, version)
        if alias == "champion":
            self.moves.append((time.time(), str(version)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@dataclass
class Changes:
    """Everything that moves roles in the drill; see :mod:`bentos.promotion.promote` for the errors.

    Attributes:
        home: whose roles.
        store: its database.
        refs: versions in the order in which they become champion for the first time.
        registry: notes each move of ``@champion``.
        verifier: looks at versions, warm.
        done: role changes so far.
    """

    home: BenchHome
    store: Store
    refs: Sequence[ModelRef]
    registry: WatchedRegistry = field(init=False)
    verifier: Verifier = field(default_factory=Verifier)
    done: int = 0

    def __post_init__(self) -> None:
        self.registry = WatchedRegistry(self.home.registry)
        self._schema = EventSchema.of(self.home.usecase).fingerprint
        self._at = datetime(2026, 3, 1, tzinfo=UTC)

    @property
    def port(self) -> ModelRegistry:
        """The registry as a release takes it."""
        return cast(ModelRegistry, self.registry)

    def now(self) -> datetime:
        """A later business time each time, so that no request is a repeat of another."""
        self._at += timedelta(seconds=1)
        return self._at

    def check(self, folder: Path) -> None:
        """Load a version in the warm process apart."""
        self.verifier.check(folder, self._schema)

    def install(self, ref: ModelRef) -> None:
        """The first champion."""
        verdict = Verdict("gate", "pass", (), ref.label, None, self.now())
        install_first(self._context, verdict, self._request())

    def appoint(self, ref: ModelRef) -> None:
        """Into shadow, under comparison."""
        appoint(self._context, ref.version, "challenger", self._request())

    @cached_property
    def _context(self) -> ReleaseContext:
        home = self.home
        return ReleaseContext(self.port, self.store, home.usecase, home.model, self.check, _WAIT_SECONDS)

    def _request(self, reason: str = "drill") -> Request:
        return Request(_ACTOR, reason, self.now())

    def promote(self, ref: ModelRef) -> None:
        """Through an appointment and a verdict, until every replica serves the new champion."""
        self.appoint(ref)
        self.promote_challenger(ref)

    def promote_challenger(self, ref: ModelRef) -> None:
        """Through a verdict on the challenger, until every replica serves it."""
        usecase, now = self.home.usecase, self.now()
        champion = self.registry.resolve(ref.name, "champion")
        verdict = Verdict("comparison", "promote", (), ref.label, champion.label, now, ("it is a drill",))
        write_verdict(self.store, usecase.name, verdict, _ACTOR, now)
        promote(self._context, verdict, Request(_ACTOR, "", now))
        self.done += 1

    def rollback(self) -> None:
        """Back to ``@previous``; the bar on the version that left is lifted, because this is a drill."""
        model = self.home.model
        old_champion = self.registry.resolve(model, "champion")
        rollback(self._context, self._request())
        request = self._request("the drill uses it again")
        lift_bar(self.store, self.home.usecase.name, model, old_champion.version, request)
        self.done += 1


def drill_swap(
    root: Path, report_progress: ProgressCallback, *, flips: int = FLIPS, versions: int = VERSIONS
) -> dict[str, Any]:
    """Change the champion under load and recompute every answer.

    Args:
        root: folder of the drill; emptied first.
        report_progress: told what happens.
        flips: role changes.
        versions: how many different ones take part; the service has seen one of them when the load starts.

    Returns:
        ``flips``, of which ``unseen`` were to versions that the worker had never served, ``requests``, ``failed``
        (no answer or no 200), ``mixed`` (a score or threshold that is not the named version's), ``slowest_s`` and
        ``median_s`` from the alias change to the first answer by the new champion.

    Raises:
        StackError: a change was not acknowledged in time.
    """
    start_time = time.monotonic()
    shutil.rmtree(root, ignore_errors=True)
    home = BenchHome(root / "home")
    home.home.make()
    report_progress("models")
    models = _models(versions)
    refs = [home.add(model) for model in models]
    record = root / "answers.txt"
    with home.store() as store:
        changes = Changes(home, store, refs)
        changes.install(refs[0])
        processes: list[Child] = []
        try:
            port = free_port()
            processes += [home.service(port), home.scribe(shadow=False)]
            processes[0].wait_ready()
            with RunningLoad(steady_load(port, record, "swap-")) as running:
                time.sleep(2.0)
                unseen = _flip(changes, flips, report_progress)
                time.sleep(2.0)
                figures = running.stop()
            drain_spool(home)
        finally:
            stop_all(processes)
            changes.verifier.close()
        answers = [answer for answer in read_answers(record) if answer.status == 200]
        mixed = count_mixed(store, home, dict(zip([r.version for r in refs], models, strict=True)), answers)
    waits = swap_waits(changes.registry.moves[1:], answers)
    return {
        "flips": changes.done,
        "unseen": unseen,
        "requests": figures.requests,
        "failed": figures.errors,
        "mixed": mixed,
        "slowest_s": round(max(waits), 3),
        "median_s": round(float(np.median(waits)), 3),
        "p99_ms": figures.p99_ms,
        "statuses": figures.statuses,
        "seconds": round(time.monotonic() - start_time, 1),
    }


def _models(count: int) -> list[ScoringModel]:
    """Small models whose scores and thresholds all differ."""
    usecase = load_usecase("fraud")
    features, y = training_rows(usecase, **SMALL_WORLD)
    return [fit_model(usecase, features, y, seed, trees=12, depth=3) for seed in range(1, count + 1)]


def steady_load(
    port: int, record: Path, ids: str, *, rate: float = _RATE, connections: int = 16, body: BodySpec | None = None
) -> LoadRound:
    """200 raw events a second until it is stopped; every answer is recorded."""
    spec = body or BodySpec("event", 200_000)
    return LoadRound(port, "/score", spec, connections, 0.0, 0.0, rate, ids, True, str(record), give_up=False)


def answering_version(answer: RecordedAnswer) -> str:
    """The version that an answer names."""
    return _DECODER.decode(answer.body).model.version


def _flip(changes: Changes, flips: int, report_progress: ProgressCallback) -> int:
    """All role changes; returns how many were to versions that had never been served."""
    order = itinerary(len(changes.refs), flips)
    served = {0}
    for number, next_version in enumerate(order):
        if next_version is None:
            changes.rollback()
        else:
            changes.promote(changes.refs[next_version])
            served.add(next_version)
        if number % 10 == 9:
            report_progress(f"{number + 1} of {flips} changes")
    return len(served) - 1


def itinerary(versions: int, flips: int) -> list[int | None]:
    """Which version becomes champion next; none is a rollback. New ones come every other time, until all were seen."""
    order: list[int | None] = []
    served_count, champion, previous, step = 1, 0, 0, 0
    for number in range(1, flips + 1):
        if number % _ROLLBACK_EVERY == 0 and order and order[-1] is not None:
            order.append(None)
            champion = previous
            continue
        if number % 2 and served_count < versions:
            next_version, served_count = served_count, served_count + 1
        else:
            others = [version for version in range(served_count) if version != champion]
            step += 1
            next_version = others[step % len(others)]
        order.append(next_version)
        champion, previous = next_version, champion
    return order


class _Model(msgspec.Struct):
    name: str
    version: str
    alias: str


class _DecodedAnswer(msgspec.Struct):
    event_id: str
    score: float
    decision: bool
    threshold: float
    model: _Model


_DECODER = msgspec.json.Decoder(_DecodedAnswer)


def count_mixed(
    store: Store, home: BenchHome, models: Mapping[str, ScoringModel], answers: Sequence[RecordedAnswer]
) -> int:
    """Answers whose score, decision or threshold is not what the version they name gives on the logged features."""
    decode = _DECODER.decode
    names, table = store.log.features(home.usecase.name, _ALL_TIME)
    rows = {event_id: row for row, event_id in enumerate(table["event_id"])}
    features = table[list(names)].to_numpy(np.float32)
    by_version: dict[str, list[_DecodedAnswer]] = {}
    for answer in answers:
        reply = decode(answer.body)
        by_version.setdefault(reply.model.version, []).append(reply)
    mismatches = 0
    for version, group in by_version.items():
        model = models.get(version)
        logged = [reply for reply in group if reply.event_id in rows]
        mismatches += len(group) - len(logged)
        if model is None:
            mismatches += len(logged)
            continue
        inputs = features[[rows[reply.event_id] for reply in logged]][
            :, [names.index(name) for name in model.plan.names]
        ]
        scores = model.score(np.ascontiguousarray(inputs)).calibrated.tolist()
        threshold = float(model.threshold.value)
        mismatches += sum(
            (reply.score, reply.threshold, reply.decision) != (score, threshold, score >= threshold)
            for reply, score in zip(logged, scores, strict=True)
        )
    return mismatches


def swap_waits(moves: Sequence[tuple[float, str]], answers: Sequence[RecordedAnswer]) -> list[float]:
    """Seconds from each move of ``@champion`` to the first answer by its version.

    Raises:
        StackError: a version never answered.
    """
    times: dict[str, list[float]] = {}
    for answer in answers:
        times.setdefault(answering_version(answer), []).append(answer.at)
    waits = []
    for moved_at, version in moves:
        later = times.get(version, [])
        index = bisect_left(later, moved_at)
        if index == len(later):
            raise StackError(f"version {version} became champion and never answered")
        waits.append(later[index] - moved_at)
    return waits
