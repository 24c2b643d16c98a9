"""Tuning, without Prefect: from a source's rows to a use case with the settings that a search found.

    folds before the test fold -> search -> the winner as [training] -> train_model, as any training

The gates look at a test fold that no candidate was measured on. Every trial is an MLflow run below that
of the search.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bentos.errors import RegistryUnavailable, UseCaseError
from bentos.model.booster_adapters import DEFAULT
from bentos.usecase.definition import UseCase
from bentos.usecase.tuning import TuningPolicy
from flows.errors import NothingToDo
from flows.snapshots.store import content_digest
from flows.sources.base import SourceRead
from flows.steps.data.folds import TrainingHistory
from flows.steps.fitting.fit import fit_booster
from flows.steps.tracking.training_record import format_window
from flows.steps.tracking.version_tags import git_commit
from flows.steps.training.train import TrainingOutcome, history_start, train_model
from flows.steps.training.training_steps import Progress, TrainingStores
from flows.steps.tuning.folds import TuningFold, TuningFolds, tuning_folds
from flows.steps.tuning.mlflow_trials import PARENT, TrialRuns
from flows.steps.tuning.search import Attempt, Batch, Trial, best_trial, in_threads, search
from flows.steps.tuning.trial_journal import SearchLog, search_log
from monitoring.core.hashing import canonical_json, sha256_hex
from monitoring.stats.ranking import auc_roc, average_precision

_FIGURES: dict[str, Callable[..., float | None]] = {"average_precision": average_precision, "auc_roc": auc_roc}


@dataclass(frozen=True)
class TuningOutcome:
    """What a search found.

    Attributes:
        usecase: the use case with the winner in ``[training]``.
        metric: what was made large.
        trials: all of them, in order; the first is the file's own.
        folds: what they were measured on.
        run_id: the MLflow run of the search.
        notes: plain sentences: what limits the search.
    """

    usecase: UseCase
    metric: str
    trials: tuple[Trial, ...]
    folds: tuple[str, ...]
    run_id: str
    notes: tuple[str, ...]

    @property
    def winner(self) -> Trial:
        """The trial whose settings are trained."""
        return best_trial(self.trials)

    @property
    def training_lines(self) -> str:
        """What a person can put into the file, to keep the settings for later trainings."""
        return "\n".join(["[training]", *(f"{k} = {json.dumps(v)}" for k, v in self.winner.parameters.items())])

    def to_json(self) -> dict[str, Any]:
        """The search as plain JSON."""
        return {
            "metric": self.metric,
            "trials": len(self.trials),
            "pruned": sum(trial.pruned for trial in self.trials),
            "folds": list(self.folds),
            "winner": self.winner.number,
            "value": self.winner.value,
            "own_value": self.trials[0].value,
            "parameters": dict(self.winner.parameters),
            "training_lines": self.training_lines,
            "mlflow_run": self.run_id,
            "notes": list(self.notes),
        }


def tuning_policy(
    usecase: UseCase,
    reference: str,
    trials: int | None = None,
    minutes: float | None = None,
    *,
    unattended: bool = False,
) -> TuningPolicy:
    """The declared policy, with another budget where one is given.

    Raises:
        NothingToDo: the use case declares no search, and nobody asks for one by hand.
        UseCaseError: somebody does.
    """
    if usecase.tuning is None and unattended:
        raise NothingToDo(f"the use case {usecase.name} declares no [tuning]")
    if usecase.tuning is None:
        expected = (
            "a section [tuning] with trials or minutes, and [tuning.space] with a range for each parameter to search, "
            "for example max_depth = {low = 2, high = 6}"
        )
        raise UseCaseError(reference, "tuning", "nothing", expected)
    if trials is None and minutes is None:
        return usecase.tuning
    return usecase.tuning.model_copy(update={"trials": trials, "minutes": minutes})


def tune_model(
    usecase: UseCase,
    policy: TuningPolicy,
    read: SourceRead,
    as_of: datetime,
    *,
    stores: TrainingStores,
    batch: Batch = in_threads,
    progress: Progress | None = None,
) -> TuningOutcome:
    """Search, and resume where an earlier search of the same data, settings and policy ended.

    Args:
        usecase: everything else that is policy; its own settings are the first candidate.
        policy: what is tried, on what budget.
        read: the whole history that may be used, with the labels known at ``as_of``.
        as_of: business time of the search; later labels are not looked at.
        stores: whose runs the trials become, and whose folder keeps the search.
        batch: how fits are spread; plain threads by default.
        progress: told of each round.

    Raises:
        TooFewRows: the history holds no fold before the test fold.
        OneClass: all labels are the same.
        FlowRefused: another process runs this very search.
        RegistryUnavailable: a trial could not be logged; begin again, and the search goes on.
    """
    report = progress or (lambda *_: None)
    report("build features", 0, policy.trials or 1)
    history = TrainingHistory.at(usecase, read.events, read.labels, read.revisions, as_of)
    folds = tuning_folds(usecase, policy, history, history_start(usecase, history, read.window))
    digest = content_digest(usecase, read)
    search_facts = _search_facts(usecase, policy, folds, digest)
    journal = (
        stores.settings.root / "tuning" / f"{usecase.name}-{sha256_hex(canonical_json(search_facts))[:16]}.journal"
    )
    name = stores.settings.model_name(usecase.name)
    runs = TrialRuns(stores.runs, name, f"{usecase.name} tuning as of {as_of:%Y-%m-%d %H:%M}")
    with _open_search(journal, runs, {"usecase": usecase.name, "as_of": as_of.isoformat()}) as (log, run_id):
        runs.params(run_id, {**_run_parameters(search_facts, folds), "git_commit": git_commit() or "none"})

        def after_round(trials: Sequence[Trial]) -> None:
            runs.add(log, run_id, trials, policy.metric)
            report(_progress_text(trials), len(trials), policy.trials or len(trials) + policy.parallel)

        trials = search(
            policy, usecase.training, len(folds.folds), measure_attempts(folds, policy, usecase.training.seed), log,
            seed=usecase.training.seed, batch=batch, after_round=after_round,
        )  # fmt: skip
        runs.conclude(run_id, trials, policy.metric)
    tuned = usecase.model_copy(update={"training": usecase.training.model_copy(update=best_trial(trials).parameters)})
    return TuningOutcome(
        tuned, policy.metric, trials, tuple(fold.name for fold in folds.folds), run_id, _notes(usecase, folds)
    )


def measure_attempts(folds: TuningFolds, policy: TuningPolicy, seed: int) -> Callable[[Attempt], float]:
    """The work of one attempt: fit on a fold, score its later rows, measure."""
    figure = _FIGURES[policy.metric]

    def measure(attempt: Attempt) -> float:
        fold = folds.folds[attempt.fold]
        booster = fit_booster(
            fold.train.features, fold.train.y, folds.names, attempt.settings, seed, weight=fold.train.weight
        )
        value = figure(fold.valid.y, booster.predict(fold.valid.features), weight=fold.valid.weight)
        assert value is not None  # tuning_folds leaves out what has one label only
        return value

    return measure


def train_winner(
    tuned: TuningOutcome,
    read: SourceRead,
    as_of: datetime,
    *,
    stores: TrainingStores,
    progress: Progress | None = None,
) -> TrainingOutcome:
    """A training like any other, with the settings of the winner; see
    :func:`flows.steps.training.train.train_model`.
    """
    outcome = train_model(tuned.usecase, read, as_of, stores=stores, progress=progress)
    with suppress(RegistryUnavailable):  # the model is registered; where its run is shown is not worth a failure
        stores.runs.log(outcome.run_id, tags={PARENT: tuned.run_id})
    return outcome


@contextmanager
def _open_search(path: Path, runs: TrialRuns, tags: dict[str, str]) -> Iterator[tuple[SearchLog, str]]:
    with search_log(path) as log, runs.parent(log, tags) as run_id:
        yield log, run_id


def _search_facts(usecase: UseCase, policy: TuningPolicy, folds: TuningFolds, digest: str) -> dict[str, Any]:
    """Whatever a trial's figures and the proposals depend on; the budget is not among it, so it may grow."""
    return {
        "data": digest,
        "features": list(folds.names),
        "declared": [feature.model_dump(mode="json") for feature in usecase.features],
        "folds": [_rows(fold) for fold in folds.folds],
        "training": usecase.training.model_dump(mode="json"),
        "tuning": policy.model_dump(mode="json", exclude={"trials", "minutes"}),
        "libraries": [DEFAULT.requirement(), _optuna_requirement()],
    }


def _rows(fold: TuningFold) -> dict[str, Any]:
    return {
        "train": format_window(fold.train.window),
        "valid": format_window(fold.valid.window),
        "rows": [len(fold.train), len(fold.valid)],
    }


def _run_parameters(facts: dict[str, Any], folds: TuningFolds) -> dict[str, object]:
    fold_names = {f"fold_{n + 1}": fold.name for n, fold in enumerate(folds.folds)}
    policy = {f"tuning_{name}": value for name, value in facts["tuning"].items() if name != "space"}
    return {"data_digest": facts["data"], "space": json.dumps(facts["tuning"]["space"]), **policy, **fold_names}


def _optuna_requirement() -> str:
    from importlib.metadata import version

    return f"optuna=={version('optuna')}"


def _progress_text(trials: Sequence[Trial]) -> str:
    return f"best {best_trial(trials).value:.4f}" if trials else "search"


def _notes(usecase: UseCase, folds: TuningFolds) -> tuple[str, ...]:
    if not usecase.untimed:
        return folds.notes
    note = "settings were chosen on the rows that the gates look at, in other folds: their figures flatter a little"
    return (*folds.notes, note)
