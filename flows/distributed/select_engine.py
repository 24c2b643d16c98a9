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
from flows.workspace.progress import told
from flows.workspace.workspace import House
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


def prepared_training(
    house: House, usecase: UseCase, chosen: SourceChoice, until: datetime | None, engine: EngineChoice
) -> Prepared:
    """Find the history, and say what trains on it.

    Raises:
        NoData: the source ends before it starts to matter.
        FlowRefused: engine and scheduler contradict each other, or the use case looks values up on a cluster.
    """
    address, source = engine.address(house.settings), chosen.open(house)
    if address is None:
        history = read_history(source, usecase, until)
        return Prepared(
            history.as_of,
            lambda: train_model(
                usecase, history.read, history.as_of,
                settings=house.settings, registry=house.registry, snapshots=house.snapshots, progress=told,
            ),
        )  # fmt: skip
    _no_lookups(usecase)
    window = history_window(source, usecase, until)
    call, rows = _call(house, usecase, chosen), rows_within(source, window)
    return Prepared(window.end, lambda: _on_cluster(house, address, call, window, rows))


def score_anywhere(
    house: House, ref: ModelRef, read: str, write: str, as_of: datetime, reasons: bool, engine: EngineChoice
) -> BulkResult:
    """Score every row of a table; see :func:`flows.steps.bulk.score_table.score_table`."""
    address = engine.address(house.settings)
    source, target = BulkInput(house.usecase, read), BulkOutput(write, house.settings.reports / "scores")
    if address is None:
        return score_table(
            house.usecase, house.load(ref), ref, source, target, as_of, reasons=reasons, progress=told
        )  # fmt: skip
    _no_lookups(house.usecase)
    from flows.distributed.dask_cluster import connected
    from flows.distributed.scoring import score_on_cluster

    with connected(address, house.settings.root, told) as cluster:
        return score_on_cluster(cluster, house.usecase, house.load(ref), ref, source, target, as_of, reasons=reasons)


def _no_lookups(usecase: UseCase) -> None:
    """Workers have no installation of their own to read the tables from; refused before anything starts."""
    if usecase.lookups:
        raise FlowRefused(
            f"{usecase.name} fills columns from look-up tables, which the dask engine cannot do; use --engine single"
        )


def rows_within(source: EventSource, window: TimeWindow) -> int | None:
    """About how many rows a window holds, where a source knows its rows without reading them."""
    from flows.sources.parquet import ParquetSource

    if not isinstance(source, ParquetSource):
        return None
    share = window.length / max(source.extent().length, window.length)
    return max(1, round(source.rows() * share))


def _on_cluster(house: House, address: str, call: SourceCall, window: TimeWindow, rows: int | None) -> TrainingOutcome:
    from flows.distributed.dask_cluster import connected
    from flows.distributed.training import train_on_cluster

    with connected(address, house.settings.root, told) as cluster:
        return train_on_cluster(
            cluster, call, window, settings=house.settings, registry=house.registry, snapshots=house.snapshots,
            rows=rows, progress=told,
        )  # fmt: skip


def _call(house: House, usecase: UseCase, chosen: SourceChoice) -> SourceCall:
    from flows.distributed.slices import SourceCall

    path = chosen.path or usecase.source.path
    # A worker has a working directory of its own.
    path = path if path is None or "://" in path or "${" in path else str(Path(path).absolute())
    given = {"path": path, "url": chosen.url, "table": chosen.table}
    return SourceCall(usecase, chosen.kind, {k: v for k, v in given.items() if v}, house.settings.log_url)
