"""The MLflow runs of a search: one for the search, one below it for each trial, in any order of crashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from bentos.errors import RegistryUnavailable, VersionMissing
from flows.steps.tracking.mlflow_run import Tracker
from flows.steps.tuning.search import Trial, best_trial
from flows.steps.tuning.trial_journal import SearchLog

PARENT = "mlflow.parentRunId"
"""The tag by which MLflow's pages nest a run below another."""
_RUN = "mlflow run"


@dataclass(frozen=True)
class TrialRuns:
    """Where and under which names the runs of one search are.

    Attributes:
        tracker: where runs are logged.
        experiment: name of the experiment.
        title: name of the search's run.
    """

    tracker: Tracker
    experiment: str
    title: str

    @contextmanager
    def parent(self, log: SearchLog, tags: Mapping[str, str]) -> Iterator[str]:
        """The run of the search: the one that the log knows, else a new one; closed at the end."""
        run_id = log.note(_RUN)
        if run_id is None or not self._knows(run_id):
            run_id = self.tracker.start(self.experiment, self.title, {**tags, "kind": "tuning"})
            log.keep_note(_RUN, run_id)
        try:
            yield run_id
        except BaseException:
            with suppress(RegistryUnavailable):  # the first error is the one to show
                self.tracker.finish(run_id, ok=False)
            raise
        with suppress(RegistryUnavailable):
            self.tracker.finish(run_id, ok=True)

    def params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Log parameters of the search, once."""
        missing = set(params) - set(self.tracker.params(run_id))
        self.tracker.log(run_id, params={k: v for k, v in params.items() if k in missing})

    def add(self, log: SearchLog, parent: str, trials: Sequence[Trial], metric: str) -> None:
        """Log each trial that has no run below ``parent`` yet."""
        for trial in trials:
            note = f"{parent} trial {trial.number}"
            if log.note(note) is None:
                log.keep_note(note, self._add(parent, trial, metric))

    def conclude(self, parent: str, trials: Sequence[Trial], metric: str) -> None:
        """Log what the search found."""
        winner = best_trial(trials)
        figures = {metric: winner.value, f"own_{metric}": trials[0].value, "trials": float(len(trials))}
        tags = {"winner": f"trial {winner.number}", "winner_parameters": str(dict(winner.parameters))}
        self.tracker.log(parent, metrics=figures, tags=tags)

    def _add(self, parent: str, trial: Trial, metric: str) -> str:
        state = "pruned" if trial.pruned else "complete"
        tags = {PARENT: parent, "kind": "tuning trial", "trial": str(trial.number), "state": state}
        run_id = self.tracker.start(self.experiment, f"trial {trial.number}", tags)
        folds = {f"{metric}_fold_{n + 1}": figure for n, figure in enumerate(trial.figures)}
        self.tracker.log(run_id, params=trial.parameters, metrics={metric: trial.value, **folds})
        self.tracker.finish(run_id, ok=True)
        return run_id

    def _knows(self, run_id: str) -> bool:
        try:
            self.tracker.params(run_id)
        except VersionMissing:
            return False
        return True
