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
    SketchRegistry,
    Town,
    afterwards,
    always,
    version_folders,
)
from flows.drills.interleaving import Killed, Turns
from monitoring.store import Store, memory_store, open_store

Notice = Callable[[str], None]
Act = Callable[[Town], object]
Founder = Callable[[], Town]
_MOST_WRITES = 60
_MLFLOW_SHARE = 100
"""One interleaving in so many also runs on a real MLflow registry and a database file."""


def _promote_and_pin(town: Town) -> object:
    town.promote()
    return town.pin()


ROADS: tuple[tuple[Act | None, Act], ...] = (
    (None, Town.promote),
    (Town.promote, Town.rollback),
    (Town.promote, Town.pin),
    (_promote_and_pin, Town.reconcile),
    (None, Town.rush),
    (Town.rush, Town.expire),
    (Town.rush, Town.expire_cut_off),
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
        found = {"kill_points": self.kill_points, "interleavings": self.interleavings}
        said = {"what": self.violations[:20]} if self.violations else {}
        return {**found, "violations": len(self.violations), **said}


def drill_promotion(
    root: Path, tell: Notice, interleavings: int = 1000, mlflow: bool = True, repeats: bool = True
) -> dict[str, Any]:
    """Run the whole drill in a folder of its own.

    Args:
        root: emptied first.
        tell: hears of progress.
        interleavings: how many, most of them on a registry in memory.
        mlflow: also on MLflow and a database file: every kill point, and a hundredth of the interleavings.
        repeats: also let the same request, and not only a recovery, come after each death.
    """
    shutil.rmtree(root, ignore_errors=True)
    found = Findings()
    on_mlflow = max(1, interleavings // _MLFLOW_SHARE) if mlflow else 0
    with _quiet(), memory_world(root / "memory") as sketch:
        _kill_everywhere(sketch, found, repeats)
        tell(f"{found.kill_points} deaths")
        for seed in range(interleavings - on_mlflow):
            interleave(sketch(), seed, found)
            if seed % 50 == 0:
                tell(f"{seed} interleavings")
    if mlflow:
        with _quiet(), mlflow_world(root / "mlflow") as real:
            _kill_everywhere(real, found, repeats)
            for seed in range(on_mlflow):
                interleave(real(), seed, found)
    return found.to_json()


def _kill_everywhere(found_town: Founder, found: Findings, repeats: bool) -> None:
    for prepare, act in ROADS:
        for again in (None, act) if repeats else (None,):
            for writes in range(_MOST_WRITES):
                if not kill_once(found_town(), prepare, act, again, writes, found):
                    break
            else:
                found.violations.append(f"{act.__name__} never came through")


def kill_once(town: Town, prepare: Act | None, act: Act, again: Act | None, writes: int, found: Findings) -> bool:
    """Kill an act after so many writes and look at what is left; whether it died at all.

    Args:
        town: a new world.
        prepare: done before, in full.
        act: what dies.
        again: what its user does next, before any recovery; none leaves it to the recovery.
        writes: how many succeed.
        found: takes the findings.
    """
    if prepare is not None:
        prepare(town)
    try:
        act(town.seen_by(*_dies_after(writes)))
    except Killed:
        found.kill_points += 1
    else:
        town.store.close()
        return False
    wrong = always(town)
    town.leases_run_out()
    if again is not None:
        with contextlib.suppress(*REFUSALS):
            again(town)
        wrong += always(town)
    wrong += afterwards(town)
    found.violations += [f"{act.__name__} killed after {writes} writes: {one}" for one in wrong]
    town.store.close()
    return True


def interleave(town: Town, seed: int, found: Findings) -> None:
    """Two promoters, a rollback, a recovery and a stranger's hand, in the order of one seed."""
    chance = random.Random(seed)  # noqa: S311  # a schedule, not a secret
    wrong: list[str] = []
    hands: set[str] = set()

    def acting(act: Act, dies: int | None) -> Callable[[Callable[[], None]], object]:
        def run(turn: Callable[[], None]) -> object:
            fates = _dies_after(dies) if dies is not None else (lambda _: None, lambda _: None)

            def before(fate: Callable[[str], None]) -> Callable[[str], None]:
                def step(name: str) -> None:
                    turn()
                    wrong.extend(always(town, frozenset(hands)))
                    fate(name)

                return step

            return act(town.seen_by(before(fates[0]), before(fates[1])))

        return run

    def stranger(turn: Callable[[], None]) -> None:
        for _ in range(chance.randrange(60)):
            turn()
        hands.add("3")
        town.registry.point(MODEL, "champion", chance.choice(["1", "2", "3"]))

    def clock(turn: Callable[[], None]) -> None:
        """A process that is paused too long: its lease is gone when it wakes."""
        for _ in range(chance.randrange(120)):
            turn()
        town.leases_run_out()

    fates = [chance.choice([None, None, chance.randrange(20)]) for _ in range(4)]
    acts: list[Act] = [Town.promote, Town.promote, Town.rollback, Town.recover]
    running = [acting(act, fate) for act, fate in zip(acts, fates, strict=True)]
    others = [actor for actor in (stranger, clock) if chance.random() < 0.7]
    turns = Turns(seed, (*REFUSALS, Killed))
    turns.run([*running, *others])
    wrong += [*turns.failures, *afterwards(town)]
    found.interleavings += 1
    found.violations += [f"interleaving {seed}: {one}" for one in dict.fromkeys(wrong)]
    town.store.close()


def _dies_after(writes: int) -> tuple[Callable[[str], None], Callable[[str], None]]:
    """For the registry and the store: the process is dead once so many writes have been made."""
    left = writes

    def counting(names: frozenset[str]) -> Callable[[str], None]:
        def before(name: str) -> None:
            nonlocal left
            if left < 0 or (left == 0 and name in names):
                left = -1
                raise Killed
            left -= name in names

        return before

    return counting(REGISTRY_WRITES), counting(STORE_WRITES)


@contextlib.contextmanager
def memory_world(folder: Path) -> Iterator[Founder]:
    """Worlds whose registry and journal live in memory; the journal is SQLite's own."""
    folders = version_folders(folder)
    usecase = load_usecase("fraud")
    yield lambda: Town(SketchRegistry(folders), memory_store(), usecase).founded()


@contextlib.contextmanager
def mlflow_world(folder: Path) -> Iterator[Founder]:
    """Worlds with a real MLflow registry and a journal on a file; one registry, whose aliases are reset."""
    registry = MlflowRegistry(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    folders = version_folders(folder / "versions")
    registry.client.create_registered_model(MODEL)
    for place in folders.values():
        registry.client.create_model_version(MODEL, str(place))
    usecase = load_usecase("fraud")

    def found() -> Town:
        for role in registry.roles(MODEL):
            registry.clear(MODEL, role)
        return Town(registry, _file_store(folder), usecase).founded()

    yield found


def _file_store(folder: Path) -> Store:
    place = Path(tempfile.mkdtemp(dir=folder)) / "log.db"
    return open_store(f"sqlite:///{place}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the release's own words: here every second of them is meant to go wrong."""
    log = logging.getLogger("incumbent.release")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


__all__ = ["Findings", "drill_promotion", "interleave", "kill_once", "memory_world", "mlflow_world"]
