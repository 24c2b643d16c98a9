"""What retraining by itself is worth on a drifting stream: the loop against no retraining and a fixed schedule."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import numpy as np

from bentos.model.scoring_model import ModelMetadata
from flows.sources.base import EventSource
from flows.steps.data.folds import build_fold
from flows.steps.data.split import retraining_case, split_at
from flows.steps.evaluation.judge import Folds
from flows.steps.fitting.build import Recipe
from flows.steps.training.training_data import refit, training_plan
from flows.workspace.workspace import Workspace
from monitoring.core.calendar import TimeWindow
from tests.bench.quality.halves import Floats, Stream
from tests.bench.quality.simulated_time import Progress, Retraining, first_model, live_through

PHASES: Final = 4
"""Schedules that begin a quarter of their period apart."""


def bench_stream(
    workspace: Workspace, source: EventSource, tell: Progress = lambda done, total: None
) -> dict[str, Any]:
    """Measure; the keys are those of ``docs/reference/benchmarks.md``.

    Args:
        home: an empty home, which ``INCUMBENT_HOME`` names too.
        source: the file.
        tell: told of each day.

    Raises:
        FlowRefused: the file is no stream, or the gates refuse the first model.
        SourceError: the file cannot be read.
        TooFewRows: the first half is shorter than the folds.
    """
    stream = Stream.of(workspace.usecase, source)
    first = first_model(workspace, stream, source)
    static = np.asarray(first.model.score(stream.features(first.model)).calibrated)
    lived, answered = live_through(workspace, stream, first, tell)
    count = len(lived.retrainings)
    phases = [fixed_schedule(stream, static, count, phase / PHASES) for phase in range(PHASES)]
    return {
        "auc_static": stream.auc(static),
        "auc_loop": stream.auc(answered),
        "auc_fixed_schedule": float(np.mean(phases)),
        "retrainings": count,
        "promotions": sum(one.in_office is not None for one in lived.retrainings),
        "auc_fixed_phases": phases,
        "days": stream.days,
        "first_day": str(workspace.usecase.calendar.day_of(stream.half)),
        "drift_noticed": [str(day) for day in lived.noticed],
        "mornings_blocked": lived.blocked,
        "decisions": [_plain(one) for one in lived.retrainings],
    }


def fixed_schedule(stream: Stream, static: Floats, count: int, phase: float) -> float:
    """AUC of ``count`` evenly spaced retrainings on the same folds, each of which answers at once.

    Args:
        stream: the file.
        static: scores of the first model, which answers until the first retraining.
        count: retrainings in the second half.
        phase: share of the period by which the schedule begins later.
    """
    scores = static.copy()
    for number in range(count):
        day = round((number + phase) * stream.days / count)
        if day < stream.days:
            rows = slice(int(stream.places[day]), None)
            scores[rows] = _trained(stream, day)[rows]
    return stream.auc(scores)


def _trained(stream: Stream, day: int) -> Floats:
    """Scores of all events by a model that is trained on the morning of a day of the second half."""
    as_of, usecase = stream.starts[day], retraining_case(stream.usecase)
    split, known = split_at(usecase, as_of), stream.known(as_of, usecase)
    recipe = Recipe(usecase, training_plan(usecase, known, split), usecase.training.seed)
    rows = build_fold(usecase, recipe.plan, known, TimeWindow(split.train.start, split.matured_until))
    model = refit(recipe, Folds.cut(rows, split), ModelMetadata(usecase.name, "0.0.0"))
    return np.asarray(model.score(stream.features(model)).calibrated)


def _plain(one: Retraining) -> dict[str, Any]:
    """A retraining as JSON values."""
    return {
        name: str(value) if name in ("day", "in_office") and value else value for name, value in asdict(one).items()
    }


def lines(found: dict[str, Any]) -> list[tuple[str, object]]:
    """The figures as rows of a table for people."""
    rows: list[tuple[str, object]] = [(name, found[name]) for name in ("auc_static", "auc_loop", "auc_fixed_schedule")]
    rows += [(name, found[name]) for name in ("retrainings", "promotions", "days", "first_day", "mornings_blocked")]
    rows += [("drift noticed on", day) for day in found["drift_noticed"]]
    return rows + [(one["day"], "; ".join([one["role"] or "refused", *one["reasons"]])) for one in found["decisions"]]
