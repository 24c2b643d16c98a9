"""What the log, the runs, the journal and the outbox hold that somebody must look at."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import func, select

from flows.health.look import Finding, Place, not_looked, ok, wrong
from flows.notify.notice import readable, span
from monitoring.store.database.frames import from_us, to_us
from monitoring.store.database.tables import predictions

_LONG: Final = timedelta(hours=6)
_STUCK: Final = timedelta(minutes=10)
_NO_DATABASE: Final = "the database does not answer"


def log_clock(place: Place) -> Finding:
    """No event of the log lies in the future."""
    if place.store is None:
        return not_looked(_NO_DATABASE)
    if place.settings.clock != "machine":
        return ok("its clock is a stream's: events may be of any time")
    ahead = place.settings.max_future
    query = select(func.max(predictions.c.event_time)).where(predictions.c.usecase == place.usecase)
    with place.store.database.read() as connection:
        newest = connection.execute(query).scalar()
    if newest is None:
        return ok("the log is empty")
    if newest > to_us(place.now + ahead):
        return wrong(f"its newest event is of {readable(from_us(newest))}, in the future", "Run: incumbent log repair.")
    bound = span(ahead.total_seconds())
    return ok(f"its newest event is of {readable(from_us(newest))}; later than {bound} from now none is taken")


def runs(place: Place) -> Finding:
    """No run hangs, and the last run of each flow did not fail."""
    if place.store is None:
        return not_looked(_NO_DATABASE)
    recent = place.store.runs.recent(place.usecase, 500)
    hanging = [
        run for run in recent if run.state == "running" and not run.message and place.now - run.started_at > _LONG
    ]
    if hanging:
        first = hanging[-1]
        text = f"the {first.flow} that began at {readable(first.started_at)} has not ended"
        return wrong(text, f"Look whether its process lives; see incumbent {first.flow} and the Prefect page.")
    newest = {run.flow: run for run in sorted(recent, key=lambda run: run.ended_at or run.started_at) if run.ended_at}
    failed = sorted(flow for flow, run in newest.items() if run.state == "failed")
    if failed:
        return wrong(f"the last run failed: {', '.join(failed)}", "See the runbook, FlowFailed.")
    return ok(f"the last runs of {len(newest)} flows ended well" if newest else "no flow has run yet")


def releases(place: Place) -> Finding:
    """No promotion or rollback is left half done."""
    if place.store is None:
        return not_looked(_NO_DATABASE)
    left = place.store.journal.unfinished(place.model)
    if not left:
        return ok("none is open")
    lines = place.store.decisions.list(place.usecase, tuple(f"{one.kind}.planned" for one in left), limit=None)
    begun = {str(line.payload["op_id"]): line.recorded_at for line in lines}
    old = [one for one in left if place.now - begun.get(one.op_id, place.now) > _STUCK]
    if old:
        since = span((place.now - begun[old[0].op_id]).total_seconds())
        return wrong(f"a {old[0].kind} stands in {old[0].state} for {since}", "Run: python -m bentos.release recover.")
    return ok(f"a {left[0].kind} is under way")


def notices(place: Place) -> Finding:
    """People can be told."""
    from bentos.errors import UseCaseError
    from bentos.usecase.loading import load_usecase
    from flows.errors import NotifyError
    from flows.notify.targets import all_targets

    if place.store is None:
        return not_looked(_NO_DATABASE)
    try:
        usecase = load_usecase(place.settings.usecase)
        targets = all_targets(place.settings, usecase)
    except UseCaseError as exc:
        return wrong(str(exc), "Mend the file; what runs keeps what it has read until it starts again.")
    except NotifyError as exc:
        return wrong(exc.message, "Then: incumbent notify --test.")
    named = {route.to for route in usecase.notify.routes}
    bare = [target.variable for target in targets if target.name in named and not target.configured]
    if bare:
        return wrong(
            f"the use case tells people who have no address: {', '.join(bare)}",
            "Set it, then: incumbent notify --test.",
        )
    if open_ones := place.store.notices.problems():
        name, count, since, why = open_ones[0]
        return wrong(
            f"{count} for {name} not taken since {readable(since)}: {why}", "Mend it, then: incumbent notify --test."
        )
    there = [target.name for target in targets if target.configured]
    if not there:
        return not_looked("nobody is told: INCUMBENT_NOTIFY_URL is not set, the log alone tells")
    return ok(f"{', '.join(there)} can be told, and every notice was taken")
