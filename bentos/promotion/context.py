"""What every change of roles works with: registry, store, use case, and how a version's files are looked at."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bentos.errors import ModelCorrupt, RoleVacant, VersionMissing
from bentos.model.scoring_model import DIGESTS_FILE, verified_files
from bentos.registry.ports import ModelRef, ModelRegistry, Role
from bentos.usecase.definition import UseCase
from monitoring.core.hashing import sha256_hex
from monitoring.policies.promotion import PromotionPolicy
from monitoring.store import Store

Check = Callable[[Path], None]
"""Loads the model in a folder where it can do no harm; raises ``ModelError`` when it must not serve."""


@dataclass(frozen=True)
class ReleaseContext:
    """What stands for a whole release.

    Attributes:
        registry, store: where roles and journal are.
        usecase: whose models and rules.
        model: name in the registry, for example ``dev-fraud``.
        check: looks at a version's files; none loads it in a process apart.
        wait_seconds: longest wait for the replicas to serve the new champion; 0 does not wait.
        checked: contract digests of content that passed the check: the same bytes need no second look.
    """

    registry: ModelRegistry
    store: Store
    usecase: UseCase
    model: str
    check: Check | None = None
    wait_seconds: float = 0.0
    checked: set[str] = field(default_factory=set)

    @property
    def rules(self) -> PromotionPolicy:
        """When a verdict carries a promotion."""
        return self.usecase.promotion

    def holder(self, role: Role) -> str | None:
        """The version that holds a role now, by the registry's word."""
        try:
            return self.registry.resolve(self.model, role).version
        except (RoleVacant, VersionMissing):
            return None

    def journalled(self, role: Role) -> str | None:
        """The version that holds a role, by the journal's word."""
        terms = self.store.decisions.terms(self.model, role)
        return terms[-1][0] if terms else None

    def contract_of(self, version: str, expected: str | None = None) -> str:
        """Fetch a version, compare its digests, look at it, and return its contract digest.

        Raises:
            ModelError: it must not serve, or its content is not the ``expected`` one.
        """
        ref = ModelRef(self.model, version)
        with tempfile.TemporaryDirectory(prefix="incumbent-release-") as scratch:
            folder = self.registry.fetch(ref, Path(scratch) / version)
            digest = sha256_hex(verified_files(folder)[DIGESTS_FILE])
            if expected not in (None, digest):
                raise ModelCorrupt("its content is not the one that was planned")
            if digest not in self.checked:
                (self.check or make_isolated_check(self.usecase))(folder)
                self.checked.add(digest)
        return digest

    @property
    def lease_name(self) -> str:
        """Name of the lease that keeps releases of one model apart."""
        return f"release:{self.model}"


def make_isolated_check(usecase: UseCase) -> Check:
    """A check that loads a model, and scores its golden rows, in a process that may crash."""

    def check(folder: Path) -> None:
        from bentos.model.isolated_check import Verifier
        from bentos.schema.event_schema import EventSchema

        verifier = Verifier()
        try:
            verifier.check(folder, EventSchema.of(usecase).fingerprint)
        finally:
            verifier.close()

    return check
