"""Whether the processes of the installation live."""

from __future__ import annotations

from typing import Final

from flows.health.look import Finding, Place, not_looked, ok, wrong

_QUIET_S: Final = 90.0
NO_STACK: Final = "no stack is up in this home"


def stack(place: Place) -> Finding:
    """Parts of the stack: alive, restarted, given up; and who restarts them."""
    state = place.stack
    if state is None:
        return not_looked(NO_STACK)
    given_up = [name for name, part in state.parts.items() if part.state == "given_up"]
    dead = [n for n, p in state.parts.items() if not p.alive and p.state not in ("done", "given_up", "waiting")]
    waiting = [f"{n} ({p.ended})" for n, p in state.parts.items() if p.state == "waiting" and p.ended]
    if given_up or dead or waiting:
        said = [f"{name} was given up after {state.parts[name].restarts} restarts" for name in given_up]
        said += [f"{name} is dead" for name in dead] + [f"{one} is to be started again" for one in waiting]
        logs = ", ".join(sorted({state.parts[name.split(" ")[0]].log for name in [*given_up, *dead, *waiting]}))
        return wrong("; ".join(said), f"Look at {logs}, mend the cause, then: incumbent up.")
    if not state.supervisor.alive:
        return wrong("its parts live, but the supervisor that restarts them is gone", "Run: incumbent up.")
    restarts = {name: part.restarts for name, part in state.parts.items() if part.restarts}
    told = ", restarted: " + ", ".join(f"{name} {count} times" for name, count in restarts.items()) if restarts else ""
    return ok(f"{len(state.parts)} parts are up and supervised{told}")


def scribe(place: Place) -> Finding:
    """Whether the scribe lives: it ships the log, watches a new champion, ends emergencies."""
    return _lives(place, "scribe", "incumbent scribe")


def notifier(place: Place) -> Finding:
    """Whether the notifier lives."""
    return _lives(place, "notifier", "incumbent notify --follow")


def _lives(place: Place, part: str, command: str) -> Finding:
    if place.store is None:
        return not_looked("the database does not answer")
    seen = place.store.heartbeats.seen(place.usecase).get(part)
    if seen is None:
        if place.stack is None:
            return not_looked("none has ever given a sign of life, and no stack is up")
        return wrong(
            "the stack is up, but none has ever given a sign of life", f"Start it: incumbent up, or {command}."
        )
    if seen[1] > _QUIET_S:
        return wrong(f"no sign of life for {seen[1]:.0f} s", f"Start it again: incumbent up, or {command}.")
    return ok(f"its last sign of life is {seen[1]:.0f} s old")


def one_service(place: Place) -> Finding:
    """Who holds the home's lock of the service."""
    from bentos.home_lock import HomeLock

    path = place.settings.service_lock(place.usecase)
    holder = HomeLock(path).holder() if path.is_file() else None
    if holder is not None:
        return ok(f"held by {holder}")
    if place.service_url:
        text = "the stack is up, and nobody holds the lock that keeps a second service away"
        return wrong(text, "Start the stack again: incumbent down, then incumbent up.")
    return not_looked("no service is up on this home")
