"""The search for training parameters: Optuna proposes, a batch runner measures, a journal remembers.

Settings come in rounds of ``[tuning] parallel``. Proposals of a round, and what is given up in it, depend
on finished rounds and on the seed alone, so a search that was killed and begun again finds what it would
have found at one go: it repeats the round that it died in. The file's own settings are trial 0.

Optuna's own way to run in parallel proposes by which fit ended first, so it cannot be repeated. The file's own
settings win a tie, because the best of few trials is partly luck.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from bentos.usecase.definition import TrainingPolicy
from bentos.usecase.tuning import Methods, Span, TuningPolicy
from flows.steps.tuning.trial_journal import SearchLog

RANDOM_TRIALS = 6
"""Trials that are spread at random before proposals follow what was found."""
TRIALS_BEFORE_PRUNING = 4
"""Finished trials without which none is given up."""


@dataclass(frozen=True)
class Attempt:
    """One fit that a worker is asked for."""

    trial: int
    fold: int
    settings: TrainingPolicy

    @property
    def name(self) -> str:
        """How a run of it is called."""
        return f"trial-{self.trial}-fold-{self.fold + 1}"


Work = Callable[[Attempt], float]
Batch = Callable[[Work, Sequence[Attempt]], list[float]]
"""Does the same work for several attempts, side by side where it can, and answers in their order."""


@dataclass(frozen=True)
class Trial:
    """One tried setting.

    Attributes:
        number: 0 is the file's own.
        parameters: those that are searched.
        figures: of each fold; fewer than there are folds where it was given up.
        pruned: whether it was given up.
    """

    number: int
    parameters: Mapping[str, Any]
    figures: tuple[float, ...]
    pruned: bool

    @property
    def value(self) -> float:
        """The mean over the measured folds."""
        return fmean(self.figures)


def in_threads(work: Work, attempts: Sequence[Attempt]) -> list[float]:
    """Side by side in this process; XGBoost lets go of the interpreter while it fits."""
    with ThreadPoolExecutor(len(attempts)) as pool:
        return list(pool.map(work, attempts))


def search(
    policy: TuningPolicy,
    own: TrainingPolicy,
    folds: int,
    work: Work,
    log: SearchLog,
    *,
    seed: int,
    batch: Batch = in_threads,
    after_round: Callable[[Sequence[Trial]], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Trial, ...]:
    """Try settings until the budget is spent, and return all of them, in order.

    Args:
        policy: space, budget, pruning.
        own: the file's settings; what is not searched stays as it is there.
        folds: how many there are.
        work: fits settings on one fold and measures them.
        log: what was found before, and where findings are kept.
        seed: of the proposals.
        batch: how several attempts are worked on.
        after_round: told of all trials so far, also of those that the log held at the start.
        clock: seconds, for a budget of minutes.
    """
    report = after_round or (lambda _: None)
    report(trials_of(log))
    while not _budget_spent(policy, log):
        started = clock()
        finished = log.trials
        first = len(finished) // policy.parallel * policy.parallel
        last = min(first + policy.parallel, policy.trials or first + policy.parallel)
        study, proposals = _propose(policy, own, finished[:first], range(first, last), seed)
        _measure(study, proposals[len(finished) - first :], own, folds, work, batch, log)
        log.seconds += clock() - started
        report(trials_of(log))
    return trials_of(log)


def trials_of(log: SearchLog) -> tuple[Trial, ...]:
    """The finished trials of a search."""
    return tuple(
        Trial(n, t.params, tuple(t.user_attrs["figures"]), t.state is TrialState.PRUNED)
        for n, t in enumerate(log.trials)
    )


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The largest mean over all folds; of equals the first, so that the file's own settings win a tie."""
    return max((trial for trial in trials if not trial.pruned), key=lambda trial: trial.value)


def _budget_spent(policy: TuningPolicy, log: SearchLog) -> bool:
    finished = len(log.trials)
    if policy.trials is not None and finished >= policy.trials:
        return True
    return bool(finished) and policy.minutes is not None and log.seconds >= 60 * policy.minutes


def _propose(
    policy: TuningPolicy, own: TrainingPolicy, finished: Sequence[FrozenTrial], numbers: range, seed: int
) -> tuple[optuna.Study, list[optuna.Trial]]:
    """The settings of one round, from finished rounds and a seed for each number."""
    pruner = optuna.pruners.MedianPruner(TRIALS_BEFORE_PRUNING) if policy.pruning else optuna.pruners.NopPruner()
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.add_trials(finished)
    distributions = {name: _distribution(span, getattr(own, name)) for name, span in policy.space.spans.items()}
    proposals = []
    for number in numbers:
        study.sampler = optuna.samplers.TPESampler(
            seed=(seed + number) % 2**32, n_startup_trials=RANDOM_TRIALS, multivariate=True, constant_liar=True
        )
        if number == 0:
            study.enqueue_trial({name: getattr(own, name) for name in distributions})
        proposals.append(study.ask(distributions))
    return study, proposals


def _measure(
    study: optuna.Study,
    proposals: Sequence[optuna.Trial],
    own: TrainingPolicy,
    folds: int,
    work: Work,
    batch: Batch,
    log: SearchLog,
) -> None:
    """Fold by fold, all that are still in the race side by side; then keep each of them."""
    figures: dict[int, list[float]] = {trial.number: [] for trial in proposals}
    settings = {trial.number: own.model_copy(update=trial.params) for trial in proposals}
    racing = list(proposals)
    for fold in range(folds):
        if not racing:
            break
        round_figures = batch(work, [Attempt(trial.number, fold, settings[trial.number]) for trial in racing])
        for trial, figure in zip(racing, round_figures, strict=True):
            figures[trial.number].append(figure)
            trial.report(fmean(figures[trial.number]), fold)
        # The pruner looks at complete trials, and those of this round are not yet.
        racing = [trial for trial in racing if fold == folds - 1 or not trial.should_prune()]
    for trial in proposals:
        log.add(_finished_trial(study, trial, figures[trial.number], complete=trial in racing))


def _finished_trial(study: optuna.Study, trial: optuna.Trial, figures: list[float], *, complete: bool) -> FrozenTrial:
    proposal = study.trials[trial.number]
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        value=fmean(figures),
        params=proposal.params,
        distributions=proposal.distributions,
        intermediate_values=proposal.intermediate_values,
        user_attrs={"figures": figures},
    )


def _distribution(span: Span[int] | Span[float] | Methods, own: object) -> BaseDistribution:
    if span.choices:
        return CategoricalDistribution(span.choices)
    assert isinstance(span, Span)
    assert span.low is not None
    assert span.high is not None
    if isinstance(own, int):
        return IntDistribution(int(span.low), int(span.high), log=span.log)
    return FloatDistribution(span.low, span.high, log=span.log)
