"""What the log, the runs, the journal and the outbox hold that somebody must look at."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import func, select

from flows.health.look import HealthContext, HealthFinding, not_checked, ok, wrong
from flows.notify.notice import span_text, time_text
from monitoring.store.database.frames import from_us, to_us
from monitoring.store.database.tables import predictions

_HANGING_AFTER: Final = timedelta(hours=6)
_STUCK_AFTER: Final = timedelta(minutes=10)
_NO_DATABASE: Final = "the database does not answer"


def log_clock(context: HealthContext) -> HealthFinding:
    """No event of the log lies in the future."""
    if context.store is None:
        return not_checked(_NO_DATABASE)
    if context.settings.clock != "machine":
        return ok("its clock is a stream's: events may be of any time")
    ahead = context.settings.max_future
    query = select(func.max(predictions.c.event_time)).where(predictions.c.usecase == context.usecase)
    with context.store.database.read() as connection:
        newest = connection.execute(query).scalar()
    if newest is None:
        return ok("the log is empty")
    if newest > to_us(context.now + ahead):
        return wrong(
            f"its newest event is of {time_text(from_us(newest))}, in the future", "Run: incumbent log repair."
        )
    bound = span_text(ahead.total_seconds())
    return ok(f"its newest event is of {time_text(from_us(newest))}; later than {bound} from now none is taken")


def runs(context: HealthContext) -> HealthFinding:
    """No run hangs, and the last run of each flow did not fail."""
    if context.store is None:
        return not_checked(_NO_DATABASE)
    recent = context.store.runs.recent(context.usecase, 500)
    hanging = [
        run
        for run in recent
        if run.state == "running" and not run.message and context.now - run.started_at > _HANGING_AFTER
    ]
    if hanging:
        first = hanging[-1]
        text = f"the {first.flow} that began at {time_text(first.started_at)} has not ended"
        return wrong(text, f"Look whether its process lives; see incumbent {first.flow} and the Prefect page.")
    newest = {run.flow: run for run in sorted(recent, key=lambda run: run.ended_at or run.started_at) if run.ended_at}
    failed = sorted(flow for flow, run in newest.items() if run.state == "failed")
    if failed:
        return wrong(f"the last run failed: {', '.join(failed)}", "See the runbook, FlowFailed.")
    return ok(f"the last runs of {len(newest)} flows ended well" if newest else "no flow has run yet")


def releases(context: HealthContext) -> HealthFinding:
    """No promotion or rollback is left half done."""
    if context.store is None:
        return not_checked(_NO_DATABASE)
    unfinished = context.store.journal.unfinished(context.model)
    if not unfinished:
        return ok("none is open")
    lines = context.store.decisions.list(
        context.usecase, tuple(f"{operation.kind}.planned" for operation in unfinished), limit=None
    )
    started_at = {str(line.payload["op_id"]): line.recorded_at for line in lines}
    stuck = [
        operation
        for operation in unfinished
        if context.now - started_at.get(operation.op_id, context.now) > _STUCK_AFTER
    ]
    if stuck:
        since = span_text((context.now - started_at[stuck[0].op_id]).total_seconds())
        return wrong(
            f"a {stuck[0].kind} stands in {stuck[0].state} for {since}", "Run: python -m bentos.release recover."
        )
    return ok(f"a {unfinished[0].kind} is under way")


def notices(context: HealthContext) -> HealthFinding:
    """People can be told."""
    from bentos.errors import UseCaseError
    from bentos.usecase.loading import load_usecase
    from flows.errors import NotifyError
    from flows.notify.targets import all_targets

    if context.store is None:
        return not_checked(_NO_DATABASE)
    try:
        usecase = load_usecase(context.settings.usecase)
        targets = all_targets(context.settings, usecase)
    except UseCaseError as exc:
        return wrong(str(exc), "Mend the file; what runs keeps what it has read until it starts again.")
    except NotifyError as exc:
        return wrong(exc.message, "Then: incumbent notify --test.")
    routed_names = {route.to for route in usecase.notify.routes}
    missing_variables = [target.variable for target in targets if target.name in routed_names and not target.configured]
    if missing_variables:
        return wrong(
            f"the use case tells people who have no address: {', '.join(missing_variables)}",
            "Set it, then: incumbent notify --test.",
        )
    if problems := context.store.notices.problems():
        name, count, since, reason = problems[0]
        return wrong(
            f"{count} for {name} not taken since {time_text(since)}: {reason}",
            "Mend it, then: incumbent notify --test.",
        )
    configured_names = [target.name for target in targets if target.configured]
    if not configured_names:
        return not_checked("nobody is told: INCUMBENT_NOTIFY_URL is not set, the log alone tells")
    return ok(f"{', '.join(configured_names)} can be told, and every notice was taken")
