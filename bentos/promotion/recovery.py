"""What an interrupted change of roles left open is brought to an end here."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime

from bentos.promotion.external_return import vacate
from bentos.promotion.state_machine import FRESH, Aborted, Desk, Work, resume
from bentos.registry.ports import ROLES
from bentos.registry.routing_policy import EXTERNAL
from monitoring.store import Lease, Operation

log = logging.getLogger("incumbent.release")


def _may_be_in_office(desk: Desk, left: Operation) -> bool:
    """Whether a promotion that died may have written ``@champion``: the replicas know best, else its state does."""
    state = "VERIFIED" if left.from_version is None else "PREVIOUS_SET"
    serving = {replica.version for replica in desk.store.serving.live(desk.usecase)}
    return left.state == state and (not serving or left.to_version in serving)


def settle_pin(desk: Desk, lease: Lease, now: datetime, actor: str = "reconciliation") -> list[str]:
    """Write the aliases of a pin and end it; what was written. Nothing without a pin. May be repeated."""
    pin = desk.store.orders.standing(desk.model).pin
    if pin is None:
        return []
    desk.store.journal.check(lease)
    steps = []
    for left in desk.store.journal.unfinished(desk.model):
        Work(desk, lease, left).drop(f"version {pin.version} was pinned over it")
    if pin.version == EXTERNAL:
        if (left_in := desk.holder("champion")) is not None:
            vacate(desk, left_in, pin.actor, pin.reason)
            steps.append("@champion cleared")
    elif desk.holder("champion") != pin.version:
        desk.registry.point(desk.model, "champion", pin.version)
        steps.append(f"@champion = {pin.version}")
    for role in ROLES:
        used_up = role == "previous" or (role != "champion" and desk.holder(role) == pin.version)
        if used_up and desk.holder(role) is not None:
            desk.registry.clear(desk.model, role)
            steps.append(f"@{role} cleared")
    desk.store.journal.check(lease)
    desk.store.orders.unpin(pin, desk.usecase, actor, now, {"steps": steps})
    log.info("the pin of %s is reconciled: %s", desk.model, ", ".join(steps) or "the aliases agreed already")
    return steps


def resume_all(desk: Desk, lease: Lease, now: datetime, forward: bool = True) -> list[Operation]:
    """Bring a pin and every operation that was left behind to an end; returns the operations as they ended.

    Without ``forward`` a promotion that has not reached its commit point is taken back, however fresh it is.
    """
    from bentos.promotion.recovery import settle_pin

    settle_pin(desk, lease, now)
    ended = []
    for operation in desk.store.journal.unfinished(desk.model):
        log.warning("resuming a %s of %s that was left in state %s", operation.kind, operation.model, operation.state)
        with suppress(Aborted):
            goes_on = forward or operation.kind != "promotion"
            resume(desk, lease, operation, fresh=goes_on and abs(now - operation.at) <= FRESH)
        after = desk.store.journal.get(operation.op_id)
        if after is not None:
            ended.append(after)
    return ended
