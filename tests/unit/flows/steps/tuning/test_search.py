"""The search by itself: seeded, resumable after a kill, bounded, and fair to the file's own settings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest

from bentos.usecase.definition import TrainingPolicy
from bentos.usecase.tuning import SearchSpace, TuningPolicy
from flows.errors import FlowRefused, TrainingError
from flows.steps.tuning.folds import TuningFold, TuningFolds
from flows.steps.tuning.search import TRIALS_BEFORE_PRUNING, Attempt, Trial, Work, best_trial, in_threads, search
from flows.steps.tuning.trial_journal import search_log
from flows.steps.tuning.tune import measure_attempts
from tests.support.folds import fold_of, noise

SPACE = SearchSpace.model_validate_json(
    '{"max_depth": {"low": 1, "high": 9}, "learning_rate": {"low": 0.01, "high": 0.5, "log": true},'
    ' "tree_method": {"choices": ["hist", "exact"]}}'
)
POLICY = TuningPolicy(trials=14, folds=3, parallel=3, space=SPACE)
OWN = TrainingPolicy(trees=8)


def hill(attempt: Attempt) -> float:
    """Highest at depth 5 and rate .2; folds differ a little."""
    settings = attempt.settings
    return 1 - abs(settings.max_depth - 5) / 10 - abs(settings.learning_rate - 0.2) + attempt.fold / 100


def flat(attempt: Attempt) -> float:
    return 0.5


def found_by(path: Path, work: Work = hill, policy: TuningPolicy = POLICY, **more: Any) -> tuple[Trial, ...]:
    with search_log(path) as log:
        return search(policy, OWN, policy.folds, work, log, **{"seed": 7, **more})


def small_folds() -> TuningFolds:
    """Three folds that XGBoost is fitted on for real."""
    folds = []
    for number in range(3):
        x, y = noise(400, seed=number)
        folds.append(TuningFold(f"fold {number}", fold_of(x[:250], y[:250]), fold_of(x[250:], y[250:])))
    return TuningFolds(("a", "b", "c"), tuple(folds), ())


def test_the_files_own_settings_are_the_first_trial_and_win_a_tie(tmp_path: Path) -> None:
    trials = found_by(tmp_path / "log", flat)
    assert trials[0].parameters == {"max_depth": 3, "learning_rate": 0.1, "tree_method": "hist"}
    assert best_trial(trials) is trials[0]


def test_a_search_finds_better_settings_within_its_space_and_budget(tmp_path: Path) -> None:
    trials = found_by(tmp_path / "log")
    assert [trial.number for trial in trials] == list(range(14))
    assert best_trial(trials).value > trials[0].value
    assert all(1 <= t.parameters["max_depth"] <= 9 and 0.01 <= t.parameters["learning_rate"] <= 0.5 for t in trials)
    assert len({str(trial.parameters) for trial in trials}) > 10


def test_what_is_not_searched_stays_as_it_is_in_the_file(tmp_path: Path) -> None:
    seen: list[TrainingPolicy] = []
    found_by(
        tmp_path / "log", lambda attempt: seen.append(attempt.settings) or 0.5, POLICY.model_copy(update={"trials": 3})
    )
    assert {settings.trees for settings in seen} == {8}


def test_the_same_seed_finds_the_same_and_another_one_looks_elsewhere(tmp_path: Path) -> None:
    first = found_by(tmp_path / "first")
    assert found_by(tmp_path / "second") == first
    assert found_by(tmp_path / "other", seed=8)[1:] != first[1:]


def test_how_attempts_are_spread_changes_nothing(tmp_path: Path) -> None:
    def backwards(work: Work, attempts: Sequence[Attempt]) -> list[float]:
        return [work(attempt) for attempt in reversed(attempts)][::-1]

    assert found_by(tmp_path / "threads", batch=in_threads) == found_by(tmp_path / "alone", batch=backwards)


def test_a_setting_below_the_median_of_earlier_rounds_is_given_up_and_never_wins(tmp_path: Path) -> None:
    asked: list[Attempt] = []
    trials = found_by(tmp_path / "log", lambda attempt: asked.append(attempt) or hill(attempt))
    pruned = [trial for trial in trials if trial.pruned]
    assert pruned
    assert all(len(trial.figures) < 3 and trial.number >= TRIALS_BEFORE_PRUNING for trial in pruned)
    assert len(asked) == sum(len(trial.figures) for trial in trials) < 14 * 3
    assert not best_trial(trials).pruned
    patient = found_by(tmp_path / "patient", policy=POLICY.model_copy(update={"pruning": False}))
    assert not any(trial.pruned for trial in patient)


def test_a_larger_budget_later_equals_the_larger_budget_at_once(tmp_path: Path) -> None:
    less = POLICY.model_copy(update={"trials": 7})
    assert len(found_by(tmp_path / "grown", policy=less)) == 7
    assert found_by(tmp_path / "grown") == found_by(tmp_path / "at once")


def test_a_budget_of_minutes_ends_the_search_and_counts_over_restarts(tmp_path: Path) -> None:
    seconds: Iterator[int] = count(step=20)
    policy = POLICY.model_copy(update={"trials": None, "minutes": 1.0})

    def ticking() -> float:
        return next(seconds)

    trials = found_by(tmp_path / "log", policy=policy, clock=ticking)
    assert len(trials) == 9  # three rounds of twenty seconds
    assert found_by(tmp_path / "log", policy=policy, clock=ticking) == trials
    assert len(found_by(tmp_path / "log", policy=policy.model_copy(update={"minutes": 1.1}), clock=ticking)) == 12
    assert len(found_by(tmp_path / "short", policy=policy.model_copy(update={"minutes": 0.01}), clock=ticking)) == 3


def test_every_round_is_told_and_first_what_was_known_before(tmp_path: Path) -> None:
    told: list[int] = []
    found_by(tmp_path / "log", policy=POLICY.model_copy(update={"trials": 5}))
    found_by(tmp_path / "log", after_round=lambda trials: told.append(len(trials)))
    assert told == [5, 6, 9, 12, 14]


def test_a_search_killed_in_the_middle_goes_on_to_the_same_trials_and_winner(tmp_path: Path) -> None:
    at_once = found_by(tmp_path / "at once", measure_attempts(small_folds(), POLICY, 1))
    script = (
        "import sys, time; from pathlib import Path; from tests.unit.flows.steps.tuning.test_search import *\n"
        "work = measure_attempts(small_folds(), POLICY, 1)\n"
        "def stuck(attempt):\n"
        "    if attempt.trial == 7 and attempt.fold == 1:\n"
        "        Path(sys.argv[2]).touch(); time.sleep(600)\n"
        "    return work(attempt)\n"
        "found_by(Path(sys.argv[1]), stuck)\n"
    )
    reached = tmp_path / "reached"
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed"), str(reached)])
    while not reached.exists():
        assert child.poll() is None, "the search ended before it was killed"
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    with search_log(tmp_path / "killed") as log:
        assert len(log.trials) == 6  # the round of trial 7 is begun again
    assert found_by(tmp_path / "killed", measure_attempts(small_folds(), POLICY, 1)) == at_once
    assert best_trial(at_once).value == max(fmean(t.figures) for t in at_once if not t.pruned)


def test_a_round_that_was_kept_in_part_is_completed(tmp_path: Path) -> None:
    at_once = found_by(tmp_path / "log")
    lines = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines)):  # after whichever write the process died, torn or not
        (tmp_path / "cut").write_bytes(b"".join(lines[:kept]) + lines[kept][:9])
        assert found_by(tmp_path / "cut") == at_once


def test_the_log_is_an_optuna_study_that_anyone_can_open(tmp_path: Path) -> None:
    trials = found_by(tmp_path / "log")
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "log"))
    study = optuna.load_study(study_name="tuning", storage=optuna.storages.JournalStorage(backend))
    assert study.best_params == best_trial(trials).parameters
    assert len(study.trials) == 14


def test_two_processes_never_run_the_same_search(tmp_path: Path) -> None:
    with search_log(tmp_path / "log"), pytest.raises(FlowRefused, match="under way in another process; wait"):
        found_by(tmp_path / "log")


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("not a journal\nat all\n")
    with pytest.raises(TrainingError, match=r"log cannot be read as the log of a search.*delete it"):
        found_by(tmp_path / "log")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"file.log cannot be written .*the search goes on"):
        found_by(tmp_path / "file" / "log")


def test_an_error_of_an_attempt_ends_the_search_and_keeps_what_was_found(tmp_path: Path) -> None:
    def fails(attempt: Attempt) -> float:
        if attempt.trial == 4:
            raise TrainingError("no")
        return hill(attempt)

    with pytest.raises(TrainingError, match="no"):
        found_by(tmp_path / "log", fails)
    assert found_by(tmp_path / "log") == found_by(tmp_path / "at once")
