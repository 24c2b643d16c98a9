"""What a search is worth: settings chosen on weeks that end before the test weeks, beside untuned ones.

The protocol is that of the handbook's chapter 5 (:mod:`tests.bench.quality.handbook`): four folds that train on
one week, wait one week for labels and test on the next. The search sees four such folds that end where
the first test week begins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from bentos.features.plan import FeaturePlan
from bentos.usecase.definition import TrainingPolicy
from bentos.usecase.loading import load_usecase
from flows.steps.data.folds import Fold
from flows.steps.tuning.folds import TuningFold, TuningFolds
from flows.steps.tuning.search import Trial, best_trial, search
from flows.steps.tuning.trial_journal import search_log
from flows.steps.tuning.tune import measure_attempts
from tests.bench.quality.handbook import (
    CHAPTER_3,
    PREQUENTIAL_WEEKS,
    WEEK,
    Progress,
    cut_week,
    read_transactions,
    run_week,
)

SEARCH_WEEKS = tuple(week - 4 * WEEK for week in PREQUENTIAL_WEEKS)
"""First days of the training weeks of the search; what the last one is measured on ends where tests begin."""


def bench_tuning(path: Path | str, trials: int, progress: Progress | None = None) -> dict[str, Any]:
    """Search as ``[tuning]`` of the fraud case says, and test what was found.

    Args:
        path: Parquet file of the 1.3 million simulated card transactions.
        trials: budget; the published grid has 18 points.
        progress: told of each step.

    Returns:
        ``average_precision``: mean over the four test weeks with the settings that were found; the same with
        those of the use-case file (``untuned_average_precision``) and with the defaults of XGBoost
        (``defaults_average_precision``); what was chosen, and what it reached where it was chosen.
    """
    told = progress or (lambda *_: None)
    steps = trials + 5
    usecase = load_usecase("fraud")
    assert usecase.tuning is not None
    policy = usecase.tuning.model_copy(update={"trials": trials, "minutes": None})
    every, plan = read_transactions(path, told, steps)
    folds = TuningFolds(plan.names, tuple(_fold(every, week) for week in SEARCH_WEEKS), ())

    def after_round(done: Sequence[Trial]) -> None:
        told(f"{len(done)} trials", 2 + len(done), steps)

    own = usecase.training
    with tempfile.TemporaryDirectory(prefix="incumbent-bench-") as folder, search_log(Path(folder) / "log") as log:
        found = search(
            policy,
            own,
            len(folds.folds),
            measure_attempts(folds, policy, own.seed),
            log,
            seed=own.seed,
            after_round=after_round,
        )
    winner = best_trial(found)
    told("test", 2 + trials, steps)
    return {
        "average_precision": _tested(every, plan, own.model_copy(update=winner.parameters)),
        "untuned_average_precision": _tested(every, plan, own),
        "defaults_average_precision": _tested(every, plan, CHAPTER_3),
        "trials": len(found),
        "pruned": sum(trial.pruned for trial in found),
        "winner": winner.number,
        "search_average_precision": winner.value,
        "untuned_search_average_precision": found[0].value,
        "parameters": dict(winner.parameters),
    }


def _fold(every: Fold, start: datetime) -> TuningFold:
    train, test = cut_week(every, start)
    return TuningFold(f"{start:%Y-%m-%d}", train, replace(test, name="measured on"))


def _tested(every: Fold, plan: FeaturePlan, settings: TrainingPolicy) -> float:
    return fmean(run_week(every, plan, week, settings).average_precision for week in PREQUENTIAL_WEEKS)
