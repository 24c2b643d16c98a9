"""Whether the processes of the installation live."""

from __future__ import annotations

from typing import Final

from flows.health.look import HealthContext, HealthFinding, not_checked, ok, wrong

_QUIET_S: Final = 90.0
NO_STACK: Final = "no stack is up in this home"


def stack(context: HealthContext) -> HealthFinding:
    """Parts of the stack: alive, restarted, given up; and who restarts them."""
    state = context.stack
    if state is None:
        return not_checked(NO_STACK)
    given_up = [name for name, part in state.parts.items() if part.state == "given_up"]
    dead = [n for n, p in state.parts.items() if not p.alive and p.state not in ("done", "given_up", "waiting")]
    waiting = [f"{n} ({p.ended})" for n, p in state.parts.items() if p.state == "waiting" and p.ended]
    if given_up or dead or waiting:
        sentences = [f"{name} was given up after {state.parts[name].restarts} restarts" for name in given_up]
        sentences += [f"{name} is dead" for name in dead] + [f"{entry} is to be started again" for entry in waiting]
        logs = ", ".join(sorted({state.parts[name.split(" ")[0]].log for name in [*given_up, *dead, *waiting]}))
        return wrong("; ".join(sentences), f"Look at {logs}, mend the cause, then: incumbent up.")
    if not state.supervisor.alive:
        return wrong("its parts live, but the supervisor that restarts them is gone", "Run: incumbent up.")
    restarts = {name: part.restarts for name, part in state.parts.items() if part.restarts}
    restarts_note = (
        ", restarted: " + ", ".join(f"{name} {count} times" for name, count in restarts.items()) if restarts else ""
    )
    return ok(f"{len(state.parts)} parts are up and supervised{restarts_note}")


def scribe(context: HealthContext) -> HealthFinding:
    """Whether the scribe lives: it ships the log, watches a new champion, ends emergencies."""
    return _check_heartbeat(context, "scribe", "incumbent scribe")


def notifier(context: HealthContext) -> HealthFinding:
    """Whether the notifier lives."""
    return _check_heartbeat(context, "notifier", "incumbent notify --follow")


def _check_heartbeat(context: HealthContext, part: str, command: str) -> HealthFinding:
    if context.store is None:
        return not_checked("the database does not answer")
    beat = context.store.heartbeats.seen(context.usecase).get(part)
    if beat is None:
        if context.stack is None:
            return not_checked("none has ever given a sign of life, and no stack is up")
        return wrong(
            "the stack is up, but none has ever given a sign of life", f"Start it: incumbent up, or {command}."
        )
    if beat[1] > _QUIET_S:
        return wrong(f"no sign of life for {beat[1]:.0f} s", f"Start it again: incumbent up, or {command}.")
    return ok(f"its last sign of life is {beat[1]:.0f} s old")


def one_service(context: HealthContext) -> HealthFinding:
    """Who holds the home's lock of the service."""
    from bentos.home_lock import HomeLock

    path = context.settings.service_lock(context.usecase)
    holder = HomeLock(path).holder() if path.is_file() else None
    if holder is not None:
        return ok(f"held by {holder}")
    if context.service_url:
        text = "the stack is up, and nobody holds the lock that keeps a second service away"
        return wrong(text, "Start the stack again: incumbent down, then incumbent up.")
    return not_checked("no service is up on this home")
