"""Model versions, the roles they hold, and the port through which everything asks for them.

The adapter is :mod:`bentos.registry.mlflow`; ``tests.support.fakes.FakeRegistry`` passes the same contract tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, get_args

if TYPE_CHECKING:
    from bentos.registry.routing_policy import RoutingPolicy

Role = Literal["champion", "challenger", "candidate", "previous"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)


@dataclass(frozen=True, order=True)
class ModelRef:
    """One registered version. ``version`` is text whatever the backend returns."""

    name: str
    version: str

    @property
    def label(self) -> str:
        """``dev-fraud/3``."""
        return f"{self.name}/{self.version}"

    @classmethod
    def parse(cls, label: str) -> ModelRef:
        """The reverse of :attr:`label`; raises ``ValueError`` for other text."""
        name, _, version = label.rpartition("/")
        if not name or not version:
            raise ValueError(f"a model label is name/version, for example dev-fraud/3: {label!r}")
        return cls(name, version)


@dataclass(frozen=True)
class VersionInfo:
    """What the registry knows about a version.

    Attributes:
        ref: the version.
        tags: text to text; ours are listed in ``flows.steps.tracking.mlflow_run``.
        created_at: machine time, UTC.
        run_id: the run that trained it, or none.
        description: free text.
    """

    ref: ModelRef
    tags: Mapping[str, str]
    created_at: datetime
    run_id: str | None = None
    description: str = ""


@dataclass(frozen=True)
class RolesView:
    """What one look-up finds: the roles, and the routing policy as the registry's text."""

    roles: Mapping[Role, ModelRef]
    routing: str | None = None


class ModelRegistry(Protocol):
    """The port. Every method may raise :class:`~bentos.errors.RegistryUnavailable`."""

    def resolve(self, name: str, alias: str) -> ModelRef:
        """The version that holds a role; raises :class:`~bentos.errors.RoleVacant` when none does."""
        ...

    def roles(self, name: str) -> dict[Role, ModelRef]:
        """All roles of a model in one look-up; empty for a model that does not exist."""
        ...

    def look(self, name: str) -> RolesView:
        """Roles and routing in one look-up, for those who poll; empty for a model that does not exist."""
        ...

    def routing(self, name: str) -> RoutingPolicy | None:
        """The routing policy of a model; none where none was set.

        Raises :class:`~bentos.errors.RoutingError` for one that cannot be read.
        """
        ...

    def set_routing(self, name: str, policy: RoutingPolicy | None) -> None:
        """Set the routing policy, or take it away; raises :class:`~bentos.errors.VersionMissing` without a model."""
        ...

    def point(self, name: str, alias: str, version: str) -> None:
        """Give a role to a version; raises :class:`~bentos.errors.VersionMissing`."""
        ...

    def clear(self, name: str, alias: str) -> None:
        """Take a role away; a vacant role stays vacant without an error."""
        ...

    def register(
        self,
        folder: Path,
        name: str,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
        description: str = "",
    ) -> ModelRef:
        """Store the model in ``folder`` (:meth:`bentos.model.scoring_model.ScoringModel.save`) as a new version.

        The version row is written last, with its tags, so a failure leaves no version behind.
        Raises :class:`~bentos.errors.ModelCorrupt` when the folder's files differ from their digests.
        """
        ...

    def restore(self, ref: ModelRef, folder: Path, tags: Mapping[str, str]) -> ModelRef:
        """Register a verified copy of a version that was lost; under its own number where the backend allows that.

        Returns the version that it became.
        """
        ...

    def experiment_deleted(self, name: str) -> bool:
        """Whether what trainings of a model are recorded under was deleted, and can be brought back."""
        ...

    def bring_back_experiment(self, name: str) -> None:
        """Undo the deletion of what trainings of a model are recorded under."""
        ...

    def fetch(self, ref: ModelRef, into: Path) -> Path:
        """Copy a version's model files into the folder ``into`` (made if missing) and return it.

        Nothing is verified or parsed here. Raises :class:`~bentos.errors.VersionMissing`.
        """
        ...

    def describe(self, ref: ModelRef) -> VersionInfo:
        """Tags, time and run of a version; raises :class:`~bentos.errors.VersionMissing`."""
        ...

    def versions(self, name: str) -> list[VersionInfo]:
        """All versions of a model, oldest first; empty for a model that does not exist."""
        ...
