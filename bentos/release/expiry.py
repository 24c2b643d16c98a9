"""What ends by itself: emergencies whose time is up, and threshold orders. Nobody has to come.

The scribe's process looks every few seconds, as many of them as there are. Each ending is done under the lease of
releases and looked at again there, so it happens once; one that a process left behind half done is finished by the
next look. An emergency goes back on the journalled road of every rollback, also without a registry. A threshold
order has ended by then: each serving process stops applying it at its very time, and what is done here is the line
in the chain that says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from bentos.errors import StaleDecision
from bentos.promotion.context import ReleaseContext
from bentos.promotion.promote import recover, rollback
from bentos.promotion.request import ReleaseOutcome, Request, hold_lease
from bentos.promotion.state_machine import LEASE_SECONDS
from bentos.release.emergency import Emergency, emergencies
from bentos.usecase.definition import UseCase
from monitoring.store import Store

log = logging.getLogger("incumbent.overdue")

ACTOR: Final = "expiry"
EXPIRED: Final = "threshold.expired"


def end_overdue(
    context: ReleaseContext, now: datetime, *, patience: float = LEASE_SECONDS + 5
) -> ReleaseOutcome | None:
    """End what has come to its time at machine time ``now``; the rollback of an emergency, if one was due.

    Args:
        context: whose emergencies; where roles and journal are.
        now: machine time.
        patience: longest wait for a release that is under way, or whose process died.

    Raises:
        ReleaseError: nothing was changed, or what was begun is finished by the next look.
        RegistryUnavailable, StoreUnavailable: as above.
    """
    note_expired_order(context, now)
    if any(operation.actor == ACTOR for operation in context.store.journal.unfinished(context.model)):
        recover(context, ACTOR, now)
    for emergency in _due_emergencies(context, now):
        reason = (
            f"the emergency promotion of version {emergency.version} (decision {emergency.decision}) ended at "
            f"{emergency.review_by.isoformat()}: no third person had reviewed it"
        )
        log.warning("%s; it is rolled back", reason)
        outcome = rollback(
            context, Request(ACTOR, reason, now), patience=patience, recheck=_make_revalidation(context, emergency, now)
        )
        # Another process was quicker: what follows from the rollback is its to do.
        return None if outcome.repeated else outcome
    return None


def note_expired_order(context: ReleaseContext, now: datetime) -> bool:
    """Say once in the chain that a threshold order came to its end; whether it was said now.

    Raises:
        ReleaseError: a release is under way; ask again.
    """
    store, usecase, model = context.store, context.usecase, context.model
    order = store.orders.standing(model).threshold
    if order is None or now < order.until or _is_noted(store, usecase, order.decision):
        return False
    with hold_lease(context, ACTOR, 0.0) as lease:
        if _is_noted(store, usecase, order.decision):
            return False
        store.journal.check(lease)
        payload = {"model": model, "version": order.version, "order": order.decision, "until": order.until.isoformat()}
        payload["reason"] = "its time is up; the promoted threshold holds again"
        store.decisions.append(usecase.name, EXPIRED, payload, ACTOR, order.until)
    return True


def _is_noted(store: Store, usecase: UseCase, order: int) -> bool:
    lines = store.decisions.list(usecase.name, (EXPIRED,), after=order, limit=None)
    return any(line.payload["order"] == order for line in lines)


def _due_emergencies(context: ReleaseContext, now: datetime) -> list[Emergency]:
    """Emergencies that must end now: overdue active, or cut off on their way there with their time up."""
    store, model = context.store, context.model
    unfinished_ids = {operation.op_id for operation in store.journal.unfinished(model)}
    return [
        emergency
        for emergency in emergencies(store, context.usecase.name, model, now)
        if (
            emergency.state == "overdue"
            or (emergency.op_id in unfinished_ids and emergency.reviewed_by is None and now >= emergency.review_by)
        )
        and _is_still_champion(store, model, emergency)
    ]


def _make_revalidation(context: ReleaseContext, emergency: Emergency, now: datetime) -> Callable[[], None]:
    """Asked under the lease: somebody may have ended it, reviewed it, or promoted another version."""

    def recheck() -> None:
        if all(other.op_id != emergency.op_id for other in _due_emergencies(context, now)):
            raise StaleDecision(f"the emergency promotion of version {emergency.version} is over already")

    return recheck


def _is_still_champion(store: Store, model: str, emergency: Emergency) -> bool:
    """Whether ``@champion`` did not change hands since, except to the version of the emergency.

    Where it did, and the version came back later, that was another decision, whose way back is used up.
    """
    later_versions = [
        version for version, _, seq in store.decisions.terms(model, "champion") if seq > emergency.decision
    ]
    return later_versions in ([], [emergency.version])
