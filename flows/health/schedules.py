"""Whether what is scheduled is planned, runs, and does what its schedule says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from flows.health.look import Finding, Place, not_looked, ok, wrong
from flows.notify.notice import readable
from flows.workspace.prefect_answers import SETTLING, PrefectServer, PrefectUnreachable, ScheduledDeployment

LATE: Final = timedelta(minutes=10)


def planned(place: Place) -> Finding:
    """Schedules that are on have planned runs in the future."""

    def look(server: PrefectServer, on: list[ScheduledDeployment], count: int) -> Finding:
        if not count:
            return wrong("nothing is deployed", "Run: incumbent up, or incumbent deploy.")
        bare = [
            one.flow
            for one in on
            if place.now - one.changed_at > SETTLING
            and not server.planned(one.id, place.now)
            and not server.due(one.id, place.now - SETTLING, place.now)
        ]
        if bare:
            text = f"on, but no run is planned: {', '.join(bare)}; the server's scheduler stands still"
            return wrong(text, "Start the Prefect server again, and look at its log.")
        names = ", ".join(f"{one.flow} ({', '.join(one.crons)})" for one in on) or "none"
        return ok(f"{count} deployments; schedules on, with planned runs: {names}")

    return _ask(place, look)


def due_runs(place: Place) -> Finding:
    """Runs that are due are begun."""

    def look(server: PrefectServer, on: list[ScheduledDeployment], count: int) -> Finding:
        late = {one.flow: due for one in on if (due := server.unstarted(one.id, place.now - LATE))}
        if late:
            said = "; ".join(f"{flow} was due at {readable(times[0])}" for flow, times in late.items())
            return wrong(f"not begun: {said}", "Look whether the worker lives: incumbent up, logs/prefect-worker.log.")
        return ok("no run that is due waits for a worker")

    return _ask(place, look)


def promotion(place: Place) -> Finding:
    """A scheduled promotion promotes."""

    def look(server: PrefectServer, on: list[ScheduledDeployment], count: int) -> Finding:
        found = [one for one in on if one.flow == "promotion"]
        if not found:
            return ok("its schedule is off: people promote")
        if any(parameters.get("preview") for one in found for parameters in one.parameters):
            todo = "Set preview to false in the parameters of the schedule, or deploy again: incumbent deploy."
            return wrong("its schedule is on and only ever makes a preview", todo)
        return ok("its schedule is on, and it promotes")

    return _ask(place, look)


def worker(place: Place) -> Finding:
    """A worker serves the pool."""
    from flows.stack.parts import POOL

    def look(server: PrefectServer, on: list[ScheduledDeployment], count: int) -> Finding:
        workers = server.workers(POOL)
        living = [name for name, status, _ in workers if status == "ONLINE"]
        if not living and (age := _worker_age(place)) is not None and age < SETTLING:
            return not_looked(f"its process is {age.total_seconds():.0f} s old and has not called the server yet")
        if not living:
            return wrong(f"none of {len(workers)} workers of the pool {POOL} lives", "Run: incumbent up.")
        return ok(f"{', '.join(living)} serves the pool {POOL}")

    return _ask(place, look)


def _worker_age(place: Place) -> timedelta | None:
    """How long the stack's own worker has lived; none where it has none that lives."""
    part = place.stack.parts.get("prefect-worker") if place.stack else None
    return place.now - part.since if part is not None and part.alive and part.since is not None else None


def _ask(place: Place, look: Callable[[PrefectServer, list[ScheduledDeployment], int], Finding]) -> Finding:
    url = place.environ.get("PREFECT_API_URL", "")
    if not url:
        return not_looked("no Prefect server is known here")
    prefix = place.settings.deployment_name(place.usecase, "")
    try:
        with PrefectServer(url, place.environ.get("PREFECT_API_AUTH_STRING", ""), place.timeout_s) as server:
            found = server.deployments(prefix)
            return look(server, [one for one in found if one.active], len(found))
    except PrefectUnreachable as exc:
        return wrong(f"the Prefect server: {exc}", "See the line prefect.")
