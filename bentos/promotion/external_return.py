"""The way back from a model to the external incumbent that it replaced.

An alias cannot point at a column, so the role is vacated: a line in the chain of decisions says so,
the routing policy says that it is meant (a service keeps its champion when an alias is merely gone),
and the alias is cleared. Each step may be done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from bentos.errors import NothingToRollBack
from bentos.promotion.context import ReleaseContext
from bentos.promotion.request import ReleaseOutcome, Request, hold_lease
from bentos.registry.routing_policy import EXTERNAL, RoutingPolicy
from monitoring.store import Lease, Operation, RoleChange

RETURN: Final = "rollback.external"
"""Kind of the decision; the version that is replaced is barred by it."""
_ASK_SECONDS: Final = 0.1


def replaced_external(context: ReleaseContext) -> bool:
    """Whether the active model took it over from the external incumbent, and nothing came between.

    Raises:
        RegistryUnavailable, StoreUnavailable: ask again.
    """
    if context.usecase.incumbent is None:
        return False
    champion = context.holder("champion")
    return champion is not None and came_from_external(context, champion)


def came_from_external(context: ReleaseContext, version: str) -> bool:
    """Whether an active version took the place of the external score, by the newest operation that counts.

    One that was taken back does not, nor one on its way to another version.
    """
    operations = [
        operation
        for operation in context.store.journal.recent(context.model)
        if operation.state == "DONE" or _leads_to(operation, version)
    ]
    if not operations:
        return False
    newest = operations[0]
    return newest.kind == "promotion" and newest.from_version is None and newest.to_version == version


def _leads_to(operation: Operation, version: str) -> bool:
    return not operation.finished and operation.to_version == version


def return_to_external(
    context: ReleaseContext, request: Request, patience: float, recheck: Callable[[], None] = lambda: None
) -> ReleaseOutcome:
    """Let the external score answer again, and bar the model that leaves.

    ``recheck`` raises under the lease where the return is not due any more.

    Raises:
        NothingToRollBack: the active model did not replace the external incumbent.
        ReleaseError: another release is under way.
    """
    if request.preview:
        return _outcome(context, _leaving_version(context), preview=True)
    with hold_lease(context, request.actor, patience) as lease:
        recheck()
        version = _leaving_version(context)
        if context.journalled("champion") is None:
            decision = context.store.decisions.last(context.usecase.name, (RETURN,))  # this is a repetition
        else:
            payload = {"model": context.model, "from_version": version, "to_version": EXTERNAL}
            payload["reason"] = request.reason
            change = RoleChange(context.model, "champion", None)
            decision = context.store.decisions.append(
                context.usecase.name, RETURN, payload, request.actor, request.at, [change]
            )
        context.store.journal.check(lease)
        vacate(context, version, request.actor, request.reason)
    op_id = decision.id if decision else ""  # no operation of the journal: its decision names the list of events
    return _outcome(context, version, acknowledged=_acknowledged(context), op_id=op_id)


def return_is_unfinished(context: ReleaseContext) -> bool:
    """Whether a return to the external score died between its decision and the alias.

    Raises:
        RegistryUnavailable, StoreUnavailable: ask again.
    """
    decision = context.store.decisions.last(context.usecase.name, (RETURN,))
    if decision is None or decision.payload["model"] != context.model or context.journalled("champion") is not None:
        return False
    return str(decision.payload["from_version"]) == context.holder("champion")


def finish_return(context: ReleaseContext, lease: Lease) -> str | None:
    """Vacate the role where a return to the external score died after its decision; the version that left, if any.

    Raises:
        RegistryUnavailable, StoreUnavailable: ask again.
    """
    # An alias that was moved by hand since then names another version, and is not ours to clear.
    decision = context.store.decisions.last(context.usecase.name, (RETURN,)) if return_is_unfinished(context) else None
    if decision is None:
        return None
    version = str(decision.payload["from_version"])
    context.store.journal.check(lease)
    vacate(context, version, decision.actor, str(decision.payload["reason"]))
    return version


def vacate(context: ReleaseContext, version: str, actor: str, reason: str) -> None:
    """Clear ``@champion`` for the external score; the policy first: a service keeps who is merely gone."""
    now = datetime.now(UTC)
    policy = RoutingPolicy(EXTERNAL, context.model, EXTERNAL, version, (), context.model, None, now, actor, reason)
    context.registry.set_routing(context.model, policy)
    context.registry.clear(context.model, "champion")


def _leaving_version(context: ReleaseContext) -> str:
    version = context.holder("champion")
    if version is None or not replaced_external(context):
        raise NothingToRollBack(f"{context.model} has no active model that replaced the external incumbent")
    return version


def _acknowledged(context: ReleaseContext) -> bool | None:
    """Whether every live replica lets the external score answer; none when there is nobody to ask."""
    deadline = time.monotonic() + context.wait_seconds
    while True:
        serving = [replica.version for replica in context.store.serving.live(context.usecase.name)]
        if not serving or all(version == "0" for version in serving):
            return True if serving else None
        if time.monotonic() >= deadline:
            return False
        time.sleep(_ASK_SECONDS)


def _outcome(
    context: ReleaseContext,
    version: str,
    *,
    preview: bool = False,
    acknowledged: bool | None = None,
    op_id: str = "",
) -> ReleaseOutcome:
    name = "" if context.usecase.incumbent is None else repr(context.usecase.incumbent.column)
    steps = ("@champion cleared", f"{name} answers")
    message = f"rollback of {context.model}: version {version} -> external score {name}"
    state = "PLANNED" if preview else "DONE"
    return ReleaseOutcome(
        "rollback", context.usecase.name, context.model, version, EXTERNAL,
        state=state, preview=preview, acknowledged=acknowledged, steps=steps, op_id=op_id,
        message=f"preview: {message}" if preview else message,
    )  # fmt: skip
