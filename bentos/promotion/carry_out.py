"""Carry out a request for a change of office: under a lease, through the journal, or as a preview."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from bentos.errors import ReleaseError, StaleDecision
from bentos.promotion.evidence import require_grounds
from bentos.promotion.recovery import resume_all
from bentos.promotion.request import Outcome, Request, held_lease, said
from bentos.promotion.state_machine import Desk, Work
from bentos.registry.ports import Role
from monitoring.store import Lease, Operation
from monitoring.store.decisions.journal import operation_id

log = logging.getLogger("incumbent.release")


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
