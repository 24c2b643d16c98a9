"""What a training leaves behind in MLflow: one run with parameters, figures, data and pictures.

Everything is logged by name through the client; autologging costs seconds a fit and knows nothing of
money, and the fluent functions keep a process-wide tracking URI.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bentos.errors import RegistryUnavailable, VersionMissing
from bentos.registry.mlflow import MlflowRegistry, ModelRegistry, translate_errors

_DIGEST_LENGTH = 36  # MLflow's column; the whole digest is a parameter beside it
_TEXT_LENGTH = 5_000


@dataclass(frozen=True)
class DatasetFacts:
    """The data of a run. MLflow's own hash looks at 10,000 rows only, so ours is given.

    Attributes:
        name: for people, for example ``fraud``.
        digest: SHA-256 of the whole snapshot.
        source: where it can be loaded again.
        columns: name to type.
        rows, positives: how much it is.
    """

    name: str
    digest: str
    source: str
    columns: Mapping[str, str]
    rows: int
    positives: int


class Tracker(Protocol):
    """Where runs are logged. Every method may raise :class:`~bentos.errors.RegistryUnavailable`."""

    def start(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Open a run and return its id."""
        ...

    def log(
        self,
        run_id: str,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add parameters, figures and tags."""
        ...

    def dataset(self, run_id: str, facts: DatasetFacts) -> None:
        """Name the data that the run read."""
        ...

    def params(self, run_id: str) -> Mapping[str, str]:
        """The parameters of a run; raises ``VersionMissing``."""
        ...

    def keep(self, run_id: str, folder: Path) -> None:
        """Store a folder's files with the run."""
        ...

    def fetch(self, run_id: str, path: str, into: Path) -> Path:
        """Copy a kept file or folder and return where it is now; raises ``VersionMissing``."""
        ...

    def finish(self, run_id: str, ok: bool) -> None:
        """Close the run."""
        ...


class MlflowTracker:
    """The tracker of an :class:`~bentos.registry.mlflow.MlflowRegistry`; both use one client."""

    def __init__(self, registry: MlflowRegistry) -> None:
        self.registry = registry

    def start(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """See :class:`Tracker`."""
        with translate_errors(experiment):
            experiment_id = self.registry.experiment(experiment)
            return str(self.registry.client.create_run(experiment_id, tags=dict(tags), run_name=name).info.run_id)

    def log(
        self,
        run_id: str,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """See :class:`Tracker`; one write."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        with translate_errors(f"run {run_id}"):
            self.registry.client.log_batch(
                run_id,
                metrics=[Metric(k, v, now, 0) for k, v in (metrics or {}).items()],
                params=[Param(k, str(v)[:_TEXT_LENGTH]) for k, v in (params or {}).items()],
                tags=[RunTag(k, v[:_TEXT_LENGTH]) for k, v in (tags or {}).items()],
            )

    def dataset(self, run_id: str, facts: DatasetFacts) -> None:
        """See :class:`Tracker`."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset_entity = Dataset(
            name=facts.name,
            digest=facts.digest[:_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": facts.source}),
            schema=json.dumps({"columns": dict(facts.columns)}),
            profile=json.dumps({"num_rows": facts.rows, "num_positives": facts.positives, "sha256": facts.digest}),
        )
        with translate_errors(f"run {run_id}"):
            entry = DatasetInput(dataset_entity, [InputTag("mlflow.data.context", "training")])
            self.registry.client.log_inputs(run_id, datasets=[entry])

    def params(self, run_id: str) -> Mapping[str, str]:
        """See :class:`Tracker`."""
        with translate_errors(f"run {run_id}"):
            return dict(self.registry.client.get_run(run_id).data.params)

    def keep(self, run_id: str, folder: Path) -> None:
        """See :class:`Tracker`."""
        with translate_errors(f"run {run_id}"):
            self.registry.client.log_artifacts(run_id, str(folder))

    def fetch(self, run_id: str, path: str, into: Path) -> Path:
        """See :class:`Tracker`."""
        into.mkdir(parents=True, exist_ok=True)
        with translate_errors(f"run {run_id}"):
            try:
                return Path(self.registry.client.download_artifacts(run_id, path, str(into)))
            except FileNotFoundError as exc:
                raise VersionMissing(f"run {run_id} keeps no {path}; it was not made by a training") from exc

    def finish(self, run_id: str, ok: bool) -> None:
        """See :class:`Tracker`."""
        with translate_errors(f"run {run_id}"):
            self.registry.client.set_terminated(run_id, "FINISHED" if ok else "FAILED")


@contextmanager
def open_run(tracker: Tracker, experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[str]:
    """A run that is closed as failed when its body raises."""
    run_id = tracker.start(experiment, name, tags)
    try:
        yield run_id
    except BaseException:
        with suppress(RegistryUnavailable):  # the first error is the one to show
            tracker.finish(run_id, ok=False)
        raise
    # What the run was for is done; a run that looks open is not worth a failure.
    with suppress(RegistryUnavailable):
        tracker.finish(run_id, ok=True)


def tracker_of(registry: ModelRegistry) -> Tracker:
    """The tracker that belongs to a registry.

    Raises:
        TypeError: for another registry than MLflow's; pass a tracker beside it.
    """
    if not isinstance(registry, MlflowRegistry):
        raise TypeError(f"no tracker is known for a {type(registry).__name__}; pass one")
    return MlflowTracker(registry)
