"""Who made a version: one line of the chain right after its registration, before it gets any role.

Approval reads it: whoever started a training cannot approve what came of it, whoever appointed the version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from prefect.context import FlowRunContext

from bentos.promotion.evidence import write_training

if TYPE_CHECKING:
    from bentos.promotion.request import Request
    from bentos.registry.ports import ModelRef
    from flows.workspace.workspace import Workspace
    from monitoring.core.verdict import Verdict
    from monitoring.store import Decision

Work = Literal["training", "tuning", "refit"]


def note_maker(
    workspace: Workspace,
    work: Work,
    ref: ModelRef | None,
    verdict: Verdict,
    run_id: str,
    data: str,
    request: Request,
) -> Decision | None:
    """Write who started the work that made a version; none where nothing was registered.

    Args:
        workspace: whose chain.
        work: what made the version.
        ref: the registered version.
        verdict: of its gates.
        run_id: of the tracking server.
        data: digest of the snapshot that it was made of.
        request: who started it, at which business time, and why.
    """
    if ref is None:
        return None
    fields = {"work": work, "run_id": run_id, "data_digest": data, "reason": request.reason}
    return write_training(
        workspace.store, workspace.usecase.name, ref.label, verdict, request.actor, request.at,
        owners=list(_requesting_person()), **fields,
    )  # fmt: skip


def _requesting_person() -> tuple[str, ...]:
    """The person behind a Prefect run, where the server knows people; the actor is then whoever runs the worker."""
    context = FlowRunContext.get()
    run = None if context is None else context.flow_run
    creator = None if run is None else run.created_by
    if creator is None or str(creator.type).upper() != "USER" or not creator.display_value:
        return ()
    return (str(creator.display_value),)
