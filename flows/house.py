"""What every flow works with: settings, use case, store, registry. The composition root of this room."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from bentos.settings import Settings, read_settings
from bentos.usecase import UseCase, load_usecase

if TYPE_CHECKING:
    from bentos.roles import ModelRef, ModelRegistry
    from flows.steps.snapshot import SnapshotStore
    from monitoring.store import Store


@dataclass(frozen=True)
class House:
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
        from monitoring.store import open_store

        return open_store(self.settings.log_url)

    @cached_property
    def registry(self) -> ModelRegistry:
        from bentos.registry import open_registry

        return open_registry(self.settings)

    @cached_property
    def snapshots(self) -> SnapshotStore:
        from flows.steps.snapshot import SnapshotStore

        return SnapshotStore(self.settings.snapshots)

    @property
    def model(self) -> str:
        """Name of the model in the registry: ``dev-fraud``."""
        return self.settings.model_name(self.usecase.name)

    def champion(self) -> ModelRef:
        """The version in office; raises :class:`~bentos.errors.RoleVacant` when nobody is."""
        return self.registry.resolve(self.model, "champion")


def open_house(reference: str | None = None, **overrides: object) -> House:
    """The house of a use case; none takes ``INCUMBENT_USECASE``.

    Raises:
        UseCaseError: the file is missing or wrong.
        SettingsError: a variable is wrong.
    """
    settings = read_settings(**overrides)
    named = reference or settings.usecase
    return House(settings, load_usecase(named), named)


def machine_now() -> datetime:
    """Machine time, for journals and records."""
    return datetime.now(UTC)


def business_time(as_of: datetime | None) -> datetime:
    """The business time of a run: as given (UTC where it names no zone), else now."""
    if as_of is None:
        return machine_now()
    return as_of if as_of.tzinfo is not None else as_of.replace(tzinfo=UTC)
