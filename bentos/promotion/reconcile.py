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
from bentos.promotion.external_return import came_from_external, finish_return, return_left
from bentos.promotion.recovery import _may_be_in_office, resume_all, settle_pin
from bentos.promotion.request import Outcome, desk_of, held_lease, said
from bentos.promotion.state_machine import Desk, wait_served
from bentos.registry.ports import ROLES, ModelRegistry
from bentos.registry.routing_policy import EXTERNAL
from bentos.usecase.definition import UseCase
from monitoring.store import Lease, Store

log = logging.getLogger("incumbent.release")

_SERVES_EXTERNAL: Final = "0"
"""What a replica says it serves while the external score answers."""


def pin_previous(
    desk: Desk,
    usecase: UseCase,
    actor: str,
    reason: str,
    now: datetime,
    preview: bool,
    patience: float,
    still: Callable[[], None] = lambda: None,
) -> Outcome:
    """Put the journal's ``@previous``, or the external score, back into office on every replica, without the registry.

    ``still`` raises under the lease where the rollback is not due any more.

    Raises:
        NothingToRollBack: the journal knows no way back, or it is pinned already.
        ReleaseError: another release is under way.
    """
    beside = usecase.incumbent is not None
    here, back = _terms_by_journal(desk, beside)
    contract = "" if back == EXTERNAL else desk.store.decisions.contract_of(desk.model, back)
    if contract is None:
        raise NothingToRollBack(f"the journal holds no contract digest of version {back}; it cannot be verified")
    name = f"the external score {usecase.incumbent.column!r}" if usecase.incumbent and not contract else said(back)
    steps = (f"{name} pinned on every replica", "@previous cleared", f"version {here} barred")
    message = f"rollback of {desk.model} without the registry: {said(here)} -> {name}"
    if preview:
        return Outcome(
            "rollback", desk.usecase, desk.model, here, back, state="PLANNED", preview=True,
            steps=(*steps, "the aliases follow when the registry answers"), message=f"preview: {message}",
        )  # fmt: skip
    with held_lease(desk, actor, patience):
        still()
        if _terms_by_journal(desk, beside) != (here, back):
            raise NothingToRollBack("the journal changed while the rollback waited; look at the status and ask again")
        payload = {"registry": "unavailable", "evidence": "pin"}
        made = desk.store.orders.pin(desk.usecase, desk.model, back, here, contract, actor, reason, now, payload)
    log.warning("the registry does not answer: %s is pinned for %s", name, desk.model)
    served = wait_served(desk, _SERVES_EXTERNAL if back == EXTERNAL else back)
    return Outcome(
        "rollback", desk.usecase, desk.model, here, back, made.id, "PINNED", acknowledged=served, steps=steps,
        message=f"{message}; the aliases are written when the registry answers",
    )  # fmt: skip


def _terms_by_journal(desk: Desk, beside: bool) -> tuple[str | None, str]:
    """The version in office and the way back, by the journal alone; ``beside`` an external incumbent."""
    standing = desk.store.orders.standing(desk.model)
    if standing.pin is not None:
        raise NothingToRollBack(
            f"{_named(standing.pin.version)} of {desk.model} is pinned already; the registry is not needed to serve it"
        )
    here, back = desk.journalled("champion"), desk.journalled("previous")
    for left in desk.store.journal.unfinished(desk.model):
        if left.kind == "promotion" and here == left.from_version:
            if _may_be_in_office(desk, left):
                here, back = left.to_version, left.from_version
            else:
                back = left.previous_version  # it may have overwritten @previous already
        elif left.kind == "rollback" and here == left.to_version:
            # Its commit is written, but replicas that had not asked the registry yet still serve who was to leave.
            here, back = left.from_version, left.to_version
    if back is None and beside and here is not None and came_from_external(desk, here):
        back = EXTERNAL
    if back is None or back == here:
        raise NothingToRollBack(
            f"the journal knows no @previous of {desk.model}, and the registry does not answer: start the registry "
            "again, or order another threshold for a while (threshold --set, with two people's keys)"
        )
    return here, back


def _named(version: str) -> str:
    return "the external score" if version == EXTERNAL else said(version)


def reconcile(
    registry: ModelRegistry, store: Store, model: str, *, usecase: UseCase, actor: str, now: datetime, reason: str = ""
) -> list[str]:
    """Make the registry's aliases those of the journal: ends a pin, undoes what was moved by hand.

    Returns:
        What was written, in order; nothing when both agreed.

    Raises:
        ReleaseError: another release is under way.
        RegistryUnavailable: ask again later; a pin stays.
    """
    desk = desk_of(registry, store, usecase, model, None, 0.0)
    with held_lease(desk, actor, 0.0) as lease:
        steps = settle_pin(desk, lease, now, actor)
        resume_all(desk, lease, now)
        left = finish_return(desk, lease)
        moved = [*(["@champion cleared"] if left is not None else []), *_restore(desk, lease)]
        if moved:
            said_ = {"model": model, "steps": moved, "reason": reason or "the aliases differed from the journal"}
            store.decisions.append(usecase.name, "reconciliation", said_, actor, now)
    return [*steps, *moved]


def reconcile_quietly(registry: ModelRegistry, store: Store, model: str, usecase: UseCase, now: datetime) -> bool:
    """End a pin, or a return to the external score that died, once the registry answers; whether one was.

    For processes that ask often.
    """
    desk = desk_of(registry, store, usecase, model, None, 0.0)
    try:
        if store.orders.standing(model).pin is None and not return_left(desk):
            return False
        with held_lease(desk, "scribe", 0.0) as lease:
            settle_pin(desk, lease, now, "scribe")
            finish_return(desk, lease)
    except (RegistryUnavailable, ReleaseError) as exc:
        log.info("the pin stays for now: %s", exc)
        return False
    return True


def _restore(desk: Desk, lease: Lease) -> list[str]:
    steps = []
    for role in ROLES:
        wanted, here = desk.journalled(role), desk.holder(role)
        if wanted == here or (role == "champion" and wanted is None):
            continue
        desk.store.journal.check(lease)
        if wanted is None:
            desk.registry.clear(desk.model, role)
        else:
            desk.registry.point(desk.model, role, wanted)
        steps.append(f"@{role} cleared" if wanted is None else f"@{role} = {wanted}")
    return steps
