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
from flows.health.look import HealthCheck, HealthContext, HealthFinding, wrong
from monitoring.core.deadline import run_within

DEADLINE_S: Final = 1.8
"""For all checks together; the command has five seconds, and its start takes some of them."""

CHECKS: Final[Mapping[str, HealthCheck]] = {
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
    "schedules": schedules.planned_runs,
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


def run_checks(contexts: Sequence[HealthContext], deadline_s: float = DEADLINE_S) -> dict[str, HealthFinding]:
    """Run every check at once and return what each found, by name, in the order of the table.

    Args:
        contexts: one for each use case; with several, lines of one use case are called ``service of churn``.
        deadline_s: seconds that all may take together on a quiet machine.
    """
    seconds = deadline_s * max(context.patience for context in contexts)
    jobs = dict(_jobs(contexts))
    findings = run_within(jobs, seconds)
    late = wrong(f"no answer within {seconds:g} s", "Look whether what it asks hangs, then ask again.")
    return {name: findings.get(name, late) for name in jobs}


def _jobs(contexts: Sequence[HealthContext]) -> Iterator[tuple[str, partial[HealthFinding]]]:
    for name, check in CHECKS.items():
        for context in contexts[:1] if name in COMMON else contexts:
            line = name if name in COMMON or len(contexts) == 1 else f"{name} of {context.name or context.usecase}"
            yield line, partial(_run_safely, check, context)


def _run_safely(check: HealthCheck, context: HealthContext) -> HealthFinding:
    try:
        return check(context)
    except Exception as exc:  # one check must not take the others with it; the text could hold an address
        return wrong(f"it cannot be looked at ({type(exc).__name__})", "Ask again; if it stays, this is a defect.")
