"""Comparison: challenger and champion on the same matured events, and a verdict that is kept."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from bentos.promotion.promote import appoint_next_candidate
from flows.runs.operation import operation
from flows.runs.run_record import record_run
from flows.steps.comparison.compare import compare, compared_models, retire_challenger
from flows.steps.comparison.replay_verdict import record_verdict
from flows.steps.reports.dossier import write_comparison_page
from flows.views.reports import comparison_view
from flows.workspace.outcome import FlowOutcome
from flows.workspace.workspace import open_workspace

Pages = Literal["on_change", "always", "never"]


@operation("compare {model} as of {time}")
def comparison(
    usecase: str | None = None,
    as_of: datetime | None = None,
    html: Pages = "on_change",
) -> FlowOutcome:
    """Compare challenger and champion on the same matured events and store a verdict.

    The frozen plan decides. After the verdict ``keep`` the challenger leaves shadow.

    Args:
        usecase: Name of a built-in use case or path of a TOML file. Empty takes the installation's.
        as_of: Business time of the comparison; nothing later is looked at. Empty takes now.
        html: When a page is written: when the verdict changed or promotes, always, or never.
    """
    workspace = open_workspace(usecase)
    with record_run(workspace, "comparison", as_of) as run:
        # Whoever waits enters shadow now if the process that should have seen to it died.
        context = workspace.release_context()
        appoint_next_candidate(context, workspace.request("", run.as_of))
        pair = compared_models(workspace.store, workspace.registry, workspace.usecase, workspace.model, run.as_of)
        last_report = workspace.store.reports.latest(workspace.usecase.name, "comparison", challenger=pair.challenger)
        result = compare(workspace.store, workspace.usecase, workspace.evidence, pair, run.as_of, workspace.actor)
        outcome = result.verdict.outcome
        changed = result.result.days > 0 and (last_report is None or last_report.outcome != outcome)
        page = write_comparison_page(workspace, result) if page_wanted(html, outcome, changed) else None
        run.keep("comparison", outcome, result.to_json(), model=pair.champion, challenger=pair.challenger, html=page)
        record_verdict(workspace.store, workspace.usecase, result, run.as_of, workspace.actor)
        retirement = retire_challenger(context, result, workspace.request("", run.as_of))
        return run.conclude(comparison_view(result, run.as_of, page, retired=retirement))


def page_wanted(html: Pages, outcome: str, changed: bool) -> bool:
    """Whether a comparison writes its page.

    A verdict to promote always has one unless pages are off: whoever is asked to approve, a second time too,
    must see the evidence of that very day.
    """
    return html == "always" or (html == "on_change" and (changed or outcome == "promote"))
