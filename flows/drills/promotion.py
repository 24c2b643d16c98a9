"""A drill: releases whose process dies after any write, and releases that meet each other and a stranger's hand.

``kill_points`` counts the deaths. Promotion, rollback, a rollback that pins without a registry, its reconciliation,
an emergency and its end by itself, with and without a registry, are killed after every single write they make, and
what is left is brought to an end once by a recovery and once by the same request. Each
interleaving runs two promoters, a rollback, a recovery and a hand that moves the alias, one call at a
time in an order that its number decides; some of the processes die on the way, and leases run out
under others. After each of them the same things must hold; see :mod:`flows.drills.fake_registry`.
"""

from __future__ import annotations

import contextlib
import logging
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bentos.registry.mlflow import MlflowRegistry
from bentos.usecase.loading import load_usecase
from flows.drills.fake_registry import (
    MODEL,
    REFUSALS,
    REGISTRY_WRITES,
    STORE_WRITES,
    DrillWorld,
    SketchRegistry,
    broken_invariants,
    recover_and_check,
    version_folders,
)
from flows.drills.interleaving import ActorScheduler, Killed
from monitoring.store import Store, memory_store, open_store

ProgressCallback = Callable[[str], None]
Act = Callable[[DrillWorld], object]
WorldFactory = Callable[[], DrillWorld]
_MOST_WRITES = 60
_MLFLOW_SHARE = 100
"""One interleaving in so many also runs on a real MLflow registry and a database file."""


def _promote_and_pin(world: DrillWorld) -> object:
    world.promote()
    return world.pin()


RELEASE_PATHS: tuple[tuple[Act | None, Act], ...] = (
    (None, DrillWorld.promote),
    (DrillWorld.promote, DrillWorld.rollback),
    (DrillWorld.promote, DrillWorld.pin),
    (_promote_and_pin, DrillWorld.reconcile),
    (None, DrillWorld.rush),
    (DrillWorld.rush, DrillWorld.expire),
    (DrillWorld.rush, DrillWorld.expire_cut_off),
)
"""What is done before, and what dies after every single write."""


@dataclass
class Findings:
    """What the drill counted, and every violation in words."""

    kill_points: int = 0
    interleavings: int = 0
    violations: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The published figures; violations are words only where there are any."""
        figures = {"kill_points": self.kill_points, "interleavings": self.interleavings}
        details = {"what": self.violations[:20]} if self.violations else {}
        return {**figures, "violations": len(self.violations), **details}


def drill_promotion(
    root: Path, report_progress: ProgressCallback, interleavings: int = 1000, mlflow: bool = True, repeats: bool = True
) -> dict[str, Any]:
    """Run the whole drill in a folder of its own.

    Args:
        root: emptied first.
        report_progress: hears of progress.
        interleavings: how many, most of them on a registry in memory.
        mlflow: also on MLflow and a database file: every kill point, and a hundredth of the interleavings.
        repeats: also let the same request, and not only a recovery, come after each death.
    """
    shutil.rmtree(root, ignore_errors=True)
    findings = Findings()
    on_mlflow = max(1, interleavings // _MLFLOW_SHARE) if mlflow else 0
    with _silence_release_log(), memory_world(root / "memory") as sketch:
        _kill_everywhere(sketch, findings, repeats)
        report_progress(f"{findings.kill_points} deaths")
        for seed in range(interleavings - on_mlflow):
            interleave(sketch(), seed, findings)
            if seed % 50 == 0:
                report_progress(f"{seed} interleavings")
    if mlflow:
        with _silence_release_log(), mlflow_world(root / "mlflow") as real:
            _kill_everywhere(real, findings, repeats)
            for seed in range(on_mlflow):
                interleave(real(), seed, findings)
    return findings.to_json()


def _kill_everywhere(make_world: WorldFactory, findings: Findings, repeats: bool) -> None:
    for prepare, act in RELEASE_PATHS:
        for repeat in (None, act) if repeats else (None,):
            for writes in range(_MOST_WRITES):
                if not kill_once(make_world(), prepare, act, repeat, writes, findings):
                    break
            else:
                findings.violations.append(f"{act.__name__} never came through")


def kill_once(
    world: DrillWorld, prepare: Act | None, act: Act, repeat: Act | None, writes: int, findings: Findings
) -> bool:
    """Kill an act after so many writes and look at what is left; whether it died at all.

    Args:
        world: a new world.
        prepare: done before, in full.
        act: what dies.
        repeat: what its user does next, before any recovery; none leaves it to the recovery.
        writes: how many succeed.
        findings: takes the findings.
    """
    if prepare is not None:
        prepare(world)
    try:
        act(world.with_hooks(*_dies_after(writes)))
    except Killed:
        findings.kill_points += 1
    else:
        world.store.close()
        return False
    violations = broken_invariants(world)
    world.expire_leases()
    if repeat is not None:
        with contextlib.suppress(*REFUSALS):
            repeat(world)
        violations += broken_invariants(world)
    violations += recover_and_check(world)
    findings.violations += [f"{act.__name__} killed after {writes} writes: {violation}" for violation in violations]
    world.store.close()
    return True


def interleave(world: DrillWorld, seed: int, findings: Findings) -> None:
    """Two promoters, a rollback, a recovery and a stranger's hand, in the order of one seed."""
    rng = random.Random(seed)  # noqa: S311  # a schedule, not a secret
    violations: list[str] = []
    hands: set[str] = set()

    def acting(act: Act, dies: int | None) -> Callable[[Callable[[], None]], object]:
        def run(turn: Callable[[], None]) -> object:
            fates = _dies_after(dies) if dies is not None else (lambda _: None, lambda _: None)

            def before(fate: Callable[[str], None]) -> Callable[[str], None]:
                def step(name: str) -> None:
                    turn()
                    violations.extend(broken_invariants(world, frozenset(hands)))
                    fate(name)

                return step

            return act(world.with_hooks(before(fates[0]), before(fates[1])))

        return run

    def stranger(turn: Callable[[], None]) -> None:
        for _ in range(rng.randrange(60)):
            turn()
        hands.add("3")
        world.registry.point(MODEL, "champion", rng.choice(["1", "2", "3"]))

    def clock(turn: Callable[[], None]) -> None:
        """A process that is paused too long: its lease is gone when it wakes."""
        for _ in range(rng.randrange(120)):
            turn()
        world.expire_leases()

    fates = [rng.choice([None, None, rng.randrange(20)]) for _ in range(4)]
    acts: list[Act] = [DrillWorld.promote, DrillWorld.promote, DrillWorld.rollback, DrillWorld.recover]
    running = [acting(act, fate) for act, fate in zip(acts, fates, strict=True)]
    others = [actor for actor in (stranger, clock) if rng.random() < 0.7]
    turns = ActorScheduler(seed, (*REFUSALS, Killed))
    turns.run([*running, *others])
    violations += [*turns.failures, *recover_and_check(world)]
    findings.interleavings += 1
    findings.violations += [f"interleaving {seed}: {violation}" for violation in dict.fromkeys(violations)]
    world.store.close()


def _dies_after(writes: int) -> tuple[Callable[[str], None], Callable[[str], None]]:
    """For the registry and the store: the process is dead once so many writes have been made."""
    remaining = writes

    def counting(names: frozenset[str]) -> Callable[[str], None]:
        def before(name: str) -> None:
            nonlocal remaining
            if remaining < 0 or (remaining == 0 and name in names):
                remaining = -1
                raise Killed
            remaining -= name in names

        return before

    return counting(REGISTRY_WRITES), counting(STORE_WRITES)


@contextlib.contextmanager
def memory_world(folder: Path) -> Iterator[WorldFactory]:
    """Worlds whose registry and journal live in memory; the journal is SQLite's own."""
    folders = version_folders(folder)
    usecase = load_usecase("fraud")
    yield lambda: DrillWorld(SketchRegistry(folders), memory_store(), usecase).with_roles()


@contextlib.contextmanager
def mlflow_world(folder: Path) -> Iterator[WorldFactory]:
    """Worlds with a real MLflow registry and a journal on a file; one registry, whose aliases are reset."""
    registry = MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    folders = version_folders(folder / "versions")
    registry.client.create_registered_model(MODEL)
    for version_folder in folders.values():
        registry.client.create_model_version(MODEL, str(version_folder))
    usecase = load_usecase("fraud")

    def make_world() -> DrillWorld:
        for role in registry.roles(MODEL):
            registry.clear(MODEL, role)
        return DrillWorld(registry, _file_store(folder), usecase).with_roles()

    yield make_world


def _file_store(folder: Path) -> Store:
    path = Path(tempfile.mkdtemp(dir=folder)) / "log.db"
    return open_store(f"sqlite:///{path}")


@contextlib.contextmanager
def _silence_release_log() -> Iterator[None]:
    """Without the release's own words: here every second of them is meant to go wrong."""
    log = logging.getLogger("incumbent.release")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


__all__ = ["Findings", "drill_promotion", "interleave", "kill_once", "memory_world", "mlflow_world"]
