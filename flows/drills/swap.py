"""A drill: the office changes hands a hundred times under load, and every answer must be by the version it names.

Changes go through the release journal like any other: an appointment and a promotion, or a rollback.
"""

from __future__ import annotations

import shutil
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from bentos.model.isolated_check import Verifier
from bentos.model.scoring_model import ScoringModel
from bentos.promotion.appointments import appoint, lift_bar
from bentos.promotion.evidence import enter_verdict
from bentos.promotion.promote import install_first, promote, rollback
from bentos.registry.mlflow import MlflowRegistry
from bentos.registry.ports import ModelRef, ModelRegistry
from bentos.schema.event_schema import EventSchema
from bentos.usecase.loading import load_usecase
from flows.drills.load.bodies import BodySpec
from flows.drills.load.homes import BenchHome
from flows.drills.load.load_generator import Load
from flows.drills.load.models import fit_model, training_rows
from flows.drills.load.run_load import Answer, RunningLoad, recorded
from flows.drills.prediction_log import SMALL_WORLD, drained
from flows.errors import StackError
from flows.workspace.processes import Child, free_port, stop_all
from monitoring.core.calendar import TimeWindow
from monitoring.core.verdict import Verdict
from monitoring.store import Store

Notice = Callable[[str], None]
FLIPS = 100
VERSIONS = 36
_ROLLBACK_EVERY = 10
_RATE = 200.0
_WAIT_SECONDS = 60.0
_ACTOR = "drill"
_EVER = TimeWindow(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


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
        refs: versions in the order in which they take office for the first time.
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
        install_first(
            self.port, self.store, verdict, usecase=self.home.usecase, actor=_ACTOR, now=self.now(), check=self.check
        )

    def appoint(self, ref: ModelRef) -> None:
        """Into shadow, under comparison."""
        appoint(
            self.port, self.store, ref, "challenger",
            usecase=self.home.usecase, actor=_ACTOR, now=self.now(), reason="drill", check=self.check,
        )  # fmt: skip

    def promote(self, ref: ModelRef) -> None:
        """Through an appointment and a verdict, until every replica serves the new champion."""
        self.appoint(ref)
        self.take_office(ref)

    def take_office(self, ref: ModelRef) -> None:
        """Through a verdict on the challenger, until every replica serves it."""
        usecase, now = self.home.usecase, self.now()
        champion = self.registry.resolve(ref.name, "champion")
        verdict = Verdict("comparison", "promote", (), ref.label, champion.label, now, ("it is a drill",))
        enter_verdict(self.store, usecase.name, verdict, _ACTOR, now)
        promote(
            self.port, self.store, verdict,
            usecase=usecase, actor=_ACTOR, now=now, wait_seconds=_WAIT_SECONDS, check=self.check,
        )  # fmt: skip
        self.done += 1

    def rollback(self) -> None:
        """Back to ``@previous``; the bar on the version that left is lifted, because this is a drill."""
        model, usecase = self.home.model, self.home.usecase
        left = self.registry.resolve(model, "champion")
        rollback(
            self.port, self.store, model, usecase, _ACTOR, "drill", self.now(),
            wait_seconds=_WAIT_SECONDS, check=self.check,
        )  # fmt: skip
        reason = "the drill uses it again"
        lift_bar(self.store, model, left.version, usecase=usecase.name, actor=_ACTOR, now=self.now(), reason=reason)
        self.done += 1


def drill_swap(root: Path, notice: Notice, *, flips: int = FLIPS, versions: int = VERSIONS) -> dict[str, Any]:
    """Change the office under load and recompute every answer.

    Args:
        root: folder of the drill; emptied first.
        notice: told what happens.
        flips: role changes.
        versions: how many different ones take part; the service has seen one of them when the load starts.

    Returns:
        ``flips``, of which ``unseen`` were to versions that the worker had never served, ``requests``, ``failed``
        (no answer or no 200), ``mixed`` (a score or threshold that is not the named version's), ``slowest_s`` and
        ``median_s`` from the alias change to the first answer by the new champion.

    Raises:
        StackError: a change was not acknowledged in time.
    """
    started = time.monotonic()
    shutil.rmtree(root, ignore_errors=True)
    home = BenchHome(root / "home")
    home.home.make()
    notice("models")
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
                unseen = _flip(changes, flips, notice)
                time.sleep(2.0)
                measured = running.stop()
            drained(home)
        finally:
            stop_all(processes)
            changes.verifier.close()
        answers = [answer for answer in recorded(record) if answer.status == 200]
        mixed = count_mixed(store, home, dict(zip([r.version for r in refs], models, strict=True)), answers)
    waits = waits_of(changes.registry.moves[1:], answers)
    return {
        "flips": changes.done,
        "unseen": unseen,
        "requests": measured.requests,
        "failed": measured.errors,
        "mixed": mixed,
        "slowest_s": round(max(waits), 3),
        "median_s": round(float(np.median(waits)), 3),
        "p99_ms": measured.p99_ms,
        "statuses": measured.statuses,
        "seconds": round(time.monotonic() - started, 1),
    }


def _models(count: int) -> list[ScoringModel]:
    """Small models whose scores and thresholds all differ."""
    usecase = load_usecase("fraud")
    features, y = training_rows(usecase, **SMALL_WORLD)
    return [fit_model(usecase, features, y, seed, trees=12, depth=3) for seed in range(1, count + 1)]


def steady_load(
    port: int, record: Path, ids: str, *, rate: float = _RATE, connections: int = 16, body: BodySpec | None = None
) -> Load:
    """200 raw events a second until it is stopped; every answer is recorded."""
    sent = body or BodySpec("event", 200_000)
    return Load(port, "/score", sent, connections, 0.0, 0.0, rate, ids, True, str(record), give_up=False)


def said_by(answer: Answer) -> str:
    """The version that an answer names."""
    return _SAID.decode(answer.body).model.version


def _flip(changes: Changes, flips: int, notice: Notice) -> int:
    """All role changes; returns how many were to versions that had never been served."""
    order = itinerary(len(changes.refs), flips)
    seen = {0}
    for number, wanted in enumerate(order):
        if wanted is None:
            changes.rollback()
        else:
            changes.promote(changes.refs[wanted])
            seen.add(wanted)
        if number % 10 == 9:
            notice(f"{number + 1} of {flips} changes")
    return len(seen) - 1


def itinerary(versions: int, flips: int) -> list[int | None]:
    """Which version takes office next; none is a rollback. New ones come every other time, until all were seen."""
    order: list[int | None] = []
    seen, here, before, turn = 1, 0, 0, 0
    for number in range(1, flips + 1):
        if number % _ROLLBACK_EVERY == 0 and order and order[-1] is not None:
            order.append(None)
            here = before
            continue
        if number % 2 and seen < versions:
            wanted, seen = seen, seen + 1
        else:
            known = [version for version in range(seen) if version != here]
            turn += 1
            wanted = known[turn % len(known)]
        order.append(wanted)
        here, before = wanted, here
    return order


class _Model(msgspec.Struct):
    name: str
    version: str
    alias: str


class _Said(msgspec.Struct):
    event_id: str
    score: float
    decision: bool
    threshold: float
    model: _Model


_SAID = msgspec.json.Decoder(_Said)


def count_mixed(store: Store, home: BenchHome, models: Mapping[str, ScoringModel], answers: Sequence[Answer]) -> int:
    """Answers whose score, decision or threshold is not what the version they name gives on the logged features."""
    decode = _SAID.decode
    names, table = store.log.features(home.usecase.name, _EVER)
    rows = {event_id: place for place, event_id in enumerate(table["event_id"])}
    features = table[list(names)].to_numpy(np.float32)
    by_version: dict[str, list[_Said]] = {}
    for answer in answers:
        said = decode(answer.body)
        by_version.setdefault(said.model.version, []).append(said)
    wrong = 0
    for version, group in by_version.items():
        model = models.get(version)
        known = [said for said in group if said.event_id in rows]
        wrong += len(group) - len(known)
        if model is None:
            wrong += len(known)
            continue
        own = features[[rows[said.event_id] for said in known]][:, [names.index(name) for name in model.plan.names]]
        scores = model.score(np.ascontiguousarray(own)).calibrated.tolist()
        cut = float(model.threshold.value)
        wrong += sum(
            (said.score, said.threshold, said.decision) != (score, cut, score >= cut)
            for said, score in zip(known, scores, strict=True)
        )
    return wrong


def waits_of(moves: Sequence[tuple[float, str]], answers: Sequence[Answer]) -> list[float]:
    """Seconds from each move of ``@champion`` to the first answer by its version.

    Raises:
        StackError: a version never answered.
    """
    times: dict[str, list[float]] = {}
    for answer in answers:
        times.setdefault(said_by(answer), []).append(answer.at)
    waits = []
    for at, version in moves:
        later = times.get(version, [])
        place = bisect_left(later, at)
        if place == len(later):
            raise StackError(f"version {version} took office and never answered")
        waits.append(later[place] - at)
    return waits
