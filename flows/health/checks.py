"""The checks of ``incumbent status --deep``, as a table: to add one, write a function and a row of :data:`CHECKS`.

Each looks at one thing, changes nothing, and says in one line what it looked at, what is so and what to do. All run at
once, each in a thread of its own; one that hangs counts as wrong after :data:`DEADLINE_S`, so that a server that says
nothing holds up nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from flows.health import doors, evidence, machine, parts, schedules, serving
from flows.health.look import Finding, Look, Place, wrong
from monitoring.core.deadline import run_within

DEADLINE_S: Final = 1.8
"""For all checks together; the command has five seconds, and its start takes some of them."""

CHECKS: Final[Mapping[str, Look]] = {
    "stack": parts.stack,
    "scribe": parts.scribe,
    "notifier": parts.notifier,
    "one service per home": parts.one_service,
    "database": machine.database,
    "mlflow": machine.mlflow,
    "prefect": machine.prefect,
    "redis": machine.redis,
    "disk space": machine.disk_space,
    "private files": machine.private_files,
    "service": serving.service,
    "champion": serving.champion,
    "replicas": serving.replicas,
    "metrics": serving.metrics,
    "metrics folder": serving.metrics_folder,
    "schedules": schedules.planned,
    "due runs": schedules.due_runs,
    "scheduled promotion": schedules.promotion,
    "worker": schedules.worker,
    "prefect login": doors.prefect_login,
    "prefect hosts": doors.prefect_hosts,
    "work pool": doors.work_pool,
    "other hosts": doors.other_hosts,
    "reports": doors.reports,
    "log's clock": evidence.log_clock,
    "runs": evidence.runs,
    "releases": evidence.releases,
    "notices": evidence.notices,
}
"""Name of each line to what looks; lines are shown in this order."""

COMMON: Final = frozenset({
    "stack", "database", "mlflow", "prefect", "redis", "disk space", "private files", "worker", "prefect login",
    "prefect hosts", "work pool", "reports",
})  # fmt: skip
"""Checks of what every use case of a home has in common: they are made once."""


def look_deep(places: Sequence[Place], deadline_s: float = DEADLINE_S) -> dict[str, Finding]:
    """Run every check at once and return what each found, by name, in the order of the table.

    Args:
        places: one for each use case; with several, lines of one use case are called ``service of churn``.
        deadline_s: seconds that all may take together on a quiet machine.
    """
    seconds = deadline_s * max(place.patience for place in places)
    jobs = dict(_jobs(places))
    found = run_within(jobs, seconds)
    late = wrong(f"no answer within {seconds:g} s", "Look whether what it asks hangs, then ask again.")
    return {name: found.get(name, late) for name in jobs}


def _jobs(places: Sequence[Place]) -> Iterator[tuple[str, partial[Finding]]]:
    for name, look in CHECKS.items():
        for place in places[:1] if name in COMMON else places:
            line = name if name in COMMON or len(places) == 1 else f"{name} of {place.name or place.usecase}"
            yield line, partial(_safely, look, place)


def _safely(look: Look, place: Place) -> Finding:
    try:
        return look(place)
    except Exception as exc:  # one check must not take the others with it; the text could hold an address
        return wrong(f"it cannot be looked at ({type(exc).__name__})", "Ask again; if it stays, this is a defect.")
