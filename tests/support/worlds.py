"""A small home in which flows run for real: own home, MLflow store, database, simulated card world."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from bentos.model.calibration import Threshold
from bentos.model.scoring_model import ScoringModel
from bentos.registry.ports import ModelRef
from bentos.usecase.loading import builtin_usecases
from flows.sources import open_source
from flows.steps.data.import_history import load_history
from flows.steps.data.split import days_needed
from flows.workspace.workspace import Workspace, open_workspace
from monitoring.core.calendar import TimeWindow
from monitoring.store import LabelRecord
from monitoring.store.database.frames import to_us
from tests.support.log.simulated_answers import EventBatch, LoadedVersion, log_answers, log_shadow
from tests.support.registries import mlflow_registry
from tests.support.release_requests import appoint

DAY = timedelta(days=1)
SMALLER = {
    'matures_after = "7d"': 'matures_after = "2d"',
    'delay = "7d"': 'delay = "2d"',
    'over = "30d"': 'over = "3d"',
    'train = "28d"': 'train = "7d"',
    'calibration = "7d"': 'calibration = "4d"',
    'test = "7d"': 'test = "4d"',
    'refit_calibration = "4d"': 'refit_calibration = "2d"',
    "customers = 1000": "customers = 400",
    "terminals = 2000": "terminals = 800",
    "min_average_precision = 0.5": "min_average_precision = 0.05",
    "min_recall = 0.5": "min_recall = 0.05",
    "min_matured_rows = 10000": "min_matured_rows = 1000",
    "min_matured_days = 14": "min_matured_days = 3",
    "min_matured_positives = 200": "min_matured_positives = 5",
}
"""What makes the fraud case short enough for a test."""


@dataclass(frozen=True)
class World:
    """One use case, one history, and the days after it.

    Attributes:
        home: what flows open by :attr:`reference`.
        reference: path of the use-case file.
        live_from: first instant after the history.
    """

    workspace: Workspace
    reference: str
    live_from: datetime

    def day(self, number: int) -> datetime:
        """The start of a live day."""
        return self.live_from + number * DAY

    def model(self, version: str = "1") -> ScoringModel:
        """A registered version."""
        return self.workspace.load(ModelRef(self.workspace.model, version))

    def live(self, first: int, last: int, *, shadow: str | None = None) -> None:
        """Answer live days as version 1 would, and score them in shadow; labels follow."""
        usecase, store = self.workspace.usecase, self.workspace.store
        window = TimeWindow(self.day(first), self.day(last))
        read = open_source(usecase, "simulator").read(TimeWindow(self.day(first) - usecase.longest_window, window.end))
        model = self.model()
        wanted = (read.events[usecase.event_time] >= window.start).to_numpy()
        features = model.plan.build(read.events, read.revisions, window.end)[wanted].to_numpy()
        arrived = EventBatch(read.events[wanted].reset_index(drop=True), features, self.live_from)
        log_answers(store, usecase, LoadedVersion(ModelRef(self.workspace.model, "1"), model), arrived)
        if shadow is not None:
            log_shadow(
                store, usecase, LoadedVersion(ModelRef(self.workspace.model, shadow), self.model(shadow)), arrived
            )
        # Also of the last days of history, whose labels were not known when it was imported.
        known = read.revisions[read.revisions["y"] == 1]
        rows = zip(known["event_id"], known["observed_at"], strict=True)
        store.labels.add(
            [LabelRecord(usecase.name, e, 1, to_us(at), "chargeback", to_us(at)) for e, at in rows], usecase.label
        )

    def challenger(self, threshold: float, folder: Path) -> ModelRef:
        """Register version 1 with another threshold and appoint it on the first live day."""
        changed = replace(self.model(), threshold=Threshold(threshold, threshold, threshold))
        changed.save(folder)
        ref = self.workspace.registry.register(folder, self.workspace.model)
        appoint(
            self.workspace.registry, self.workspace.store, ref, "challenger",
            usecase=self.workspace.usecase, actor="test", now=self.live_from, reason="a test",
        )  # fmt: skip
        return ref


@contextmanager
def small_world(
    folder: Path, *, history: bool = True, changes: Mapping[str, str] = MappingProxyType({})
) -> Iterator[World]:
    """A world in a folder of its own; ``INCUMBENT_HOME`` points there meanwhile.

    ``changes`` are lines of the use-case file and what stands there instead, beside :data:`SMALLER`.
    """
    text = builtin_usecases()["fraud"].read_text(encoding="utf-8")
    for old, new in (SMALLER | dict(changes)).items():
        assert old in text, old
        text = text.replace(old, new)
    file = folder / "small.toml"
    file.write_text(text, encoding="utf-8")
    mlflow_registry(folder / "home")
    before = os.environ.get("INCUMBENT_HOME")
    os.environ["INCUMBENT_HOME"] = str(folder / "home")
    try:
        workspace = open_workspace(str(file))
        start = workspace.usecase.calendar.start_of(workspace.usecase.source.simulator.start)
        live_from = start + (days_needed(workspace.usecase) + 2) * DAY
        if history:
            source = open_source(workspace.usecase, "simulator")
            load_history(source, TimeWindow(start, live_from), workspace.store, workspace.usecase, live_from)
        yield World(workspace, str(file), live_from)
        workspace.store.close()
    finally:
        if before is None:
            del os.environ["INCUMBENT_HOME"]
        else:
            os.environ["INCUMBENT_HOME"] = before
