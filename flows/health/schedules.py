"""Whether what is scheduled is planned, runs, and does what its schedule says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from flows.health.look import HealthContext, HealthFinding, not_checked, ok, wrong
from flows.notify.notice import time_text
from flows.workspace.prefect_answers import SETTLING, PrefectServer, PrefectUnreachable, ScheduledDeployment

LATE: Final = timedelta(minutes=10)


def planned_runs(context: HealthContext) -> HealthFinding:
    """Schedules that are on have planned runs in the future."""

    def check(server: PrefectServer, active: list[ScheduledDeployment], count: int) -> HealthFinding:
        if not count:
            return wrong("nothing is deployed", "Run: incumbent up, or incumbent deploy.")
        unplanned = [
            deployment.flow
            for deployment in active
            if context.now - deployment.changed_at > SETTLING
            and not server.planned(deployment.id, context.now)
            and not server.due(deployment.id, context.now - SETTLING, context.now)
        ]
        if unplanned:
            text = f"on, but no run is planned: {', '.join(unplanned)}; the server's scheduler stands still"
            return wrong(text, "Start the Prefect server again, and look at its log.")
        names = ", ".join(f"{deployment.flow} ({', '.join(deployment.crons)})" for deployment in active) or "none"
        return ok(f"{count} deployments; schedules on, with planned runs: {names}")

    return _ask(context, check)


def due_runs(context: HealthContext) -> HealthFinding:
    """Runs that are due are begun."""

    def check(server: PrefectServer, active: list[ScheduledDeployment], count: int) -> HealthFinding:
        late = {
            deployment.flow: unstarted
            for deployment in active
            if (unstarted := server.unstarted(deployment.id, context.now - LATE))
        }
        if late:
            lines = "; ".join(f"{flow} was due at {time_text(times[0])}" for flow, times in late.items())
            return wrong(f"not begun: {lines}", "Look whether the worker lives: incumbent up, logs/prefect-worker.log.")
        return ok("no run that is due waits for a worker")

    return _ask(context, check)


def promotion(context: HealthContext) -> HealthFinding:
    """A scheduled promotion promotes."""

    def check(server: PrefectServer, active: list[ScheduledDeployment], count: int) -> HealthFinding:
        promotions = [deployment for deployment in active if deployment.flow == "promotion"]
        if not promotions:
            return ok("its schedule is off: people promote")
        if any(parameters.get("preview") for deployment in promotions for parameters in deployment.parameters):
            todo = "Set preview to false in the parameters of the schedule, or deploy again: incumbent deploy."
            return wrong("its schedule is on and only ever makes a preview", todo)
        return ok("its schedule is on, and it promotes")

    return _ask(context, check)


def worker(context: HealthContext) -> HealthFinding:
    """A worker serves the pool."""
    from flows.stack.parts import POOL

    def check(server: PrefectServer, active: list[ScheduledDeployment], count: int) -> HealthFinding:
        workers = server.workers(POOL)
        living = [name for name, status, _ in workers if status == "ONLINE"]
        if not living and (age := _worker_age(context)) is not None and age < SETTLING:
            return not_checked(f"its process is {age.total_seconds():.0f} s old and has not called the server yet")
        if not living:
            return wrong(f"none of {len(workers)} workers of the pool {POOL} lives", "Run: incumbent up.")
        return ok(f"{', '.join(living)} serves the pool {POOL}")

    return _ask(context, check)


def _worker_age(place: HealthContext) -> timedelta | None:
    """How long the stack's own worker has lived; none where it has none that lives."""
    part = place.stack.parts.get("prefect-worker") if place.stack else None
    return place.now - part.since if part is not None and part.alive and part.since is not None else None


def _ask(
    context: HealthContext, check: Callable[[PrefectServer, list[ScheduledDeployment], int], HealthFinding]
) -> HealthFinding:
    url = context.environ.get("PREFECT_API_URL", "")
    if not url:
        return not_checked("no Prefect server is known here")
    prefix = context.settings.deployment_name(context.usecase, "")
    try:
        with PrefectServer(url, context.environ.get("PREFECT_API_AUTH_STRING", ""), context.timeout_s) as server:
            deployments = server.deployments(prefix)
            return check(server, [deployment for deployment in deployments if deployment.active], len(deployments))
    except PrefectUnreachable as exc:
        return wrong(f"the Prefect server: {exc}", "See the line prefect.")
