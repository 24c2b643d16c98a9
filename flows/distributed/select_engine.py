"""One training or one list of scores, by the engine that was chosen; Dask is imported only for its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bentos.registry.ports import ModelRef
from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused
from flows.runs.parameters import EngineChoice, SourceChoice
from flows.sources.base import EventSource
from flows.steps.bulk.input import BulkInput
from flows.steps.bulk.output import BulkOutput
from flows.steps.bulk.score_table import BulkResult, score_table
from flows.steps.data.read_history import history_window, read_history
from flows.steps.training.train import TrainingOutcome, train_model
from flows.steps.training.training_steps import TrainingStores
from flows.workspace.progress import report_step
from flows.workspace.workspace import Workspace
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from flows.distributed.slices import SourceCall


@dataclass(frozen=True)
class Prepared:
    """A training that can begin.

    Attributes:
        as_of: its business time.
        train: does it.
    """

    as_of: datetime
    train: Callable[[], TrainingOutcome]


def prepare_training(
    workspace: Workspace, usecase: UseCase, choice: SourceChoice, until: datetime | None, engine: EngineChoice
) -> Prepared:
    """Find the history, and say what trains on it.

    Raises:
        NoData: the source ends before it starts to matter.
        FlowRefused: engine and scheduler contradict each other, or the use case looks values up on a cluster.
    """
    address, source = engine.address(workspace.settings), choice.open(workspace)
    if address is None:
        history = read_history(source, usecase, until)
        return Prepared(
            history.as_of,
            lambda: train_model(
                usecase,
                history.read,
                history.as_of,
                stores=TrainingStores.of(workspace),
                progress=report_step,
            ),
        )
    _no_lookups(usecase)
    window = history_window(source, usecase, until)
    call, rows = _source_call(workspace, usecase, choice), estimate_rows(source, window)
    return Prepared(window.end, lambda: _train_on_cluster(workspace, address, call, window, rows))


def score_by_engine(
    workspace: Workspace,
    ref: ModelRef,
    table_in: str,
    table_out: str,
    as_of: datetime,
    reasons: bool,
    engine: EngineChoice,
) -> BulkResult:
    """Score every row of a table; see :func:`flows.steps.bulk.score_table.score_table`."""
    address = engine.address(workspace.settings)
    source, target = (
        BulkInput(workspace.usecase, table_in),
        BulkOutput(table_out, workspace.score_lists),
    )
    if address is None:
        return score_table(
            workspace.usecase, workspace.load(ref), ref, source, target, as_of, reasons=reasons, progress=report_step
        )  # fmt: skip
    _no_lookups(workspace.usecase)
    from flows.distributed.dask_cluster import open_cluster
    from flows.distributed.scoring import score_on_cluster

    with open_cluster(address, workspace.settings.root, report_step) as cluster:
        return score_on_cluster(
            cluster, workspace.usecase, workspace.load(ref), ref, source, target, as_of, reasons=reasons
        )


def _no_lookups(usecase: UseCase) -> None:
    """Workers have no installation of their own to read the tables from; refused before anything starts."""
    if usecase.lookups:
        raise FlowRefused(
            f"{usecase.name} fills columns from look-up tables, which the dask engine cannot do; use --engine single"
        )


def estimate_rows(source: EventSource, window: TimeWindow) -> int | None:
    """About how many rows a window holds, where a source knows its rows without reading them."""
    from flows.sources.parquet import ParquetSource

    if not isinstance(source, ParquetSource):
        return None
    share = window.length / max(source.extent().length, window.length)
    return max(1, round(source.rows() * share))


def _train_on_cluster(
    workspace: Workspace, address: str, call: SourceCall, window: TimeWindow, rows: int | None
) -> TrainingOutcome:
    from flows.distributed.dask_cluster import open_cluster
    from flows.distributed.training import train_on_cluster

    with open_cluster(address, workspace.settings.root, report_step) as cluster:
        return train_on_cluster(
            cluster,
            call,
            window,
            stores=TrainingStores.of(workspace),
            rows=rows,
            progress=report_step,
        )


def _source_call(workspace: Workspace, usecase: UseCase, choice: SourceChoice) -> SourceCall:
    from flows.distributed.slices import SourceCall

    path = choice.path or usecase.source.path
    # A worker has a working directory of its own.
    path = path if path is None or "://" in path or "${" in path else str(Path(path).absolute())
    options = {"path": path, "url": choice.url, "table": choice.table}
    return SourceCall(usecase, choice.kind, {k: v for k, v in options.items() if v}, workspace.settings.log_url)
