"""What every flow works with: settings, use case, store, registry. The composition root of this room."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from bentos.errors import RoleVacant
from bentos.scoring.future_bound import FutureBound
from bentos.scoring.intake import machine_time_us
from bentos.scoring.recent_times import SAMPLE, RecentTimes
from bentos.settings import Environment, Settings, read_settings
from bentos.usecase.definition import UseCase
from bentos.usecase.loading import load_usecase
from flows.errors import FlowRefused
from flows.workspace.step import step
from monitoring.core.calendar import TimeWindow
from monitoring.store.predictions.recent_pairs import latest_times

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel
    from bentos.promotion.context import ReleaseContext
    from bentos.promotion.request import Request
    from bentos.registry.ports import ModelRef, ModelRegistry, Role
    from flows.snapshots.store import SnapshotStore
    from monitoring.store import Store


@dataclass(frozen=True)
class Workspace:
    """One use case in one environment. Store and registry are opened when first used.

    Attributes:
        settings: folders, addresses, environment.
        usecase: everything that is policy.
        reference: how the use case was named, for records and links.
    """

    settings: Settings
    usecase: UseCase
    reference: str

    @cached_property
    def store(self) -> Store:
        """The prediction log and what lies beside it; opening upgrades its schema."""
        from monitoring.store import open_store

        return open_store(self.settings.log_url)

    @cached_property
    def registry(self) -> ModelRegistry:
        """Versions and their roles."""
        from bentos.registry.mlflow import open_registry

        return open_registry(self.settings)

    @cached_property
    def snapshots(self) -> SnapshotStore:
        """Training data, kept by content."""
        from flows.snapshots.store import SnapshotStore

        return SnapshotStore(self.settings.snapshots)

    @cached_property
    def evidence(self) -> SnapshotStore:
        """The rows that verdicts rest on, kept by content; nothing tidies this folder."""
        from flows.snapshots.store import SnapshotStore

        return SnapshotStore(self.settings.root / "evidence")

    @property
    def model(self) -> str:
        """Name of the model in the registry: ``dev-fraud``."""
        return self.settings.model_name(self.usecase.name)

    @property
    def name(self) -> str:
        """What people call the use case in this home; its id is ``usecase.name``."""
        from flows.workspace.installation import Home
        from flows.workspace.roster import current_name

        return current_name(Home(self.settings), self.usecase.name)

    @property
    def actor(self) -> str:
        """Who is acting, for records: ``INCUMBENT_ACTOR``, else the user of this process and machine."""
        from bentos.promotion.promote import default_actor

        return os.environ.get("INCUMBENT_ACTOR") or default_actor()

    def request(self, reason: str, at: datetime, preview: bool = False) -> Request:
        """A request of whoever is acting for a change of roles, at business time ``at``."""
        from bentos.promotion.request import Request

        return Request(self.actor, reason, at, preview)

    def release_context(self, wait_seconds: float = 0.0) -> ReleaseContext:
        """What a change of roles works with; ``wait_seconds`` is the longest wait for the replicas to follow."""
        from bentos.promotion.context import ReleaseContext

        return ReleaseContext(self.registry, self.store, self.usecase, self.model, wait_seconds=wait_seconds)

    def version(self, number: str | None, roles: Sequence[Role]) -> ModelRef:
        """The named version, else whoever holds the first of the roles that is taken.

        Raises:
            RoleVacant: none of the roles is taken.
        """
        from bentos.registry.ports import ModelRef

        if number is not None:
            return ModelRef(self.model, number)
        holders = self.registry.roles(self.model)
        for role in roles:
            if role in holders:
                return holders[role]
        role_names = " or ".join(f"@{role}" for role in roles)
        raise RoleVacant(f"{self.model} has no {role_names}; train a model first; if it had one: incumbent status")

    def champion(self) -> ModelRef:
        """The active version; raises :class:`~bentos.errors.RoleVacant` when nobody is."""
        return self.registry.resolve(self.model, "champion")

    @step(name="load the model", run_name="load {ref.label}", tags=("registry",), retried=True)
    def load(self, ref: ModelRef) -> ScoringModel:
        """A version, verified by its digests and loaded; a copy is kept."""
        from bentos.model.scoring_model import ScoringModel
        from bentos.registry.cache import ModelCache

        cache = ModelCache(self.settings.cache(self.usecase.name) / "flows")
        return ScoringModel.load(cache.fetch(self.registry, ref)[0])

    def load_content(self, ref: ModelRef, contract: str | None) -> ScoringModel:
        """A version with exactly that content, also without a registry where the service keeps a copy."""
        from bentos.errors import RegistryUnavailable
        from bentos.model.scoring_model import ScoringModel
        from bentos.registry.cache import ModelCache

        folder = self.settings.cache(self.usecase.name)
        try:
            return ScoringModel.load(ModelCache(folder / "flows").fetch(self.registry, ref, contract)[0], contract)
        except RegistryUnavailable:
            return ScoringModel.load(ModelCache(folder).fetch(self.registry, ref, contract)[0], contract)

    def verified_copy(self, ref: ModelRef, contract: str) -> Path | None:
        """The folder of a copy with exactly that content on this machine; none where no process has kept one."""
        from bentos.registry.cache import ModelCache

        folder = self.settings.cache(self.usecase.name)
        copies = (
            ModelCache(cache_folder).kept(ref, contract)
            for cache_folder in (folder, folder / "flows", folder / "shadow")
        )
        return next((copy for copy in copies if copy is not None), None)

    @property
    def score_lists(self) -> Path:
        """Folder of the lists that are scored in bulk."""
        return self.settings.reports / "scores"

    def last_day(self, as_of: datetime) -> TimeWindow:
        """The last whole business day before ``as_of``."""
        calendar = self.usecase.calendar
        end = calendar.start_of(calendar.day_of(as_of))
        return TimeWindow(calendar.start_of(calendar.day_of(end - timedelta(hours=1))), end)


def open_workspace(reference: str | None = None, **overrides: object) -> Workspace:
    """The home of a use case; none takes ``INCUMBENT_USECASE``.

    Raises:
        UseCaseError: the file is missing or wrong.
        SettingsError: a variable is wrong.
        FlowRefused: a worker of another environment took the run of a deployment.
    """
    from flows.workspace.installation import Home
    from flows.workspace.roster import resolve_usecase

    settings = read_settings(**overrides)
    require_own_environment(settings.env, os.environ.get("PREFECT__DEPLOYMENT_NAME", ""))
    usecase_reference = resolve_usecase(Home(settings), reference or settings.usecase)
    return Workspace(settings, load_usecase(usecase_reference), usecase_reference)


def require_own_environment(env: str, deployment: str) -> None:
    """Refuse the run of a deployment of another environment; evidence never crosses it.

    Args:
        env: that of this process.
        deployment: name of the deployment whose run this is, ``prod-fraud-training``; empty outside a worker.

    Raises:
        FlowRefused: naming both.
    """
    deployment_env = deployment.partition("-")[0]
    if deployment_env in get_args(Environment) and deployment_env != env:
        raise FlowRefused(
            f"{deployment} is a deployment of {deployment_env}, and this worker works for {env}; "
            f"give {deployment_env} a Prefect server, or a work pool and a worker, of its own"
        )


def declared_bound(workspace: Workspace) -> FutureBound:
    """The bound on the future for rows that come by other roads than the service; a stream's clock is the log's."""
    recent = RecentTimes()
    if workspace.settings.clock == "stream":
        recent.seed(latest_times(workspace.store.database, workspace.usecase.name, SAMPLE))
    return FutureBound(workspace.settings, machine_time_us, recent)
