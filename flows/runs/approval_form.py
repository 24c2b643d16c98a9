"""The pause of a promotion for a person: a typed form in the Prefect UI, and nobody's time while it waits.

The run is suspended: its process ends, it holds no worker slot and no limit, and its state lives in
the server's database. When somebody answers, the run is scheduled again and starts from its
beginning, finds its own request in the chain, and goes on with the answer.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from bentos.errors import ReleaseError
from bentos.promotion.approval import ApprovalRequest, FormAnswer, approved_by, open_request, redeem, rejected_by
from flows.errors import FlowRefused
from flows.runs.links import report_place
from flows.steps.comparison.compare import latest_verdict
from flows.workspace.clock import machine_now
from flows.workspace.prefect_server import require_guarded_server
from flows.workspace.workspace import Workspace
from monitoring.core.verdict import Verdict

if TYPE_CHECKING:
    from flows.runs.run_record import FlowRun
    from monitoring.store import Decision

_FORMS = 5


class ApprovalForm(RunInput):  # type: ignore[misc]  # prefect's types are not read here
    """What the form asks."""

    answer: Literal["approve", "reject"] = Field(description="Whether the challenger may become champion.")
    name: str = Field(min_length=1, description="Your name, as your key has it.")
    note: str = Field(default="", description="Why, in a few words; it is kept.")
    code: str = Field(
        min_length=1,
        description="One-time code from `incumbent approve ID --code --key-file FILE`. Never the key itself.",
    )


def approved_verdict(workspace: Workspace, run: FlowRun, verdict: Verdict) -> Verdict:
    """The verdict that may be carried out: as it is, or once a person has agreed to it.

    Raises:
        FlowRefused: nobody has agreed yet, somebody rejected it, or the evidence turned meanwhile.
    """
    usecase = workspace.usecase
    if usecase.promotion.approval != "required" or not verdict.promotes:
        return verdict
    if approved_by(workspace.store, usecase.name, verdict) is not None:
        return verdict
    if (rejecter := rejected_by(workspace.store, usecase.name, verdict)) is not None:
        raise FlowRefused(f"{rejecter} rejected this verdict; the next comparison brings a new one")
    inside = FlowRunContext.get() is not None
    if inside:
        require_guarded_server()
    now = machine_now()
    request = open_request(
        workspace.store, usecase.name, verdict, run.run_id if inside else "", workspace.actor, now,
        now + usecase.promotion.approval_timeout,
    )  # fmt: skip
    if not inside:
        raise FlowRefused(
            f"a person must approve first; request {request.id} is open until {request.due.isoformat()}: "
            f"incumbent approve {request.id} --answer approve --key-file FILE, then promote again"
        )
    return _ask(workspace, run, request)


def _ask(workspace: Workspace, run: FlowRun, request: ApprovalRequest) -> Verdict:
    """Suspend until the form is answered; after the answer this is reached again, and returns."""
    note, decision = _wait_for_answer(workspace, request)
    if decision.kind != "approval.granted":
        raise FlowRefused(f"{decision.payload['owner']} rejected the promotion: {note or 'no reason given'}")
    latest = latest_verdict(workspace.store, workspace.usecase, run.as_of)
    if latest.digest != request.verdict.digest and not latest.promotes:
        raise FlowRefused(f"approved, but the evidence turned meanwhile: the newest comparison says {latest.outcome}")
    return request.verdict


def _wait_for_answer(workspace: Workspace, request: ApprovalRequest) -> tuple[str, Decision]:
    """The note and the decision of the first form with a good code; after a slip the form is shown again.

    Each form has a key of its own, so a run that starts again gets the forms that were answered as they were, and
    a bad one leads to the next once more.
    """
    problem = ""
    for attempt in range(_FORMS):
        remaining = max(timedelta(seconds=1), request.due - machine_now())
        form: Any = suspend_flow_run(
            wait_for_input=ApprovalForm.with_initial_data(description=page_of(workspace, request, problem)),
            timeout=int(remaining.total_seconds()),
            key=f"approval-{request.id}" + (f"-{attempt + 1}" if attempt else ""),
        )
        try:
            answer = FormAnswer(form.answer, form.name, form.note, form.code)
            return answer.note, redeem(workspace.store, workspace.usecase.name, request, answer, machine_now())
        except ReleaseError as exc:
            problem = str(exc)
    raise FlowRefused(f"{problem}; that was the last of {_FORMS} forms, the next run of the promotion asks again")


def page_of(workspace: Workspace, request: ApprovalRequest, problem: str = "") -> str:
    """What the form shows above its fields: why it is shown again, the case in short, and where the whole of it is."""
    verdict = request.verdict
    lines = [
        *([f"**The last answer was not taken: {problem}.**", ""] if problem else []),
        f"## {verdict.challenger} for {verdict.champion or 'a vacant role'}",
        "",
        *[f"- {reason}" for reason in verdict.reasons],
        "",
        "| check | value | limit | status |",
        "|---|---|---|---|",
        *[f"| {c.name} | {_figure(c.value)} | {_figure(c.threshold)} | {c.status} |" for c in verdict.checks],
        "",
        f"Evidence as of `{verdict.as_of.isoformat()}`, verdict `{verdict.digest[:16]}`. {_dossier(workspace)}",
        "",
        f"Code for the form: `incumbent approve {request.id} --code --key-file FILE`. "
        f"Open until `{request.due.isoformat()}`; afterwards the verdict stays open and the next run asks again.",
    ]
    return "\n".join(lines)


def _dossier(workspace: Workspace) -> str:
    report = workspace.store.reports.latest(workspace.usecase.name, "comparison")
    if report is None or report.html is None:
        return "The comparison wrote no page."
    from pathlib import Path

    return f"The whole case: {report_place(Path(report.html), workspace.settings)}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
