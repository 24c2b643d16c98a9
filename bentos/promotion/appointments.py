"""Who is under comparison and who waits: appointments, dismissals, and bars that are lifted."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from bentos.errors import ModelError, ReleaseError
from bentos.promotion.comparison_plans import champion_label, freeze_plan
from bentos.promotion.context import ReleaseContext
from bentos.promotion.request import Request, hold_lease
from bentos.registry.ports import ModelRef
from monitoring.store import Decision, RoleChange, Store

Appointment = Literal["challenger", "candidate"]


def appoint(
    context: ReleaseContext, version: str, role: Appointment, request: Request, *, evict: bool = False
) -> Decision | None:
    """Make a version ``@challenger`` or ``@candidate``; ``None`` when it holds the role already.

    The plan of a challenger's comparison is frozen now (:mod:`bentos.promotion.comparison_plans`).

    Raises:
        ReleaseError: another version is under comparison and ``evict`` was not said, the version is active
            or must not serve, or another release is under way.
    """
    ref, store = ModelRef(context.model, version), context.store
    contract = context.contract_of(version)
    with hold_lease(context, request.actor, 0.0) as lease:
        current_version = context.holder(role)
        if current_version == version and context.journalled(role) == version:
            return None
        _require_free(context, version, role, None if evict else current_version)
        champion = champion_label(context.usecase, ref.name, context.holder("champion"))
        if role == "challenger" and champion is not None:
            freeze_plan(store, context.usecase, champion, ref.label, request)
        store.journal.check(lease)
        context.registry.point(ref.name, role, version)
        payload = {"model": ref.name, "role": role, "version": version, "replaced": current_version}
        payload["reason"] = request.reason
        change = RoleChange(ref.name, role, version, contract)
        return store.decisions.append(context.usecase.name, "appointment", payload, request.actor, request.at, [change])


def _require_free(context: ReleaseContext, version: str, role: Appointment, current_version: str | None) -> None:
    if context.holder("champion") == version:
        raise ReleaseError(f"version {version} is active; it cannot be @{role} as well")
    if current_version not in (None, version):
        objections = {
            "challenger": "is under comparison; a challenger keeps its place until its verdict",
            "candidate": "waits for its turn already",
        }
        raise ReleaseError(
            f"version {current_version} {objections[role]}; to evict it: incumbent appoint ... --evict --reason ..."
        )


def dismiss(context: ReleaseContext, role: Appointment, request: Request) -> Decision | None:
    """Take ``@challenger`` or ``@candidate`` away; ``None`` when nobody holds it."""
    model, store = context.model, context.store
    with hold_lease(context, request.actor, 0.0) as lease:
        current_version = context.holder(role)
        if current_version is None and context.journalled(role) is None:
            return None
        store.journal.check(lease)
        context.registry.clear(model, role)
        payload = {"model": model, "role": role, "version": current_version, "reason": request.reason}
        changes = [RoleChange(model, role, None)]
        return store.decisions.append(context.usecase.name, "dismissal", payload, request.actor, request.at, changes)


def appoint_next_candidate(context: ReleaseContext, request: Request) -> Decision | None:
    """Make ``@candidate`` the challenger where nothing is under comparison; ``None`` where nobody waits.

    Called after each verdict. It may be called again: a process that died between a verdict and the turn is made
    good by the next one. A candidate that must not serve gives its place up, and the chain says why. The reasons are
    its own, whatever the request's is.

    Raises:
        ReleaseError: another release is under way.
    """
    roles = context.registry.roles(context.model)
    candidate = roles.get("candidate")
    if candidate is None or "challenger" in roles or roles.get("champion") == candidate:
        return None
    turn = replace(request, reason="its turn: nothing else is under comparison")
    try:
        decision = appoint(context, candidate.version, "challenger", turn)
    except ModelError as exc:
        dismiss(context, "candidate", replace(request, reason=f"it must not serve: {exc}"))
        return None
    dismiss(context, "candidate", replace(request, reason="it is the challenger now"))
    return decision


def lift_bar(store: Store, usecase: str, model: str, version: str, request: Request) -> None:
    """Let a version be promoted again that was rolled back from.

    Raises:
        ReleaseError: it is not barred, or no reason was given.
    """
    if version not in store.decisions.barred(model):
        raise ReleaseError(f"version {version} of {model} is not barred")
    if not request.reason.strip():
        raise ReleaseError("lifting a bar needs a reason")
    payload = {"model": model, "version": version, "reason": request.reason}
    store.decisions.append(usecase, "unbar", payload, request.actor, request.at)
