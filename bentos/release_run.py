"""Carry out a request for a change of office: under a lease, through the journal, or as a preview."""

from __future__ import annotations

import getpass
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bentos.errors import ReleaseError, StaleDecision
from bentos.grounds import require_grounds
from bentos.release_steps import FRESH, LEASE_SECONDS, Aborted, Check, Desk, Work, resume
from bentos.roles import ModelRegistry, Role
from bentos.usecase import UseCase
from monitoring.errors import LeaseHeld, MonitoringError
from monitoring.store import Lease, Operation, Store
from monitoring.store.decisions.journal import OperationKind, operation_id

log = logging.getLogger("incumbent.release")


@dataclass(frozen=True)
class Outcome:
    """What a release did, or in a preview would do.

    Attributes:
        kind: ``promotion``, ``rollback`` or ``installation``.
        usecase, model: what it was about.
        from_version: the champion before; none when no model of ours was in office.
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
    """What is asked for; the same request gives the same operation."""

    kind: OperationKind
    from_version: str | None
    to_version: str
    evidence: str
    actor: str
    reason: str
    at: datetime


def desk_of(
    registry: ModelRegistry, store: Store, usecase: UseCase, model: str, check: Check | None, wait_seconds: float
) -> Desk:
    """The desk of a model; without a check versions are looked at in a process apart."""
    look = check or verified_apart(usecase)
    rules = usecase.promotion
    return Desk(registry, store, usecase.name, model, look, wait_seconds, hand_edits=rules.hand_edits, rules=rules)


def carry_out(
    desk: Desk,
    wanted: Request,
    look: Callable[[], None],
    preview: bool,
    payload: Mapping[str, Any],
    patience: float = 0.0,
) -> Outcome:
    """Carry a request out, or say what would happen.

    Args:
        desk: what to work with.
        wanted: the request.
        look: raises ``ReleaseError`` when the request must not be carried out; called under the lease. What a
            promotion rests on is looked up in the chain after it, whatever the caller looked at.
        preview: change nothing.
        payload: what else the first line in the chain of decisions says.
        patience: longest wait for the lease.
    """
    if preview:
        look()
        desk.contract_of(wanted.to_version)
        return _preview(desk, wanted)
    # The long part, fetching and loading the version, happens before the lease is taken.
    contract = desk.contract_of(wanted.to_version)
    with held_lease(desk, wanted.actor, patience) as lease:
        resume_all(desk, lease, wanted.at)
        operation = _new_operation(desk, wanted, contract)
        known = desk.store.journal.get(operation.op_id)
        if known is not None:
            return _repeat(desk, known)
        look()
        if wanted.kind == "promotion":
            line = require_grounds(desk, wanted)
            payload = {**payload, "rests_on": {"decision": line.seq, "id": line.id, "kind": line.kind}}
        planned = desk.store.journal.plan(operation, lease, payload)
        work = Work(desk, lease, planned)
        work.run()
    return _outcome(work)


def _new_operation(desk: Desk, wanted: Request, contract: str) -> Operation:
    """The operation of a request: one that was aborted may be asked for again under a new number."""
    attempt = 0
    while True:
        op_id = operation_id(desk.model, wanted.kind, wanted.from_version, wanted.to_version, wanted.evidence, attempt)
        known = desk.store.journal.get(op_id)
        if known is None or known.state != "ABORTED":
            break
        attempt += 1
    return Operation(
        op_id, desk.usecase, desk.model, wanted.kind, wanted.from_version, wanted.to_version,
        desk.holder("previous"), wanted.evidence, contract, wanted.actor, wanted.reason, wanted.at,
    )  # fmt: skip


def _repeat(desk: Desk, known: Operation) -> Outcome:
    if desk.holder("champion") != known.to_version:
        raise StaleDecision(f"this {known.kind} was carried out before and has been undone since")
    done = _outcome(Work(desk, Lease("", "", 0, known.at), known))
    return replace(done, repeated=True, message=f"done before: {done.message}")


def resume_all(desk: Desk, lease: Lease, now: datetime, forward: bool = True) -> list[Operation]:
    """Bring a pin and every operation that was left behind to an end; returns the operations as they ended.

    Without ``forward`` a promotion that has not reached its commit point is taken back, however fresh it is.
    """
    from bentos.reconciling import settle_pin

    settle_pin(desk, lease, now)
    ended = []
    for operation in desk.store.journal.unfinished(desk.model):
        log.warning("resuming a %s of %s that was left in state %s", operation.kind, operation.model, operation.state)
        with suppress(Aborted):
            goes_on = forward or operation.kind != "promotion"
            resume(desk, lease, operation, fresh=goes_on and abs(now - operation.at) <= FRESH)
        after = desk.store.journal.get(operation.op_id)
        if after is not None:
            ended.append(after)
    return ended


@contextmanager
def held_lease(desk: Desk, actor: str, patience: float) -> Iterator[Lease]:
    """The right to change roles, waited for at most ``patience`` seconds; ``ReleaseError`` without it."""
    holder = f"{actor}@{socket.gethostname()}:{os.getpid()}"
    deadline = time.monotonic() + patience
    while True:
        try:
            lease = desk.store.journal.acquire(desk.lease_name, holder, LEASE_SECONDS)
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
            desk.store.journal.release(lease)


def _steps(desk: Desk, wanted: Request) -> Iterator[str]:
    yield f"verify version {wanted.to_version}"
    if wanted.kind == "promotion" and wanted.from_version is not None:
        yield f"@previous = {wanted.from_version}"
    yield f"@champion = {wanted.to_version}"
    if wanted.kind == "rollback":
        yield "@previous cleared"
        yield f"version {wanted.from_version} barred"
    roles: tuple[Role, ...] = ("challenger", "candidate")
    for role in roles:
        if desk.holder(role) == wanted.to_version:
            yield f"@{role} cleared"


def _preview(desk: Desk, wanted: Request) -> Outcome:
    return Outcome(
        wanted.kind, desk.usecase, desk.model, wanted.from_version, wanted.to_version, state="PLANNED", preview=True,
        steps=tuple(_steps(desk, wanted)),
        message=f"preview: {_sentence(wanted.kind, desk.model, wanted.from_version, wanted.to_version)}",
    )  # fmt: skip


def _outcome(work: Work) -> Outcome:
    o = work.operation
    if o.state != "DONE":
        raise ReleaseError(f"the {o.kind} ended as {o.state}: {o.note}")
    steps = tuple(f"@{c.role} cleared" if c.version is None else f"@{c.role} = {c.version}" for c in work.changes)
    return Outcome(
        o.kind, o.usecase, o.model, o.from_version, o.to_version, o.op_id, o.state,
        acknowledged=work.acknowledged, steps=steps,
        message=f"{_sentence(o.kind, o.model, o.from_version, o.to_version)}; {o.note}",
    )  # fmt: skip


def _sentence(kind: str, model: str, old: str | None, new: str) -> str:
    return f"{kind} of {model}: {said(old)} -> version {new}"


def said(version: str | None) -> str:
    """A version for people."""
    return "nobody" if version is None else f"version {version}"


def verified_apart(usecase: UseCase) -> Check:
    """A check that loads a model, and scores its golden rows, in a process that may crash."""

    def check(folder: Path) -> None:
        from bentos.schema import EventSchema
        from bentos.verifier import Verifier

        verifier = Verifier()
        try:
            verifier.check(folder, EventSchema.of(usecase).fingerprint)
        finally:
            verifier.close()

    return check


def default_actor() -> str:
    """Who runs this process, for the journal."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may know no name for its uid
        return f"uid-{os.getuid()}"
