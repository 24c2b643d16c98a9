"""Carry out a request for a change of champion: under a lease, through the journal, or as a preview."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from bentos.errors import ReleaseError, StaleDecision
from bentos.promotion.context import ReleaseContext
from bentos.promotion.preconditions import Precondition, require_all
from bentos.promotion.recovery import resume_all
from bentos.promotion.request import PlannedChange, ReleaseOutcome, Request, hold_lease, version_text
from bentos.promotion.state_machine import Work
from bentos.registry.ports import Role
from monitoring.store import Lease, Operation
from monitoring.store.decisions.journal import operation_id

log = logging.getLogger("incumbent.release")


def carry_out(
    context: ReleaseContext,
    request: Request,
    change: PlannedChange,
    preconditions: Iterable[Precondition],
    payload: Mapping[str, Any],
    patience: float = 0.0,
) -> ReleaseOutcome:
    """Carry a change out, or say what would happen.

    Args:
        context: what to work with.
        request: who asks; a preview changes nothing.
        change: what is asked for.
        preconditions: what must hold; asked under the lease, with what a promotion rests on.
        payload: what else the first line in the chain of decisions says.
        patience: longest wait for the lease.
    """
    if request.preview:
        require_all(context, request, change, preconditions)
        context.contract_of(change.to_version)
        return _preview(context, change)
    # The long part, fetching and loading the version, happens before the lease is taken.
    contract = context.contract_of(change.to_version)
    with hold_lease(context, request.actor, patience) as lease:
        resume_all(context, lease, request.at)
        operation = _new_operation(context, request, change, contract)
        earlier = context.store.journal.get(operation.op_id)
        if earlier is not None:
            return _repeat(context, earlier)
        if (line := require_all(context, request, change, preconditions)) is not None:
            payload = {**payload, "rests_on": {"decision": line.seq, "id": line.id, "kind": line.kind}}
        planned_operation = context.store.journal.plan(operation, lease, payload)
        work = Work(context, lease, planned_operation)
        work.run()
    return _outcome(work)


def _new_operation(context: ReleaseContext, request: Request, change: PlannedChange, contract: str) -> Operation:
    """The operation of a request: one that was aborted may be asked for again under a new number."""
    attempt = 0
    while True:
        op_id = operation_id(
            context.model, change.kind, change.from_version, change.to_version, change.evidence, attempt
        )
        earlier = context.store.journal.get(op_id)
        if earlier is None or earlier.state != "ABORTED":
            break
        attempt += 1
    return Operation(
        op_id, context.usecase.name, context.model, change.kind, change.from_version, change.to_version,
        context.holder("previous"), change.evidence, contract, request.actor, request.reason, request.at,
    )  # fmt: skip


def _repeat(context: ReleaseContext, operation: Operation) -> ReleaseOutcome:
    if context.holder("champion") != operation.to_version:
        raise StaleDecision(f"this {operation.kind} was carried out before and has been undone since")
    outcome = _outcome(Work(context, Lease("", "", 0, operation.at), operation))
    return replace(outcome, repeated=True, message=f"done before: {outcome.message}")


def _steps(context: ReleaseContext, change: PlannedChange) -> Iterator[str]:
    yield f"verify version {change.to_version}"
    if change.kind == "promotion" and change.from_version is not None:
        yield f"@previous = {change.from_version}"
    yield f"@champion = {change.to_version}"
    if change.kind == "rollback":
        yield "@previous cleared"
        yield f"version {change.from_version} barred"
    roles: tuple[Role, ...] = ("challenger", "candidate")
    for role in roles:
        if context.holder(role) == change.to_version:
            yield f"@{role} cleared"


def _preview(context: ReleaseContext, change: PlannedChange) -> ReleaseOutcome:
    return ReleaseOutcome(
        change.kind,
        context.usecase.name,
        context.model,
        change.from_version,
        change.to_version,
        state="PLANNED",
        preview=True,
        steps=tuple(_steps(context, change)),
        message=f"preview: {_sentence(change.kind, context.model, change.from_version, change.to_version)}",
    )


def _outcome(work: Work) -> ReleaseOutcome:
    op = work.operation
    if op.state != "DONE":
        raise ReleaseError(f"the {op.kind} ended as {op.state}: {op.note}")
    steps = tuple(f"@{c.role} cleared" if c.version is None else f"@{c.role} = {c.version}" for c in work.changes)
    return ReleaseOutcome(
        op.kind, op.usecase, op.model, op.from_version, op.to_version, op.op_id, op.state,
        acknowledged=work.acknowledged, steps=steps,
        message=f"{_sentence(op.kind, op.model, op.from_version, op.to_version)}; {op.note}",
    )  # fmt: skip


def _sentence(kind: str, model: str, from_version: str | None, to_version: str) -> str:
    return f"{kind} of {model}: {version_text(from_version)} -> version {to_version}"
