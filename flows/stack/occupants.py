"""Who works in a home right now: services and the stack's supervisor, by the locks that they hold."""

from __future__ import annotations

from bentos.errors import HomeTaken
from bentos.home_lock import HomeLock, LockHolder
from flows.errors import FlowRefused, PortTaken
from flows.stack.parts import Ports
from flows.stack.state_file import StackState, read_state
from flows.workspace.installation import Home


def services_in(home: Home) -> list[LockHolder]:
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
    stack = lock_of(home).holder()
    for holder in ([] if stack is None else [stack]) + services_in(home):
        raise FlowRefused(f"{holder} is in {home.root}; {action} under it: stop it first (incumbent down)")


def lock_of(home: Home) -> HomeLock:
    """Held by whoever supervises the stack of a home."""
    return HomeLock(home.run / "stack.lock")


def take_lock(home: Home, purpose: str = "a stack") -> int:
    """Descriptor of the stack's lock.

    Raises:
        PortTaken: another stack is up in this home; the message names it.
    """
    try:
        return lock_of(home).take(LockHolder.this_process(purpose))
    except HomeTaken as exc:
        command = "incumbent down --demo" if home.root.name == "demo" else "incumbent down"
        raise PortTaken(f"already up: {exc}; stop it first: {command}") from exc


def find_orphaned_stack(home: Home) -> StackState | None:
    """The stack that a killed supervisor left behind, where parts of it live; only who holds the lock may ask."""
    state = read_state(home.addresses)
    return state if state is not None and any(part.alive for part in state.parts.values()) else None


def ports_of(state: StackState) -> Ports:
    """Where the parts of a written stack listen."""
    return Ports.of(state.host, state.ports)
