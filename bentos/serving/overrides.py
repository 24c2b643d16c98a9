"""Standing orders as a serving process keeps them: what the journal says beside the registry's aliases.

Read once a second by the attendant, and at once when an alias changes. While the database is away the
last orders hold, and a threshold order still ends at its time: nobody has to come and end it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

from bentos.registry.ports import ROLES, ModelRef, Role
from bentos.registry.routing_policy import EXTERNAL
from bentos.scoring.active_models import ActiveModel
from monitoring.errors import MonitoringError
from monitoring.metrics import serving as metrics
from monitoring.store import Overrides, Store

log = logging.getLogger("incumbent.orders")


class StandingOrders:
    """The orders of one model.

    Args:
        model: registered model.
        store: gives the database, or raises while it is away.
        required: whether a champion must be explained by the journal; off where the use case allows
            hand edits or the journal is not required.

    Attributes:
        known: the orders as last read; none before the first time.
    """

    def __init__(self, model: str, store: Callable[[], Store], required: bool = True) -> None:
        self.known: Overrides | None = None
        self._model = model
        self._store = store
        self._required = required
        self._lock = threading.Lock()
        self._threshold: tuple[str, float, int] | None = None

    def refresh(self) -> bool:
        """Read the orders; whether a pin or the threshold changed. A database that is away changes nothing."""
        try:
            overrides = self._store().orders.standing(self._model)
        except MonitoringError as exc:
            log.info("standing orders cannot be read (%s); the last ones hold", type(exc).__name__)
            return False
        with self._lock:
            previous, self.known = self.known, overrides
            order = overrides.threshold
            threshold = None if order is None else (order.version, order.value, int(order.until.timestamp() * 1e6))
            is_changed = previous is None or previous.pin != overrides.pin or threshold != self._threshold
            self._threshold = threshold
        metrics.JOURNAL_PINNED.set(0 if overrides.pin is None else 1)
        return is_changed

    @property
    def rules(self) -> bool:
        """Whether the journal says who may be champion; off where aliases are moved by hand."""
        return self._required

    @property
    def pinned(self) -> ModelRef | None:
        """The version that is active by the journal's word alone, if one is."""
        pin = None if self.known is None else self.known.pin
        return None if pin is None else ModelRef(pin.model, pin.version)

    def lost(self, roles: Mapping[Role, ModelRef]) -> dict[Role, ModelRef]:
        """Roles that the journal has given and the registry does not know; none where the journal does not rule.

        A role that was vacated by a decision is not lost. Neither is one while an order or an operation is under
        way that the aliases follow.
        """
        overrides = self.known
        if overrides is None or not self._required or overrides.pin is not None:
            return {}
        return {
            role: ModelRef(self._model, overrides.holders[role])
            for role in ROLES
            if role not in roles and role in overrides.holders
        }

    def overrule(self, roles: Mapping[Role, ModelRef]) -> dict[Role, ModelRef]:
        """The registry's roles, with a pin in the place of ``@champion``; vacant where the external score is pinned."""
        pinned = self.pinned
        if pinned is None:
            return dict(roles)
        effective_roles = {**roles, "champion": pinned}
        if self.external:
            del effective_roles["champion"]
        return effective_roles

    @property
    def external(self) -> bool:
        """Whether the external score is active by the journal's word alone."""
        pinned = self.pinned
        return pinned is not None and pinned.version == EXTERNAL

    def explains(self, ref: ModelRef, remembered: ModelRef | None) -> bool:
        """Whether the journal lets a version be champion.

        Args:
            ref: what the alias names.
            remembered: the champion of the last good time, which counts while the journal was never read.
        """
        if not self._required:
            return True
        if self.known is None or ref.version not in self.known.explained:
            self.refresh()
        overrides = self.known
        is_explained = ref == remembered if overrides is None else ref.version in overrides.explained
        metrics.ALIAS_UNEXPLAINED.set(0 if is_explained else 1)
        return is_explained

    def ordered(self, holder: ActiveModel, now_us: int) -> float | None:
        """The threshold that people ordered for a holder and that stands at a machine time, in microseconds."""
        order = self._threshold
        if order is None or now_us >= order[2]:
            return None
        ref = holder.ref
        return order[1] if ref.version == order[0] and ref.name == self._model else None

    def threshold_of(self, holder: ActiveModel, now_us: int) -> float:
        """The threshold in force for a holder at a machine time, in microseconds."""
        order = self.ordered(holder, now_us)
        return holder.threshold if order is None else order

    def card(self, now_us: int) -> dict[str, Any]:
        """What stands now, for ``/model``."""
        overrides = self.known or Overrides()
        order, threshold_card = overrides.threshold, None
        if order is not None and self._threshold is not None and now_us < self._threshold[2]:
            threshold_card = {"value": order.value, "version": order.version, "until": order.until.astimezone(UTC)}
            threshold_card |= {"decision": order.decision, "owners": list(order.owners), "reason": order.reason}
        pin = overrides.pin
        pinned = None if pin is None else {"version": pin.version, "since": pin.pinned_at, "decision": pin.decision}
        return {"pinned": pinned, "threshold": threshold_card, "journal_read": self.known is not None}


def orders_without_journal(model: str) -> StandingOrders:
    """Orders that never say anything, where no journal is asked."""

    def no_store() -> Store:
        raise MonitoringError("no journal is asked")

    return StandingOrders(model, no_store, required=False)


def refusal_text(ref: ModelRef) -> str:
    """What is said of a champion that the journal does not explain."""
    return (
        f"no approved decision made {ref.label} the champion; the one before stays active. Promote it, or run "
        "`python -m bentos.release reconcile` to put the alias back"
    )
