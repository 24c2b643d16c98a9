"""Rollback without a registry, and how registry and journal come together again.

With MLflow down nothing can write an alias. A rollback then pins the last ``@previous`` of the journal
in the database: every replica reads pins once a second and serves the pinned version from its own
verified copy, whatever the alias says. When the registry answers again, the next release, the scribe
or ``python -m bentos.release reconcile`` writes the aliases and takes the pin away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from bentos.errors import NothingToRollBack, RegistryUnavailable, ReleaseError
from bentos.promotion.context import ReleaseContext
from bentos.promotion.external_return import came_from_external, finish_return, return_is_unfinished
from bentos.promotion.recovery import _may_be_in_office, resume_all, settle_pin
from bentos.promotion.request import ReleaseOutcome, Request, hold_lease, version_text
from bentos.promotion.state_machine import wait_served
from bentos.registry.ports import ROLES
from bentos.registry.routing_policy import EXTERNAL
from monitoring.store import Lease, RoleChange

log = logging.getLogger("incumbent.release")

_SERVES_EXTERNAL: Final = "0"
"""What a replica says it serves while the external score answers."""


def pin_previous(
    context: ReleaseContext, request: Request, patience: float, recheck: Callable[[], None] = lambda: None
) -> ReleaseOutcome:
    """Make the journal's ``@previous``, or the external score, active again on every replica, without the registry.

    ``recheck`` raises under the lease where the rollback is not due any more.

    Raises:
        NothingToRollBack: the journal knows no way back, or it is pinned already.
        ReleaseError: another release is under way.
    """
    champion, target = _terms_by_journal(context)
    contract = "" if target == EXTERNAL else context.store.decisions.contract_of(context.model, target)
    if contract is None:
        raise NothingToRollBack(f"the journal holds no contract digest of version {target}; it cannot be verified")
    incumbent = context.usecase.incumbent
    name = f"the external score {incumbent.column!r}" if incumbent and not contract else version_text(target)
    steps = (f"{name} pinned on every replica", "@previous cleared", f"version {champion} barred")
    message = f"rollback of {context.model} without the registry: {version_text(champion)} -> {name}"
    if request.preview:
        return ReleaseOutcome(
            "rollback", context.usecase.name, context.model, champion, target, state="PLANNED", preview=True,
            steps=(*steps, "the aliases follow when the registry answers"), message=f"preview: {message}",
        )  # fmt: skip
    with hold_lease(context, request.actor, patience):
        recheck()
        if _terms_by_journal(context) != (champion, target):
            raise NothingToRollBack("the journal changed while the rollback waited; look at the status and ask again")
        pin = context.store.orders.pin(
            context.usecase.name,
            RoleChange(context.model, "champion", target, contract),
            champion,
            {"registry": "unavailable", "evidence": "pin", "reason": request.reason},
            request.actor,
            request.at,
        )
    log.warning("the registry does not answer: %s is pinned for %s", name, context.model)
    served = wait_served(context, _SERVES_EXTERNAL if target == EXTERNAL else target)
    return ReleaseOutcome(
        "rollback",
        context.usecase.name,
        context.model,
        champion,
        target,
        pin.id,
        "PINNED",
        acknowledged=served,
        steps=steps,
        message=f"{message}; the aliases are written when the registry answers",
    )


def _terms_by_journal(context: ReleaseContext) -> tuple[str | None, str]:
    """The active version and the way back, by the journal alone."""
    overrides = context.store.orders.standing(context.model)
    if overrides.pin is not None:
        raise NothingToRollBack(
            f"{_label(overrides.pin.version)} of {context.model} is pinned already; "
            "the registry is not needed to serve it"
        )
    champion, previous = context.journalled("champion"), context.journalled("previous")
    for operation in context.store.journal.unfinished(context.model):
        if operation.kind == "promotion" and champion == operation.from_version:
            if _may_be_in_office(context, operation):
                champion, previous = operation.to_version, operation.from_version
            else:
                previous = operation.previous_version  # it may have overwritten @previous already
        elif operation.kind == "rollback" and champion == operation.to_version:
            # Its commit is written, but replicas that had not asked the registry yet still serve who was to leave.
            champion, previous = operation.from_version, operation.to_version
    has_external = context.usecase.incumbent is not None
    if previous is None and has_external and champion is not None and came_from_external(context, champion):
        previous = EXTERNAL
    if previous is None or previous == champion:
        raise NothingToRollBack(
            f"the journal knows no @previous of {context.model}, and the registry does not answer: start the registry "
            "again, or order another threshold for a while (threshold --set, with two people's keys)"
        )
    return champion, previous


def _label(version: str) -> str:
    return "the external score" if version == EXTERNAL else version_text(version)


def reconcile(context: ReleaseContext, request: Request) -> list[str]:
    """Make the registry's aliases those of the journal: ends a pin, undoes what was moved by hand.

    Returns:
        What was written, in order; nothing when both agreed.

    Raises:
        ReleaseError: another release is under way.
        RegistryUnavailable: ask again later; a pin stays.
    """
    with hold_lease(context, request.actor, 0.0) as lease:
        steps = settle_pin(context, lease, request.at, request.actor)
        resume_all(context, lease, request.at)
        vacated_version = finish_return(context, lease)
        restored_steps = [*(["@champion cleared"] if vacated_version is not None else []), *_restore(context, lease)]
        if restored_steps:
            reason = request.reason or "the aliases differed from the journal"
            payload = {"model": context.model, "steps": restored_steps, "reason": reason}
            context.store.decisions.append(context.usecase.name, "reconciliation", payload, request.actor, request.at)
    return [*steps, *restored_steps]


def reconcile_quietly(context: ReleaseContext, now: datetime) -> bool:
    """End a pin, or a return to the external score that died, once the registry answers; whether one was.

    For processes that ask often.
    """
    try:
        if context.store.orders.standing(context.model).pin is None and not return_is_unfinished(context):
            return False
        with hold_lease(context, "scribe", 0.0) as lease:
            settle_pin(context, lease, now, "scribe")
            finish_return(context, lease)
    except (RegistryUnavailable, ReleaseError) as exc:
        log.info("the pin stays for now: %s", exc)
        return False
    return True


def _restore(context: ReleaseContext, lease: Lease) -> list[str]:
    steps = []
    for role in ROLES:
        journal_version, registry_version = context.journalled(role), context.holder(role)
        if journal_version == registry_version or (role == "champion" and journal_version is None):
            continue
        context.store.journal.check(lease)
        if journal_version is None:
            context.registry.clear(context.model, role)
        else:
            context.registry.point(context.model, role, journal_version)
        steps.append(f"@{role} cleared" if journal_version is None else f"@{role} = {journal_version}")
    return steps
