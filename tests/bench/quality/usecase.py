"""Figures of a use case on a file: what a model of it is worth beside a simple one, without registering anything."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from bentos.features.plan import FeaturePlan
from bentos.usecase.definition import UseCase
from flows.errors import SourceOptionsError
from flows.sources import EventSource, open_source
from flows.steps.data.folds import TrainingHistory, build_fold
from flows.steps.evaluation.crossfit import cross_fit, select_rows
from flows.steps.fitting.fit import fit_booster
from monitoring.stats.ranking import auc_roc, average_precision

Figures = dict[str, float]


def bench_usecase(usecase: UseCase, data: Path) -> Figures:
    """Out-of-fold figures of a use case without a time; of snapshots, figures on the newest matured one.

    Returns:
        ``auc_roc`` and ``average_precision`` of the model, ``baseline_auc_roc`` of logistic regression
        on the same folds (of snapshots: of the declared measure alone).

    Raises:
        SourceOptionsError: the use case has a time; train and evaluate it instead.
    """
    if usecase.snapshot is not None:
        return _snapshots(usecase, data)[0]
    if not usecase.untimed:
        raise SourceOptionsError(f"{usecase.name} has a time; use 'incumbent train', which measures it on later data")
    source = source_of(usecase, data)
    window = source.extent()
    read = source.read(window, as_of=window.end)
    known = TrainingHistory.at(usecase, read.events, read.labels, read.revisions, window.end)
    plan = FeaturePlan.of(usecase).with_categories(known.events)
    rows = build_fold(usecase, plan, known, window)
    crossed = cross_fit(usecase, plan.names, rows, usecase.training.seed)
    return {
        "auc_roc": _known(auc_roc(rows.y, crossed.judged.scores)),
        "average_precision": _known(average_precision(rows.y, crossed.judged.scores)),
        "baseline_auc_roc": _known(auc_roc(rows.y, crossed.baseline)),
    }


def snapshot_days(usecase: UseCase, data: Path) -> tuple[list[date], date]:
    """The snapshots that train, matured at the moment of the tested one, and the tested one."""
    return _snapshots(usecase, data)[1]


def _snapshots(usecase: UseCase, data: Path) -> tuple[Figures, tuple[list[date], date]]:
    assert usecase.snapshot is not None
    source = source_of(usecase, data)
    window = source.extent()
    # The label of the last snapshots comes after them.
    as_of = window.end + 2 * usecase.label.matures_after
    read = source.read(window, as_of=as_of)
    known = TrainingHistory.at(usecase, read.events, read.labels, read.revisions, as_of)
    plan = FeaturePlan.of(usecase).with_categories(known.events)
    rows = build_fold(usecase, plan, known, window)
    times = rows.rows["event_time"]
    moment = times.max()
    matured = (times + usecase.snapshot.label.no_event_within <= moment).to_numpy()
    fit, test = select_rows(rows, matured), select_rows(rows, (times == moment).to_numpy())
    booster = fit_booster(fit.features, fit.y, plan.names, usecase.training, usecase.training.seed)
    scores = booster.predict(test.features)
    alone = test.features[:, plan.names.index(usecase.snapshot.baseline)]
    figures = {
        "auc_roc": _known(auc_roc(test.y, scores)),
        "average_precision": _known(average_precision(test.y, scores)),
        "baseline_auc_roc": _known(auc_roc(test.y, alone)),
    }
    return figures, (sorted(times[matured].dt.date.unique()), moment.date())


def source_of(usecase: UseCase, data: Path) -> EventSource:
    """A file as a source: Parquet by its ending, else CSV."""
    return open_source(usecase, "parquet" if data.suffix in (".parquet", ".pq") else "csv", path=str(data))


def _known(figure: float | None) -> float:
    assert figure is not None  # cross_fit refuses rows of one class
    return figure
