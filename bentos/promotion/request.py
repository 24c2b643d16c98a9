"""Who asks for a change of roles, under which lease, and what came of it."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from bentos.errors import ReleaseError
from bentos.promotion.context import ReleaseContext
from bentos.promotion.state_machine import LEASE_SECONDS
from monitoring.errors import LeaseHeld, MonitoringError
from monitoring.store import Lease
from monitoring.store.decisions.journal import OperationKind


@dataclass(frozen=True)
class ReleaseOutcome:
    """What a release did, or in a preview would do.

    Attributes:
        kind: ``promotion``, ``rollback`` or ``installation``.
        usecase, model: what it was about.
        from_version: the champion before; none when no model of ours was active.
        to_version: the champion after.
        op_id: the operation in the journal; empty in a preview.
        state: how far it came; ``DONE`` unless a preview.
        preview: nothing was changed.
        repeated: the same request had been carried out before; nothing was changed now.
        acknowledged: every live replica serves the new champion; none when there was nobody to ask.
        steps: what was, or would be, written, in order.
        message: one line for people.
    """

    kind: OperationKind
    usecase: str
    model: str
    from_version: str | None
    to_version: str
    op_id: str = ""
    state: str = ""
    preview: bool = False
    repeated: bool = False
    acknowledged: bool | None = None
    steps: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class Request:
    """Who asks for a change of roles.

    Attributes:
        actor: who asked, for the journal.
        reason: why, in the actor's words.
        at: business time of the request; machine time in an emergency.
        preview: look at everything, change nothing.
    """

    actor: str
    reason: str
    at: datetime
    preview: bool = False


@dataclass(frozen=True)
class PlannedChange:
    """Which change of champion is asked for; the same one gives the same operation."""

    kind: OperationKind
    from_version: str | None
    to_version: str
    evidence: str


@contextmanager
def hold_lease(context: ReleaseContext, actor: str, patience: float) -> Iterator[Lease]:
    """The right to change roles, waited for at most ``patience`` seconds; ``ReleaseError`` without it."""
    holder = f"{actor}@{socket.gethostname()}:{os.getpid()}"
    deadline = time.monotonic() + patience
    while True:
        try:
            lease = context.store.journal.acquire(context.lease_name, holder, LEASE_SECONDS)
            break
        except LeaseHeld as exc:
            if time.monotonic() >= deadline:
                raise ReleaseError(f"another release is under way: {exc}") from exc
            time.sleep(0.2)
    try:
        yield lease
    except LeaseHeld as exc:
        raise ReleaseError(f"this release lost its lease: {exc}; what was begun is resumed by the next") from exc
    finally:
        # A lease that cannot be given back runs out by itself; it must not hide what became of the release.
        with suppress(MonitoringError):
            context.store.journal.release(lease)


def version_text(version: str | None) -> str:
    """A version for people."""
    return "nobody" if version is None else f"version {version}"


def default_actor() -> str:
    """Who runs this process, for the journal."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may know no name for its uid
        return f"uid-{os.getuid()}"
