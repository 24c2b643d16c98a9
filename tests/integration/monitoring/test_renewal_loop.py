"""Retraining beside comparison in simulated time: real questions, real appointments, real verdicts, real promotions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bentos.promotion.promote import ReleaseContext, Request
from bentos.usecase.definition import UseCase
from flows.snapshots.store import SnapshotStore
from flows.steps.comparison.compare import compare, compared_models, retire_challenger
from flows.steps.drift.retraining_due import check_retraining
from monitoring.store import Report, Store, memory_store
from tests.integration.monitoring.test_comparison_plan import case
from tests.support.log.logged import START, at, label, scored, shadowed
from tests.support.release_requests import appoint, install_first
from tests.support.releases import MODEL, harmless, passed, promote, ref, registry_of

WEEK = 7
EVENTS = 60


@pytest.fixture
def store() -> Iterator[Store]:
    opened = memory_store()
    yield opened
    opened.close()


def patient(maturity: int) -> UseCase:
    usecase = case(min_matured_days=7, min_matured_positives=60)
    return usecase.model_copy(
        update={"label": usecase.label.model_copy(update={"matures_after": timedelta(days=maturity)})}
    )


@dataclass
class World:
    """A world that goes on drifting: a version catches less and less of what came after its training.

    A new version catches 85 % of the positives; after that it loses a percent a day. ``better`` says of each version
    whether its training was worth anything; a bad one catches what the one before it does.
    """

    store: Store
    usecase: UseCase
    folder: Path
    better: dict[int, bool]
    born: dict[int, int] = field(default_factory=lambda: {1: 0})
    office: int = 1
    challenger: int | None = None
    trained: list[int] = field(default_factory=list)
    verdicts: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.registry = registry_of(self.folder, versions=12)
        self.snapshots = SnapshotStore(self.folder / "snapshots")
        install_first(self.registry, self.store, passed("1"), **self._named(0))

    def live(self, days: int) -> None:
        for day in range(days):
            self._traffic(day)
            payload = {"alarm": {"band": "severe", "score_moved": True, "features": ["amount"]}, "performance": None}
            self.store.reports.add(Report("fraud", "drift", at(day + 1), "severe", payload, f"{MODEL}/{self.office}"))
            if day % WEEK == WEEK - 1:
                self._check_hosts(day + 1)
                self._ask(day + 1)

    def _traffic(self, day: int) -> None:
        rng = np.random.default_rng(day)
        numbers = range(day * EVENTS, (day + 1) * EVENTS)
        chance = {n: rng.random() for n in numbers}
        flags = {
            version: {n: n % 4 == 0 and chance[n] < self._recall(version, day) for n in numbers}
            for version in (self.office, self.challenger) if version is not None
        }  # fmt: skip
        body = b'{"customer_id":"c%d","amount":%d}'
        self.store.log.append(
            [
                scored(
                    n, day + 0.5, version=str(self.office), decision=flags[self.office][n], body=body % (n % 9, n % 90)
                )
                for n in numbers
            ]
        )
        if self.challenger is not None:
            theirs = flags[self.challenger]
            self.store.shadow.append([shadowed(n, version=str(self.challenger), decision=theirs[n]) for n in numbers])
        self.store.labels.add([label(n, 1, day + 2) for n in numbers if n % 4 == 0], self.usecase.label)

    def _recall(self, version: int, day: int) -> float:
        origin = version if self.better.get(version, True) else max(1, version - 1)
        return max(0.1, 0.85 - 0.01 * (day - self.born[origin]))

    def _ask(self, day: int) -> None:
        fold: Any = SimpleNamespace(metadata=SimpleNamespace(training_end=at(self.born[self.office] - 10).isoformat()))
        found = check_retraining(
            self.store, self.usecase, MODEL, at(day), f"{MODEL}/{self.office}", fold, busy=False
        )  # fmt: skip
        if not found.due:
            return
        assert self.challenger is None, "a retraining began beside a comparison"
        self.store.reports.add(Report("fraud", "retraining", at(day), "retrain", {}, f"{MODEL}/{self.office}"))
        self.challenger = max(self.born) + 1
        self.born[self.challenger] = day
        self.trained.append(day)
        appoint(self.registry, self.store, ref(str(self.challenger)), "challenger", reason="drift", **self._named(day))

    def _check_hosts(self, day: int) -> None:
        if self.challenger is None:
            return
        duel = compared_models(self.store, self.registry, self.usecase, MODEL, at(day))
        found = compare(self.store, self.usecase, self.snapshots, duel, at(day), "loop")
        context = ReleaseContext(self.registry, self.store, self.usecase, MODEL, harmless)
        if found.verdict.promotes:
            promote(self.registry, self.store, found.verdict, **self._named(day))
            self.verdicts.append((day, "promote"))
            self.office, self.challenger = self.challenger, None
        elif retire_challenger(context, found, Request("loop", "", at(day))):
            self.verdicts.append((day, "keep"))
            self.challenger = None

    def _named(self, day: int) -> dict[str, Any]:
        return {"usecase": self.usecase, "actor": "loop", "now": START + timedelta(days=day), "check": harmless}


def test_with_labels_of_45_days_and_a_question_each_week_verdicts_are_reached_and_the_loop_promotes(
    store: Store, tmp_path: Path
) -> None:
    world = World(store, patient(45), tmp_path, better={})
    world.live(280)
    assert [outcome for _, outcome in world.verdicts] == ["promote"] * len(world.verdicts)
    assert len(world.verdicts) >= 2
    assert world.office == len(world.verdicts) + 1
    # Every challenger but perhaps the last had its verdict before the next training, and no sooner than it can be.
    for begun, (ended, _), following in zip(world.trained, world.verdicts, [*world.trained[1:], 10**6], strict=False):
        assert begun + 45 + 7 <= ended <= following
    assert store.decisions.verify() == []


def test_a_retraining_that_is_worth_nothing_is_kept_out_and_the_next_one_has_its_turn(
    store: Store, tmp_path: Path
) -> None:
    usecase = patient(7)
    usecase = usecase.model_copy(update={"promotion": usecase.promotion.model_copy(update={"max_shadow_days": 28})})
    world = World(store, usecase, tmp_path, better={2: False})
    world.live(150)
    outcomes = [outcome for _, outcome in world.verdicts]
    assert outcomes[0] == "keep"
    assert "promote" in outcomes[1:]
    assert all(b - a >= 7 for a, b in pairwise(world.trained))
    assert store.decisions.verify() == []
