"""What a run leaves in the Prefect UI: a summary, a table of checks, a link to its report.

Outside a Prefect run (the command line, a test) these functions do nothing.
"""

from __future__ import annotations

import base64
import logging
import os
from typing import Any

import httpx
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from prefect.events import emit_event

from bentos.settings import Settings
from flows.runs.links import mlflow_link, report_link
from flows.workspace.outcome import FlowOutcome, Picture
from monitoring.core.verdict import Check

log = logging.getLogger("incumbent.flows")


def publish(outcome: FlowOutcome, settings: Settings, usecase: str) -> None:
    """Make the artifacts of one run; each kind has one key, so the UI shows its history."""
    if FlowRunContext.get() is None:
        return
    try:
        _publish(outcome, settings, usecase)
    except httpx.HTTPError as exc:  # what the run did is done and kept; a server that is away must not undo that
        log.warning("the Prefect server took no summary: %s", type(exc).__name__)


def _publish(outcome: FlowOutcome, settings: Settings, usecase: str) -> None:
    key = settings.deployment_name(usecase, outcome.flow).replace("_", "-").lower()
    link = None if outcome.report is None else report_link(outcome.report, settings)
    text = summary_of(outcome)
    if outcome.report is not None and link is None:  # a browser opens no path of another machine
        text += f"\nReport, on the machine of the worker: `{outcome.report}`\n"
    if run_id := outcome.data.get("mlflow_run"):
        text += _publish_mlflow_run(str(run_id), key, settings)
    create_markdown_artifact(text, key=f"{key}-summary", description=outcome.summary)
    if outcome.checks:
        rows = [_row(check) for check in outcome.checks]
        create_table_artifact(rows, key=f"{key}-checks", description=f"Checks of {outcome.flow}")
    if outcome.report is not None and link is not None:
        create_link_artifact(link, link_text=outcome.report.name, key=f"{key}-report", description="HTML report")


def _publish_mlflow_run(run_id: str, key: str, settings: Settings) -> str:
    """Link the MLflow run; where no server shows it, the sentence that says how to open it."""
    link = mlflow_link(run_id, settings)
    if link is None:
        return f"\nMLflow run `{run_id}`: start `incumbent mlflow`, then open `http://127.0.0.1:5000/#/runs/{run_id}`\n"
    create_link_artifact(link, link_text=f"MLflow run {run_id}", key=f"{key}-mlflow", description="MLflow run")
    return f"\nMLflow run: [{run_id}]({link})\n"


def emit(name: str, resource: str, payload: dict[str, Any]) -> bool:
    """Send an event to the Prefect server that this process knows; whether there is one."""
    if not os.environ.get("PREFECT_API_URL"):
        return False  # the client would start a server of its own for one event
    return emit_event(event=name, resource={"prefect.resource.id": resource}, payload=payload) is not None


def summary_of(outcome: FlowOutcome) -> str:
    """The run as Markdown."""
    lines = [
        f"# {outcome.flow.capitalize()}: {outcome.status.replace('_', ' ')}",
        "",
        outcome.summary,
        "",
        *_image(outcome.picture),
        f"Business time: `{outcome.as_of.isoformat()}`",
    ]
    if outcome.figures:
        lines += ["", "| figure | value |", "|---|---|"]
        lines += [f"| {name} | {_cell(value)} |" for name, value in outcome.figures]
    if outcome.checks and outcome.appendix:
        lines += ["", "## What decides", "", "| check | value | limit | status | |", "|---|---|---|---|---|"]
        lines += [
            f"| {c.name} | {_cell(c.value)} | {_cell(c.threshold)} | {c.status} | {_cell(c.detail)} |"
            for c in outcome.checks
        ]
    if outcome.appendix:
        lines += ["", "## Appendix: not used in the decision", "", "| figure | value |", "|---|---|"]
        lines += [f"| {name} | {_cell(value)} |" for name, value in outcome.appendix]
    return "\n".join(lines) + "\n"


def _image(picture: Picture | None) -> list[str]:
    """A picture as Markdown that needs no file beside it; a legend in HTML behind the drawing would not be shown.

    It has a ground of its own: the pages of Prefect may be dark, and its words are black.
    """
    if picture is None or "</svg>" not in picture.svg:
        return []
    svg = str(picture.svg)  # what a template returns would escape what is put in
    drawing = svg[svg.index("<svg") : svg.index("</svg>")] + "</svg>"
    ground = '<svg xmlns="http://www.w3.org/2000/svg" font-size="11" style="background:#fff" '
    drawing = drawing.replace("<svg ", ground, 1)
    data = base64.b64encode(drawing.encode()).decode()
    return [f"![{picture.title}](data:image/svg+xml;base64,{data})", "", f"*{picture.title}*", ""]


def _row(check: Check) -> dict[str, Any]:
    return {
        "check": check.name,
        "value": check.value,
        "limit": check.threshold,
        "margin": check.margin,
        "status": check.status,
        "detail": check.detail,
    }


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")
