"""What an interrupted change of roles left open is brought to an end here."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime

from bentos.promotion.context import ReleaseContext
from bentos.promotion.external_return import vacate
from bentos.promotion.state_machine import FRESH, Aborted, Work, resume
from bentos.registry.ports import ROLES
from bentos.registry.routing_policy import EXTERNAL
from monitoring.store import Lease, Operation

log = logging.getLogger("incumbent.release")


def _may_be_in_office(context: ReleaseContext, operation: Operation) -> bool:
    """Whether a promotion that died may have written ``@champion``: the replicas know best, else its state does."""
    state = "VERIFIED" if operation.from_version is None else "PREVIOUS_SET"
    serving = {replica.version for replica in context.store.serving.live(context.usecase.name)}
    return operation.state == state and (not serving or operation.to_version in serving)


def settle_pin(context: ReleaseContext, lease: Lease, now: datetime, actor: str = "reconciliation") -> list[str]:
    """Write the aliases of a pin and end it; what was written. Nothing without a pin. May be repeated."""
    pin = context.store.orders.standing(context.model).pin
    if pin is None:
        return []
    context.store.journal.check(lease)
    steps = []
    for operation in context.store.journal.unfinished(context.model):
        Work(context, lease, operation).drop(f"version {pin.version} was pinned over it")
    if pin.version == EXTERNAL:
        if (champion := context.holder("champion")) is not None:
            vacate(context, champion, pin.actor, pin.reason)
            steps.append("@champion cleared")
    elif context.holder("champion") != pin.version:
        context.registry.point(context.model, "champion", pin.version)
        steps.append(f"@champion = {pin.version}")
    for role in ROLES:
        must_clear = role == "previous" or (role != "champion" and context.holder(role) == pin.version)
        if must_clear and context.holder(role) is not None:
            context.registry.clear(context.model, role)
            steps.append(f"@{role} cleared")
    context.store.journal.check(lease)
    context.store.orders.unpin(pin, context.usecase.name, actor, now, {"steps": steps})
    log.info("the pin of %s is reconciled: %s", context.model, ", ".join(steps) or "the aliases agreed already")
    return steps


def resume_all(context: ReleaseContext, lease: Lease, now: datetime, forward: bool = True) -> list[Operation]:
    """Bring a pin and every operation that was left behind to an end; returns the operations as they ended.

    Without ``forward`` a promotion that has not reached its commit point is taken back, however fresh it is.
    """
    from bentos.promotion.recovery import settle_pin

    settle_pin(context, lease, now)
    operations = []
    for operation in context.store.journal.unfinished(context.model):
        log.warning("resuming a %s of %s that was left in state %s", operation.kind, operation.model, operation.state)
        with suppress(Aborted):
            may_go_on = forward or operation.kind != "promotion"
            resume(context, lease, operation, is_fresh=may_go_on and abs(now - operation.at) <= FRESH)
        ended_operation = context.store.journal.get(operation.op_id)
        if ended_operation is not None:
            operations.append(ended_operation)
    return operations
