"""Who works in a home right now: services and the stack's supervisor, by the locks that they hold."""

from __future__ import annotations

from bentos.homelock import Holder, HomeLock
from flows.errors import FlowRefused
from flows.home import Home


def services_in(home: Home) -> list[Holder]:
    """The services that run on a home, of every environment and use case."""
    files = sorted(home.run.glob("service-*.lock"))
    return [holder for file in files if (holder := HomeLock(file).holder()) is not None]


def require_quiet(home: Home, action: str) -> None:
    """Refuse what may not be done under the feet of running processes.

    Args:
        home: where they would run.
        action: what is refused, for the message: "a backup is not restored".

    Raises:
        FlowRefused: a service or a stack is there; the message names it.
    """
    stack = HomeLock(home.run / "stack.lock").holder()
    for holder in ([] if stack is None else [stack]) + services_in(home):
        raise FlowRefused(f"{holder} is in {home.root}; {action} under it: stop it first (incumbent down)")
