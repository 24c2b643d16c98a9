"""The way back from a model to the external incumbent that it replaced.

An alias cannot point at a column, so the office is vacated: a line in the chain of decisions says so,
the routing policy says that it is meant (a service keeps its champion when an alias is merely gone),
and the alias is cleared. Each step may be done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from bentos.errors import NothingToRollBack
from bentos.promotion.request import Outcome, held_lease
from bentos.promotion.state_machine import Desk
from bentos.registry.routing_policy import EXTERNAL, RoutingPolicy
from bentos.usecase.definition import UseCase
from monitoring.store import Lease, Operation, RoleChange

RETURN: Final = "rollback.external"
"""Kind of the decision; the version that leaves office is barred by it."""
_ASK_SECONDS: Final = 0.1


def replaced_external(desk: Desk, usecase: UseCase) -> bool:
    """Whether the model in office took it over from the external incumbent, and nothing came between.

    Raises:
        RegistryUnavailable, StoreUnavailable: ask again.
    """
    if usecase.incumbent is None:
        return False
    here = desk.holder("champion")
    return here is not None and came_from_external(desk, here)


def came_from_external(desk: Desk, here: str) -> bool:
    """Whether a version in office took the place of the external score, by the newest operation that counts.

    One that was taken back does not, nor one on its way to another version.
    """
    begun = [one for one in desk.store.journal.recent(desk.model) if one.state == "DONE" or _leads_to(one, here)]
    if not begun:
        return False
    last = begun[0]
    return last.kind == "promotion" and last.from_version is None and last.to_version == here


def _leads_to(operation: Operation, version: str) -> bool:
    return not operation.finished and operation.to_version == version


def return_to_external(
    desk: Desk,
    usecase: UseCase,
    actor: str,
    reason: str,
    now: datetime,
    preview: bool,
    patience: float,
    still: Callable[[], None] = lambda: None,
) -> Outcome:
    """Let the external score answer again, and bar the model that leaves.

    ``still`` raises under the lease where the return is not due any more.

    Raises:
        NothingToRollBack: the model in office did not replace the external incumbent.
        ReleaseError: another release is under way.
    """
    steps = ("@champion cleared", f"{_name(usecase)} answers")
    if preview:
        version = _leaving(desk, usecase)
        return _outcome(desk, usecase, version, steps, preview=True)
    with held_lease(desk, actor, patience) as lease:
        still()
        version = _leaving(desk, usecase)
        if desk.journalled("champion") is None:
            noted = desk.store.decisions.last(usecase.name, (RETURN,))  # this is a repetition
        else:
            payload = {"model": desk.model, "from_version": version, "to_version": EXTERNAL, "reason": reason}
            change = RoleChange(desk.model, "champion", None)
            noted = desk.store.decisions.append(usecase.name, RETURN, payload, actor, now, [change])
        desk.store.journal.check(lease)
        vacate(desk, version, actor, reason)
    op_id = "" if noted is None else noted.id  # no operation of the journal: its decision names the list of events
    return _outcome(desk, usecase, version, steps, acknowledged=_acknowledged(desk), op_id=op_id)


def return_left(desk: Desk) -> bool:
    """Whether a return to the external score died between its decision and the alias.

    Raises:
        RegistryUnavailable, StoreUnavailable: ask again.
    """
    noted = desk.store.decisions.last(desk.usecase, (RETURN,))
    if noted is None or noted.payload["model"] != desk.model or desk.journalled("champion") is not None:
        return False
    return str(noted.payload["from_version"]) == desk.holder("champion")


def finish_return(desk: Desk, lease: Lease) -> str | None:
    """Vacate the office where a return to the external score died after its decision; the version that left, if any.

    Raises:
        RegistryUnavailable, StoreUnavailable: ask again.
    """
    # An alias that was moved by hand since then names another version, and is not ours to clear.
    noted = desk.store.decisions.last(desk.usecase, (RETURN,)) if return_left(desk) else None
    if noted is None:
        return None
    here = str(noted.payload["from_version"])
    desk.store.journal.check(lease)
    vacate(desk, here, noted.actor, str(noted.payload["reason"]))
    return here


def vacate(desk: Desk, version: str, actor: str, reason: str) -> None:
    """Clear ``@champion`` for the external score; the policy first: a service keeps who is merely gone."""
    now = datetime.now(UTC)
    meant = RoutingPolicy(EXTERNAL, desk.model, EXTERNAL, version, (), desk.model, None, now, actor, reason)
    desk.registry.set_routing(desk.model, meant)
    desk.registry.clear(desk.model, "champion")


def _leaving(desk: Desk, usecase: UseCase) -> str:
    version = desk.holder("champion")
    if version is None or not replaced_external(desk, usecase):
        raise NothingToRollBack(f"{desk.model} has no model in office that replaced the external incumbent")
    return version


def _acknowledged(desk: Desk) -> bool | None:
    """Whether every live replica lets the external score answer; none when there is nobody to ask."""
    deadline = time.monotonic() + desk.wait_seconds
    while True:
        serving = [replica.version for replica in desk.store.serving.live(desk.usecase)]
        if not serving or all(version == "0" for version in serving):
            return True if serving else None
        if time.monotonic() >= deadline:
            return False
        time.sleep(_ASK_SECONDS)


def _outcome(
    desk: Desk,
    usecase: UseCase,
    version: str,
    steps: tuple[str, ...],
    *,
    preview: bool = False,
    acknowledged: bool | None = None,
    op_id: str = "",
) -> Outcome:
    message = f"rollback of {desk.model}: version {version} -> external score {_name(usecase)}"
    state = "PLANNED" if preview else "DONE"
    return Outcome(
        "rollback", desk.usecase, desk.model, version, EXTERNAL,
        state=state, preview=preview, acknowledged=acknowledged, steps=steps, op_id=op_id,
        message=f"preview: {message}" if preview else message,
    )  # fmt: skip


def _name(usecase: UseCase) -> str:
    return "" if usecase.incumbent is None else repr(usecase.incumbent.column)
