"""The published protocol of the Fraud Detection Handbook, through our own sources, features and training.

Le Borgne, Siblini, Lebichot, Bontempi: Reproducible Machine Learning for Credit Card Fraud Detection
(2022), chapters 3 and 5. A fold trains on one week, waits one week for labels and tests on the next.
Cards known to be compromised leave the test set: those with a fraud in the training week, and for
test day k those with a fraud up to the day that lies one week earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bentos.features.plan import FeaturePlan
from bentos.usecase.definition import TrainingPolicy
from bentos.usecase.loading import load_usecase
from flows.sources import open_source
from flows.steps.data.folds import Fold, TrainingHistory, build_fold
from flows.steps.evaluation.crossfit import select_rows
from flows.steps.fitting.fit import fit_booster
from monitoring.core.calendar import TimeWindow
from monitoring.performance.card_precision import card_precision
from monitoring.stats.ranking import auc_roc, average_precision

WEEK = timedelta(days=7)
TOP_K = 100

CHAPTER_3 = TrainingPolicy(
    trees=100, max_depth=6, learning_rate=0.3, tree_method="exact", base_score=0.5, min_child_weight=1.0, seed=0
)
"""Defaults of XGBoost 1.5, which the book used."""
CHAPTER_3_WEEK = datetime(2018, 7, 25, tzinfo=UTC)

TUNED = CHAPTER_3.model_copy(update={"max_depth": 3, "learning_rate": 0.1})
"""The book's best grid point by average precision: 100 trees, rate .1, depth 3."""
PREQUENTIAL_WEEKS = tuple(datetime(2018, 7, day, tzinfo=UTC) for day in (4, 11, 18, 25))

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FoldFigures:
    """Figures of one test week."""

    auc_roc: float
    average_precision: float
    card_precision_at_100: float

    def to_json(self) -> dict[str, float]:
        """The three figures by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def bench_handbook(path: Path | str, prequential: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Run the protocol on the book's transactions.

    Args:
        path: Parquet file of the 1.3 million simulated card transactions.
        prequential: also run chapter 5's four weekly folds.
        progress: told of each step.

    Returns:
        ``chapter3``: ``auc_roc``, ``average_precision``, ``card_precision_at_100``; with ``prequential``
        also the mean and standard deviation (of the folds, divided by n) of the same.
    """
    told = progress or _silent
    steps = 3 + (len(PREQUENTIAL_WEEKS) if prequential else 0)
    every, plan = read_transactions(path, told, steps)
    told("chapter 3", 2, steps)
    result: dict[str, Any] = {"chapter3": run_week(every, plan, CHAPTER_3_WEEK, CHAPTER_3).to_json()}
    if prequential:
        result["prequential"] = _prequential(every, plan, told, steps)
    told("done", steps, steps)
    return result


def read_transactions(path: Path | str, told: Progress, steps: int) -> tuple[Fold, FeaturePlan]:
    """Every transaction with the features of the fraud case."""
    usecase = load_usecase("fraud")
    told("read transactions", 0, steps)
    read = open_source(usecase, "parquet", path=str(path)).read(
        TimeWindow(datetime(2018, 1, 1, tzinfo=UTC), datetime(2019, 1, 1, tzinfo=UTC))
    )
    told("build features", 1, steps)
    plan = FeaturePlan.of(usecase)
    known = TrainingHistory.at(usecase, read.events, read.labels, read.revisions, read.window.end)
    return build_fold(usecase, plan, known, read.window), plan


def cut_week(every: Fold, start: datetime) -> tuple[Fold, Fold]:
    """The week that begins at ``start``, and the one two weeks later without cards known to be compromised."""
    train = every.between("train", TimeWindow(start, start + WEEK))
    between = every.between("labels arriving", TimeWindow(start + WEEK, start + 2 * WEEK))
    test = every.between("test", TimeWindow(start + 2 * WEEK, start + 3 * WEEK))
    return train, select_rows(test, ~known_compromised(train.rows, between.rows, test.rows))


def run_week(every: Fold, plan: FeaturePlan, start: datetime, settings: TrainingPolicy) -> FoldFigures:
    """Train on the week that begins at ``start``, test on the week two weeks later."""
    train, test = cut_week(every, start)
    booster = fit_booster(train.features, train.y, plan.names, settings, settings.seed)
    rows, scores = test.rows, booster.predict(test.features)
    y = rows["y"].to_numpy()
    return FoldFigures(
        _number(auc_roc(y, scores)),
        _number(average_precision(y, scores)),
        _number(card_precision(rows["entity"], rows["day"], y, scores, TOP_K).value),
    )


def _prequential(every: Fold, plan: FeaturePlan, told: Progress, steps: int) -> dict[str, float]:
    folds = []
    for done, week in enumerate(PREQUENTIAL_WEEKS):
        told(f"week of {week:%Y-%m-%d}", 3 + done, steps)
        folds.append(run_week(every, plan, week, TUNED))
    table = pd.DataFrame([fold.to_json() for fold in folds])
    spread = table.std(ddof=0)
    return {
        "auc_roc": float(table["auc_roc"].mean()),
        "auc_roc_std": float(spread["auc_roc"]),
        "average_precision": float(table["average_precision"].mean()),
        "average_precision_std": float(spread["average_precision"]),
        "card_precision_at_100": float(table["card_precision_at_100"].mean()),
    }


def known_compromised(train: pd.DataFrame, between: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """Which test rows belong to a card whose compromise was known on the row's day."""
    first_known: dict[Any, pd.Timestamp] = dict.fromkeys(train.loc[train["y"] == 1, "entity"], pd.Timestamp.min)
    # A fraud of a day in the waiting week is known from eight days later: on test day k, what
    # happened up to day k - 1 of that week.
    for card, day in between.loc[between["y"] == 1, ["entity", "day"]].itertuples(index=False):
        known = day + pd.Timedelta(days=8)
        first_known[card] = min(first_known.get(card, known), known)
    since = test["entity"].map(first_known)
    return np.asarray((since <= test["day"]).to_numpy(dtype=bool))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _silent(step: str, done: int, steps: int) -> None:
    """No progress."""
