"""Canary: give the challenger traffic, by hand or by a guarded ramp, and look after a ramp that runs."""

from __future__ import annotations

from datetime import datetime

from prefect.context import FlowRunContext

from flows.errors import NothingToDo
from flows.runs.operation import operation
from flows.runs.run_record import record_run
from flows.steps.comparison.routing_change import RoutingChange, change_routing
from flows.views.release import canary_view
from flows.workspace.outcome import FlowOutcome
from flows.workspace.workspace import open_workspace
from monitoring.rollout.ramp_guard import DEFAULT_GUARD


@operation("canary of {model} at {time}", each_minute=True)
def canary(
    usecase: str | None = None,
    share: float | None = None,
    arms: str | None = None,
    ramp: str | None = None,
    every: str = "30m",
    guard: str = DEFAULT_GUARD,
    off: bool = False,
    entity: str | None = None,
    reason: str = "",
    stay: bool = False,
    as_of: datetime | None = None,
) -> FlowOutcome:
    """Change the routing once. With nothing chosen it looks after the running ramp, and changes nothing without one.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        share: Percent of the entities that the challenger answers from now on.
        arms: Named arms with shares in percent, for example A=champion:50,B=challenger:50.
        ramp: Percentages to step through while the guard holds, for example 1,5,25,50,100.
        every: Shortest time on a step of the ramp, for example 30m.
        guard: Conditions under which the ramp may go on; else it returns to 0 at once.
        off: The champion answers all from now on.
        entity: Column whose values stay in their arm. Empty takes the use case's evaluation entity.
        reason: Why, in a few words, for the record.
        stay: Stay until the ramp is over; else later runs of this deployment look after it.
        as_of: Business time of the request, for the record. Empty takes now.
    """
    workspace = open_workspace(usecase)
    with record_run(workspace, "canary", as_of, each_minute=True) as run:
        change = RoutingChange(share, arms, ramp, every, guard, off, entity, reason, stay)
        result = change_routing(workspace, change, run.as_of)
        if not result.moved and FlowRunContext.get() is not None:
            raise NothingToDo(canary_view(result, run.as_of).summary)
        return run.conclude(canary_view(result, run.as_of))
