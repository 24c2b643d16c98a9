"""Who is under comparison and who waits: appointments, dismissals, and bars that are lifted."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from bentos.errors import ModelError, ReleaseError
from bentos.promotion.comparison_plans import champion_label, freeze_plan
from bentos.promotion.request import hold_lease, release_context
from bentos.promotion.state_machine import Check
from bentos.registry.ports import ModelRef, ModelRegistry
from bentos.usecase.definition import UseCase
from monitoring.store import Decision, RoleChange, Store

Appointment = Literal["challenger", "candidate"]


def appoint(
    registry: ModelRegistry,
    store: Store,
    ref: ModelRef,
    role: Appointment,
    *,
    usecase: UseCase,
    actor: str,
    now: datetime,
    reason: str,
    replace: bool = False,
    check: Check | None = None,
) -> Decision | None:
    """Make a version ``@challenger`` or ``@candidate``; ``None`` when it holds the role already.

    The plan of a challenger's comparison is frozen now (:mod:`bentos.promotion.comparison_plans`).

    Raises:
        ReleaseError: another version is under comparison and ``replace`` was not said, the version is active
            or must not serve, or another release is under way.
    """
    context = release_context(registry, store, usecase, ref.name, check, 0.0)
    contract = context.contract_of(ref.version)
    with hold_lease(context, actor, 0.0) as lease:
        current_version = context.holder(role)
        if current_version == ref.version and context.journalled(role) == ref.version:
            return None
        if context.holder("champion") == ref.version:
            raise ReleaseError(f"version {ref.version} is active; it cannot be @{role} as well")
        if current_version not in (None, ref.version) and not replace:
            objections = {
                "challenger": "is under comparison; a challenger keeps its place until its verdict",
                "candidate": "waits for its turn already",
            }
            raise ReleaseError(
                f"version {current_version} {objections[role]}; to evict it: incumbent appoint ... --evict --reason ..."
            )
        champion = champion_label(usecase, ref.name, context.holder("champion"))
        if role == "challenger" and champion is not None:
            freeze_plan(store, usecase, ref.name, champion, ref.label, since=now, actor=actor, reason=reason)
        store.journal.check(lease)
        registry.point(ref.name, role, ref.version)
        change = RoleChange(ref.name, role, ref.version, contract)
        payload = {
            "model": ref.name,
            "role": role,
            "version": ref.version,
            "replaced": current_version,
            "reason": reason,
        }
        return store.decisions.append(usecase.name, "appointment", payload, actor, now, [change])


def dismiss(
    registry: ModelRegistry,
    store: Store,
    model: str,
    role: Appointment,
    *,
    usecase: UseCase,
    actor: str,
    now: datetime,
    reason: str,
) -> Decision | None:
    """Take ``@challenger`` or ``@candidate`` away; ``None`` when nobody holds it."""
    context = release_context(registry, store, usecase, model, None, 0.0)
    with hold_lease(context, actor, 0.0) as lease:
        current_version = context.holder(role)
        if current_version is None and context.journalled(role) is None:
            return None
        store.journal.check(lease)
        registry.clear(model, role)
        payload = {"model": model, "role": role, "version": current_version, "reason": reason}
        return store.decisions.append(usecase.name, "dismissal", payload, actor, now, [RoleChange(model, role, None)])


def appoint_next_candidate(
    registry: ModelRegistry,
    store: Store,
    model: str,
    *,
    usecase: UseCase,
    actor: str,
    now: datetime,
    check: Check | None = None,
) -> Decision | None:
    """Make ``@candidate`` the challenger where nothing is under comparison; ``None`` where nobody waits.

    Called after each verdict. It may be called again: a process that died between a verdict and the turn is made
    good by the next one. A candidate that must not serve gives its place up, and the chain says why.

    Raises:
        ReleaseError: another release is under way.
    """
    roles = registry.roles(model)
    candidate = roles.get("candidate")
    if candidate is None or "challenger" in roles or roles.get("champion") == candidate:
        return None
    arguments: dict[str, Any] = {"usecase": usecase, "actor": actor, "now": now}
    try:
        reason = "its turn: nothing else is under comparison"
        decision = appoint(registry, store, candidate, "challenger", reason=reason, check=check, **arguments)
    except ModelError as exc:
        dismiss(registry, store, model, "candidate", reason=f"it must not serve: {exc}", **arguments)
        return None
    dismiss(registry, store, model, "candidate", reason="it is the challenger now", **arguments)
    return decision


def lift_bar(store: Store, model: str, version: str, *, usecase: str, actor: str, now: datetime, reason: str) -> None:
    """Let a version be promoted again that was rolled back from.

    Raises:
        ReleaseError: it is not barred, or no reason was given.
    """
    if version not in store.decisions.barred(model):
        raise ReleaseError(f"version {version} of {model} is not barred")
    if not reason.strip():
        raise ReleaseError("lifting a bar needs a reason")
    store.decisions.append(usecase, "unbar", {"model": model, "version": version, "reason": reason}, actor, now)
