"""Change the routing policy of a model: a line in the chain of decisions, then one write to the registry.

The line comes first, so a process that dies between the two leaves a decision that is carried out by
whoever looks next. Only a return to the champion is carried out even when the line cannot be written.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from bentos.errors import RoutingError
from bentos.registry.ports import ModelRegistry
from bentos.registry.routing_policy import EXTERNAL, Arm, RoutingPolicy, canary
from bentos.schema.column_types import TEXT_TYPES
from bentos.usecase.definition import UseCase
from monitoring.errors import LeaseHeld, MonitoringError
from monitoring.store import Decision, Store

ROUTING: Final = "routing"
"""Kind of every decision about routing; its payload says under ``event`` what happened."""
_LEASE_SECONDS: Final = 20.0


@dataclass(frozen=True)
class RoutingContext:
    """What changes the routing of one model.

    Attributes:
        registry, store: where policy and decisions are.
        usecase: whose columns and external incumbent there are.
        model: name in the registry.
        actor: who asks.
    """

    registry: ModelRegistry
    store: Store
    usecase: UseCase
    model: str
    actor: str

    def current(self) -> RoutingPolicy | None:
        """The policy in the registry; none where none was set, or where it cannot be read."""
        try:
            return self.registry.routing(self.model)
        except RoutingError:
            return None

    def contestants(self) -> tuple[str, str]:
        """Versions of champion and challenger; ``external`` while the external score is champion.

        Raises:
            RoutingError: no model is active, or nobody is under comparison.
        """
        roles = self.registry.roles(self.model)
        if "challenger" not in roles:
            raise RoutingError(f"{self.model} has no @challenger; only a version under comparison can be routed to")
        if "champion" in roles:
            return roles["champion"].version, roles["challenger"].version
        if self.usecase.incumbent is None:
            raise RoutingError(f"{self.model} has no @champion; install a first model")
        return EXTERNAL, roles["challenger"].version

    def draft(self, *, entity: str | None = None, salt: str | None = None, reason: str = "") -> RoutingPolicy:
        """An experiment between those active and under comparison, still without a share.

        One that is under way between the same versions lends its salt and its entity, so shares nest.

        Args:
            entity: column whose values stay in their arm; none takes the present one, else the use case's
                evaluation entity, else each event is its own unit.
            salt: of the hash.
            reason: for the record.

        Raises:
            RoutingError: see :meth:`contestants`; or the column cannot be a unit.
        """
        champion, challenger = self.contestants()
        now, current = datetime.now(UTC), self.current()
        same_contestants = current is not None and (current.champion, current.challenger) == (champion, challenger)
        if current is not None and same_contestants:
            entity, salt = entity or current.entity, salt or current.salt
        entity = entity or self.usecase.evaluation.entity
        self._check_entity(entity)
        salt = salt or f"{self.model}/{champion}/{challenger}/{secrets.token_hex(4)}"
        return RoutingPolicy("shadow", self.model, champion, challenger, (), salt, entity, now, self.actor, reason)

    def set_share(
        self, share: float, *, at: datetime, draft: RoutingPolicy, event: str = "share", **details: Any
    ) -> Decision:
        """Give the challenger a share (0..1) of the entities; ``more`` goes into the decision."""
        return self.put(canary(replace(draft, created_at=datetime.now(UTC)), share), event, at=at, details=details)

    def set_arms(self, arms: tuple[Arm, ...], *, at: datetime, draft: RoutingPolicy) -> Decision:
        """Answer by named arms."""
        return self.put(replace(draft, mode="ab", arms=arms, created_at=datetime.now(UTC)), "arms", at=at)

    def off(
        self,
        reason: str,
        *,
        at: datetime,
        event: str = "off",
        details: Mapping[str, Any] | None = None,
        base: RoutingPolicy | None = None,
    ) -> Decision:
        """The champion answers all from now on; salt and entity stay with the policy (``base``, else the present one).

        Raises:
            RoutingError: no policy is set.
            StoreUnavailable: the registry was told, but the line could not be written.
        """
        base = base or self.current()
        if base is None:
            raise RoutingError(f"{self.model} has no routing policy; the champion answers all already")
        champion_only = canary(replace(base, created_at=datetime.now(UTC), actor=self.actor, reason=reason), 0.0)
        try:
            return self.put(champion_only, event, at=at, details=details)
        except MonitoringError:
            self.registry.set_routing(self.model, champion_only)
            raise

    def put(
        self, policy: RoutingPolicy, event: str, *, at: datetime, details: Mapping[str, Any] | None = None
    ) -> Decision:
        """Write the decision, then the policy; see the errors of the store and the registry."""
        with self._lease():
            header = {"event": event, "model": self.model, "digest": policy.digest, "share": policy.share}
            payload = header | {"policy": policy.to_json(), "reason": policy.reason} | dict(details or {})
            decision = self.store.decisions.append(self.usecase.name, ROUTING, payload, self.actor, at)
            self.registry.set_routing(self.model, policy)
        return decision

    def note(self, event: str, *, at: datetime, details: Mapping[str, Any]) -> Decision:
        """A decision that changes no policy."""
        payload = {"event": event, "model": self.model} | dict(details)
        return self.store.decisions.append(self.usecase.name, ROUTING, payload, self.actor, at)

    def history(self) -> list[Decision]:
        """All decisions about the routing of this model, oldest first."""
        rows = self.store.decisions.list(self.usecase.name, (ROUTING,), limit=None)
        return [row for row in rows if row.payload.get("model") == self.model]

    def _check_entity(self, entity: str | None) -> None:
        if entity is None:
            return
        allowed_units = [c.name for c in self.usecase.columns if c.type in TEXT_TYPES]
        if entity not in allowed_units:
            raise RoutingError(
                f"{entity!r} cannot be the unit of a routing policy; allowed: {', '.join(allowed_units)}"
            )

    @contextmanager
    def _lease(self) -> Iterator[None]:
        """One change at a time; a holder that died is waited for."""
        name = f"routing:{self.model}"
        holder = f"{self.actor}@{socket.gethostname()}:{os.getpid()}"
        deadline = time.monotonic() + _LEASE_SECONDS + 2.0
        while True:
            try:
                lease = self.store.journal.acquire(name, holder, _LEASE_SECONDS)
                break
            except LeaseHeld as exc:
                if time.monotonic() >= deadline:
                    raise RoutingError(f"the routing is being changed by another: {exc}") from exc
                time.sleep(0.2)
        try:
            yield
        finally:
            with suppress(MonitoringError):
                self.store.journal.release(lease)
