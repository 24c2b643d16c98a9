"""Training on the log of a use case that blocks: what was let through by chance stands for what was not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bentos.model.calibration import Floats
from bentos.model.scoring_model import ModelMetadata, ScoringModel
from bentos.usecase.definition import UseCase
from flows.snapshots.store import SnapshotStore
from flows.sources import SourceRead, open_source
from flows.steps.data.folds import Fold, TrainingHistory, build_fold
from flows.steps.data.split import Split
from flows.steps.evaluation.evaluate import ScoredFold, score_fold
from flows.steps.evaluation.judge import weight_notes
from flows.steps.fitting.build import Recipe, build_model
from flows.steps.training.training_data import training_plan
from monitoring.core.calendar import TimeWindow
from monitoring.store import Store, memory_store
from monitoring.store.database.frames import encode_bodies, to_us
from monitoring.store.database.records import ActionRecord, LabelRecord, ScoreRecord
from tests.support.builders import card_event, card_frame, case, case_data

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS, ROWS, SHARE = 24, 24_000, 0.2
EVERY = TimeWindow(START, START + timedelta(days=DAYS))
CUT = [START + timedelta(days=d) for d in (0, 10, 18, DAYS)]
TRAIN, CALIBRATION, TEST = (TimeWindow(a, b) for a, b in pairwise(CUT))
LATER = EVERY.end + timedelta(days=30)


def usecase(blocks: bool, **intervention: object) -> UseCase:
    """Two columns decide; what the old model flags by, the number of items, is no feature of the new one."""
    return case(
        features=[{"name": n, "kind": "column", "column": n} for n in ("amount", "fee")],
        label=case_data()["label"] | {"absent_after_maturity": "negative"},
        cost={"false_negative": 20.0, "false_positive": 1.0},
        capacity={"alerts_per_day": 1000},
        intervention={"blocks_flagged": True, "exploration_share": SHARE, **intervention} if blocks else {},
    )  # fmt: skip


@dataclass(frozen=True)
class Traffic:
    """Events with their truth, what the old model flagged, and whom the draw let through."""

    events: pd.DataFrame
    y: np.ndarray
    flagged: np.ndarray
    drawn: np.ndarray


@cache
def traffic() -> Traffic:
    rng = np.random.default_rng(5)
    one = card_frame(card_event(1))
    amount, items, fee = rng.uniform(0, 1000, ROWS), rng.integers(1, 51, ROWS), rng.uniform(0, 1, ROWS)
    events = pd.concat([one] * ROWS, ignore_index=True).assign(
        id=[f"e{n:06d}" for n in range(ROWS)], amount=amount, items=items, fee=fee,
        at=pd.Series(pd.date_range(EVERY.start, EVERY.end, ROWS + 1, inclusive="left")).dt.as_unit("us"),
    )  # fmt: skip
    # Fraud grows with the amount, and where there are many items it is five times as frequent.
    chance = (0.01 + 0.12 * (amount > 500)) * np.where(items > 35, 5.0, 1.0)
    return Traffic(events, rng.random(ROWS) < chance, (items > 35) & (amount > 500), rng.random(ROWS) < SHARE)


def logged(blocks: bool, store: Store | None = None) -> Store:
    """What the log holds of the traffic: all labels, or none of what was blocked."""
    made, store = traffic(), store or memory_store()
    asked = np.where(made.flagged, np.where(made.drawn, "explore", "block"), "let_through") if blocks else [None] * ROWS
    chance = np.where(made.flagged, SHARE, 1.0)
    times = made.events["at"].dt.as_unit("us").astype("int64")
    rows = zip(made.events["id"], times, encode_bodies(made.events), made.flagged, asked, chance, strict=True)
    store.log.append([
        ScoreRecord(
            "cards", name, at, at, "live", body, model="dev-cards", version="1", alias="champion", raw_score=0.1,
            score=0.1, threshold=0.5, decision=bool(flag), action=act, propensity=float(p) if blocks else None,
        )
        for name, at, body, flag, act, p in rows
    ])  # fmt: skip
    known = made.y & (~made.flagged | made.drawn) if blocks else made.y
    told = zip(made.events["id"][known], times[known], strict=True)
    seen = [LabelRecord("cards", name, 1, at + 1, "chargeback", at + 1) for name, at in told]
    store.labels.add(seen, usecase(blocks).label)
    return store


def read_of(store: Store, case_: UseCase) -> SourceRead:
    return open_source(case_, "log", store=store).read(EVERY, LATER)


@dataclass(frozen=True)
class Trained:
    case: UseCase
    model: ScoringModel
    folds: tuple[Fold, Fold, Fold]
    judged: ScoredFold


def trained(case_: UseCase, read: SourceRead) -> Trained:
    known = TrainingHistory.at(case_, read.events, read.labels, read.revisions, LATER)
    plan = training_plan(case_, known, Split(TRAIN, CALIBRATION, TEST, TRAIN, TEST))
    every = build_fold(case_, plan, known, EVERY)
    folds = (every.between("train", TRAIN), every.between("calibration", CALIBRATION), every.between("test", TEST))
    model = build_model(Recipe(case_, plan, 3), folds[0], folds[1], folds[1], ModelMetadata("cards"))
    return Trained(case_, model, folds, score_fold(model, folds[2]))


@cache
def worlds() -> dict[str, Trained]:
    """Models of the unblocked world, and of the blocked one with and without weights."""
    with_all, with_some = logged(blocks=False), logged(blocks=True)
    blocked = read_of(with_some, usecase(blocks=True))
    alike = replace(blocked, labels=blocked.labels.drop(columns="weight"))
    found = {
        "unblocked": trained(usecase(blocks=False), read_of(with_all, usecase(blocks=False))),
        "weighted": trained(usecase(blocks=True), blocked),
        "unweighted": trained(usecase(blocks=True), alike),
    }
    with_all.close()
    with_some.close()
    return found


def figure(world: str, name: str) -> float:
    made = worlds()[world]
    value = made.judged.performance(made.case, 3).value(name)
    assert value is not None
    return value


def expected_above(made: Trained) -> tuple[float, float]:
    """Share of frauds among ALL events of the test window with an amount above 500: said by the model, and true."""
    everything, world = worlds()["unblocked"].folds[2], traffic()
    above = everything.features[:, 0] > 500.0
    said: Floats = made.model.score(everything.features).calibrated
    assert len(world.events) == ROWS
    return float(said[above].mean()), float(everything.y[above].mean())


def test_the_weighted_prevalence_is_that_of_the_unblocked_world_and_the_unweighted_is_not() -> None:
    truth = figure("unblocked", "prevalence")
    assert figure("weighted", "prevalence") == pytest.approx(truth, rel=0.08)
    assert figure("unweighted", "prevalence") < 0.65 * truth


def test_above_the_threshold_the_weighted_model_is_calibrated_on_all_events_and_the_unweighted_is_not() -> None:
    weighted, truth = expected_above(worlds()["weighted"])
    # The calibrator saw about 120 explored events, two thirds of them frauds: one standard error is 5 %.
    assert weighted == pytest.approx(truth, rel=0.15)
    assert expected_above(worlds()["unweighted"])[0] < 0.65 * truth


@pytest.mark.parametrize("name", ["precision", "alert_rate", "average_precision", "auc_roc", "brier", "cost"])
def test_figures_of_the_gates_are_those_of_the_unblocked_world(name: str) -> None:
    """Within what a fifth of the flagged events can say; the calibrators differ too."""
    assert figure("weighted", name) == pytest.approx(figure("unblocked", name), rel=0.15)


def test_the_interval_of_a_weighted_figure_holds_the_figure_of_the_unblocked_world() -> None:
    made = worlds()["weighted"]
    found = made.judged.performance(made.case, 3).metrics["prevalence"]
    assert found.low is not None
    assert found.high is not None
    assert found.low < figure("unblocked", "prevalence") < found.high


def test_a_use_case_that_blocks_nothing_has_no_weights_and_equal_models() -> None:
    made = worlds()["unblocked"]
    assert made.folds[0].weight is None
    ones = tuple(replace(fold, rows=fold.rows.assign(weight=1.0)) for fold in made.folds)
    again = build_model(Recipe(made.case, made.model.plan, 3), ones[0], ones[1], ones[1], ModelMetadata("cards"))
    assert again.threshold == made.model.threshold
    assert again.calibrator.to_json() == pytest.approx(made.model.calibrator.to_json())
    assert weight_notes(made.case, *made.folds) == ()


def test_a_weight_is_capped_by_policy_and_the_notes_say_how_many_are() -> None:
    store = logged(blocks=True)
    capped = read_of(store, usecase(blocks=True, max_weight=2.0)).labels
    store.close()
    assert set(capped["weight"].unique()) == {1.0, 2.0}
    fold = worlds()["weighted"].folds[2]
    assert weight_notes(usecase(blocks=True), fold)[0].startswith(f"{int((fold.rows['weight'] > 1).sum())} explored")
    held = weight_notes(usecase(blocks=True, max_weight=5.0), fold)[0]
    assert held.endswith("are held at [intervention] max_weight = 5")
    alone = replace(fold, rows=fold.rows.assign(weight=1.0))
    assert "declare an exploration_share" in weight_notes(usecase(blocks=True), alone)[0]


def test_a_blocked_event_that_somebody_released_stands_for_nothing_beside_a_draw() -> None:
    store, made = logged(blocks=True), traffic()
    at = int(np.flatnonzero(made.flagged & ~made.drawn)[0])
    name, when = made.events["id"][at], to_us(made.events["at"][at].to_pydatetime())
    store.actions.add([ActionRecord("cards", name, "let_through", "analyst", when + 5, when + 5)])
    labels = read_of(store, usecase(blocks=True)).labels.set_index("event_id")
    store.close()
    assert labels.loc[name, ["y", "weight"]].tolist() == [0, 0.0]


def test_weights_are_part_of_the_snapshot_and_come_back(tmp_path: Path) -> None:
    store, case_ = logged(blocks=True), usecase(blocks=True)
    read = read_of(store, case_)
    store.close()
    snapshots = SnapshotStore(tmp_path)
    ref = snapshots.save_read(read, case_)
    loaded = snapshots.load(ref.digest)
    pd.testing.assert_frame_equal(loaded.labels, read.labels)
    assert "weight" not in loaded.revisions
    plain = replace(read, labels=read.labels.drop(columns="weight"))
    assert snapshots.save_read(plain, case_).digest != ref.digest
