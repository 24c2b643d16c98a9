"""Scores in bulk: the same features and model as online, for a whole window at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bentos.usecase.definition import UseCase
from flows.sources.base import EventSource
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from datetime import datetime

    from bentos.model.scoring_model import ScoringModel


@step(
    name="score a window",
    run_name="score {window.start:%Y-%m-%d} to {window.end:%Y-%m-%d} of {usecase.name}",
    tags=("database",),
    retried=True,
)
def score_window(
    usecase: UseCase, source: EventSource, model: ScoringModel, window: TimeWindow, as_of: datetime
) -> pd.DataFrame:
    """Score the events of a window; earlier events of the source warm its windows.

    Returns:
        The events with ``score``, ``threshold`` and ``decision``, highest score first.

    Raises:
        NoData: the window holds no event.
        SchemaProblem: the source does not fit the use case.
    """
    context = TimeWindow(window.start - usecase.longest_window, window.end)
    source.read(window, as_of=as_of)  # an empty window must not hide behind its context
    history = source.read(context, as_of=as_of)
    features = model.plan.build(history.events, history.revisions, as_of)
    in_window = (history.events[usecase.event_time] >= window.start).to_numpy()
    scores = model.score(features.to_numpy()[in_window])
    cuts = model.threshold.value if scores.cuts is None else scores.cuts
    table = history.events[in_window].assign(
        score=scores.calibrated, threshold=cuts, decision=model.decide(scores.calibrated, scores.cuts)
    )
    return table.sort_values(["score", usecase.event_id], ascending=[False, True]).reset_index(drop=True)


@step(name="write the list", run_name="write the list of {name}", tags=("files",))
def write_score_list(table: pd.DataFrame, folder: Path, name: str, window: TimeWindow) -> tuple[Path, Path]:
    """Write the list as Parquet and CSV; the files are named by model and window."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{window.start:%Y%m%dT%H%M}-{window.end:%Y%m%dT%H%M}"
    files = (folder / f"{stem}.parquet", folder / f"{stem}.csv")
    table.to_parquet(files[0], index=False)
    table.to_csv(files[1], index=False)
    return files
