"""One page for whoever comes in the morning: who is active, how it goes, and what to do next."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from bentos.serving.role_watcher import REPAIR
from bentos.settings import Settings
from flows.stack.state_file import PartState, read_state
from flows.steps.reports.role_start import describe_role_start
from flows.steps.reports.status import ModelStatus, model_status
from monitoring.reports.html import format_number, write_page
from monitoring.reports.render import render

if TYPE_CHECKING:
    from flows.workspace.workspace import Workspace
    from monitoring.store import OpenAlert, Report


@dataclass(frozen=True)
class OverviewLine:
    """One line of the page: its name, what is so, and what to do next."""

    name: str
    text: str
    next: str = ""


@dataclass(frozen=True)
class Overview:
    """Everything on the page.

    Attributes:
        standing: roles, replicas, log, reports and runs.
        lines: what people read.
        alerts: open alerts that are worth most.
    """

    as_of: datetime
    standing: ModelStatus
    lines: tuple[OverviewLine, ...]
    alerts: tuple[OpenAlert, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return self.standing.to_json() | {
            "as_of": self.as_of.isoformat(),
            "lines": [asdict(line) for line in self.lines],
            "alerts_today": [alert.to_json() for alert in self.alerts],
        }


def build_overview(workspace: Workspace, as_of: datetime) -> Overview:
    """Look everything up; nothing is computed and nothing changed but the price of a miss for the view."""
    from bentos.usecase.definition import miss_cost_of

    store, usecase = workspace.store, workspace.usecase
    status = model_status(store, workspace.registry, usecase, workspace.model, as_of)
    store.alerts.price(usecase.name, *miss_cost_of(usecase))
    reports = {k: store.reports.latest(usecase.name, k, as_of=as_of) for k in ("drift", "comparison", "retraining")}
    alerts = () if status.past else tuple(store.alerts.open(usecase.name, 10))
    lines = [
        *_role_lines(workspace, status, as_of),
        *_challenger(status, reports["comparison"]),
        *_drift(reports["drift"]),
        *_performance(reports["drift"]),
        _labels(workspace, as_of),
        _retraining(reports["retraining"]),
        *_serving_lines(status),
        *([] if status.past else _present_lines(workspace, status, alerts)),
    ]
    if status.past:  # nobody can do anything on a past day
        lines = [*(replace(line, next="") for line in lines), _LEFT_OUT]
    return Overview(as_of, status, tuple(lines), alerts)


_LEFT_OUT = OverviewLine(
    "now", "replicas, routing, runs and open alerts are of today and left out here", "incumbent status"
)


def _present_lines(workspace: Workspace, status: ModelStatus, alerts: tuple[OpenAlert, ...]) -> list[OverviewLine]:
    """What is known of the present only."""
    firing = [OverviewLine("alert", text, "see docs/how-to/runbook.md") for text in firing_alerts(workspace.settings)]
    return [_open_alerts(workspace, alerts), *_runs(status), *firing, *process_lines(workspace.settings.root)]


def process_lines(root: Path) -> list[OverviewLine]:
    """The processes of the stack that is up in a home, one line each; none where no stack is."""
    state = read_state(root / "run" / "stack.json")
    if state is None or not (state.supervisor.alive or any(part.alive for part in state.parts.values())):
        return []
    lines = [_process(name, part) for name, part in state.parts.items()]
    if not state.supervisor.alive:
        text = f"the supervisor (process {state.supervisor.pid}) is gone: nothing restarts a part that ends"
        lines.append(OverviewLine("supervisor", text, "incumbent up --detach (goes on with the parts that live)"))
    return lines


def _process(name: str, part: PartState) -> OverviewLine:
    since = f" since {part.since:%Y-%m-%d %H:%M}" if part.since else ""
    text = f"{part.state.replace('_', ' ')}{since}"
    if part.pid is not None and not part.alive:
        text = "ended"
    if part.restarts:
        text += f", started again {part.restarts} times" if part.restarts > 1 else ", started again once"
    if part.ended:
        text += f"; it {part.ended}"
    return OverviewLine(
        name, text, f"look at {part.log}, then: incumbent down, incumbent up" if part.state == "given_up" else ""
    )


def text_of(page: Overview, width: int = 100) -> str:
    """The lines for a terminal, folded; what to do next stands below each."""
    names = max(len(line.name) for line in page.lines) + 2
    wrapper = textwrap.TextWrapper(width, subsequent_indent=" " * names)
    parts = []
    for line in page.lines:
        parts.append(wrapper.fill(f"{line.name:<{names}}{line.text}"))
        if line.next:
            parts.append(wrapper.fill(f"{'':<{names}}-> {line.next}"))
    return "\n".join(parts)


def write_overview(path: Path, page: Overview) -> Path:
    """The page as HTML, in one step; returns ``path``."""
    alerts = [
        (
            str(a.place),
            a.event_id,
            f"{a.event_time:%Y-%m-%d %H:%M}",
            format_number(a.score),
            format_number(a.expected_loss),
        )
        for a in page.alerts or ()
    ]
    lines = [(line.name, line.text, line.next) for line in page.lines]
    body = render("status.html", model=page.standing.model, as_of=page.as_of, lines=lines, alerts=alerts)
    return write_page(path, f"{page.standing.model}: status", body)


def _role_lines(workspace: Workspace, status: ModelStatus, as_of: datetime) -> list[OverviewLine]:
    lines = []
    for role, holder in status.roles.items():
        version = str(holder["version"])
        start = describe_role_start(workspace, role, version, as_of) or _start_by_hand(holder)
        text, next_step = f"version {version} {start}", _NEXT_OF_ROLE.get(role, "")
        if "lost" in holder:
            copy = "; its verified copy answers" if role == "champion" else ""
            text, next_step = f"{text}; the registry has lost it{copy}", REPAIR
        lines.append(OverviewLine(f"@{role}", text, next_step))
    if workspace.registry.experiment_deleted(status.model):
        lines.append(OverviewLine("MLflow experiment", f"{status.model} was deleted: nothing can be trained", REPAIR))
    if "champion" not in status.roles and workspace.usecase.incumbent is None:
        lines.insert(0, OverviewLine("champion", "vacant", "train a first model: incumbent train"))
    return lines


def _start_by_hand(holder: Mapping[str, Any]) -> str:
    since = "" if holder["since"] is None else f"since {holder['since']:%Y-%m-%d %H:%M}, "
    return f"{since}set by hand"


_NEXT_OF_ROLE = {
    "champion": "if it harms: incumbent rollback --reason ...",
    "candidate": "waits for its turn; it follows the verdict on the challenger",
    "previous": "the way back",
}


def _challenger(status: ModelStatus, report: Report | None) -> list[OverviewLine]:
    holder = status.roles.get("challenger")
    if holder is None:
        return []
    label = f"{status.model}/{holder['version']}"
    if report is None or report.challenger != label:
        return [OverviewLine("comparison", f"{label} has not been compared yet", "incumbent compare")]
    verdict, result = report.payload["verdict"], report.payload["result"]
    saving = result["saving"]
    text = f"{report.outcome.replace('_', ' ')} as of {report.as_of:%Y-%m-%d}: {result['days']} matured days"
    if saving.get("mean") is not None:
        text += f", saves {format_number(saving['mean'])} {result['currency']} a day"
        text += (
            f" ({format_number(saving['low'])} to {format_number(saving['high'])})" if saving["low"] is not None else ""
        )
        text += f", log e-value {saving['log_e']:.2f}" if saving.get("log_e") is not None else ""
    days_left = verdict.get("days_needed")
    next_steps = {
        "promote": "incumbent promote --reason ...",
        "keep": "the challenger leaves shadow; look at the dossier",
        "keep_watching": "wait" if days_left is None else f"wait, about {days_left} matured days more",
    }
    return [OverviewLine("comparison", text, next_steps.get(report.outcome, ""))]


def _drift(report: Report | None) -> list[OverviewLine]:
    if report is None:
        return [OverviewLine("drift", "never checked", "incumbent drift, or switch the deployment's schedule on")]
    alarm = report.payload.get("alarm") or {}
    feature_names = ", ".join(alarm.get("features", ()))
    suffix = f": {feature_names}" if feature_names else ""
    text = f"{report.outcome.replace('_', ' ')} as of {report.as_of:%Y-%m-%d %H:%M}{suffix}"
    return [OverviewLine("drift", text, _NEXT_OF_DRIFT.get(report.outcome, ""))]


_NEXT_OF_DRIFT = {
    "warning": "watch the next checks",
    "severe": "find the cause; incumbent retrain says whether to train",
    "insufficient_data": "too few rows in the window; look at the traffic",
}


def _performance(report: Report | None) -> list[OverviewLine]:
    """Matured figures and labels, as the newest drift check found them."""
    if report is None:
        return []
    performance, quality = report.payload.get("performance"), report.payload.get("quality") or {}
    lines = []
    if not performance:
        lines.append(OverviewLine("performance", "no day has matured", "incumbent labels status"))
    else:
        metrics = performance["metrics"]
        figures = [f"{name.replace('_', ' ')} {_interval(metrics[name])}" for name in _METRICS if name in metrics]
        text = f"{', '.join(figures)} on {performance['rows']:,} matured rows, {performance['positives']:,} positive"
        lines.append(OverviewLine("performance", text, ""))
    concept = (report.payload.get("aftermath") or {}).get("concept")
    if concept and concept["lost"]:
        lines.append(OverviewLine("concept drift", "matured performance is lost", "incumbent retrain"))
    freshness = quality.get("freshness", {}).get("status")
    if freshness is not None:
        lines.append(
            OverviewLine("events", freshness, "" if freshness == "fresh" else "no new event: look at the clients")
        )
    return lines


_METRICS = ("recall", "precision", "average_precision", "cost")


def _interval(figure: dict[str, Any]) -> str:
    value, low, high = (figure.get(name) for name in ("value", "low", "high"))
    if low is None or high is None:
        return format_number(value)
    return f"{format_number(value)} ({format_number(low)} to {format_number(high)})"


def _labels(workspace: Workspace, as_of: datetime) -> OverviewLine:
    """Up to which day labels are final, and when the newest one became known."""
    usecase = workspace.usecase
    matured_until = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    newest = workspace.store.labels.newest(usecase.name, as_of)
    newest_text = "no label has come" if newest is None else f"the newest label is of {newest:%Y-%m-%d %H:%M}"
    late = newest is None or as_of - newest > usecase.label.matures_after
    next_step = (
        "no label for longer than they take to mature: look at the import" if late else "incumbent labels status"
    )
    return OverviewLine("labels", f"days before {matured_until:%Y-%m-%d} have matured; {newest_text}", next_step)


def _retraining(report: Report | None) -> OverviewLine:
    if report is None:
        return OverviewLine("retraining", "never asked", "incumbent retrain")
    reasons = report.payload.get("blocked_by") or report.payload.get("reasons") or ()
    text = f"{report.outcome} as of {report.as_of:%Y-%m-%d %H:%M}{': ' + '; '.join(reasons) if reasons else ''}"
    return OverviewLine("retraining", text, "")


def _serving_lines(status: ModelStatus) -> list[OverviewLine]:
    """Replicas, routing and log, as the standing words them."""
    other_names = {f"@{role}" for role in status.roles} | {
        "champion",
        *status.reports,
        *(f"run {r['flow']}" for r in status.runs),
    }
    rows = [(name, text) for name, text in status.lines() if name not in other_names]
    lines = [OverviewLine(name, text, "incumbent canary status" if name == "routing" else "") for name, text in rows]
    if not status.replicas and not status.past:
        lines.append(OverviewLine("replicas", "none was heard of lately", "incumbent serve, or incumbent up"))
    return lines


def _open_alerts(workspace: Workspace, alerts: tuple[OpenAlert, ...]) -> OverviewLine:
    count, loss = workspace.store.alerts.total(workspace.usecase.name)
    capacity = workspace.usecase.capacity.alerts_per_day
    capacity_text = "" if capacity is None else f" of {capacity:,} a day"
    text = f"{count:,} open{capacity_text}, expected loss {format_number(loss)} {workspace.usecase.cost.currency}"
    return OverviewLine("alerts today", text, "incumbent alerts" if alerts else "")


def _runs(status: ModelStatus) -> list[OverviewLine]:
    lines = []
    for run in status.runs:
        text = shorten(f"{run['state']} {run['message']}", 400, placeholder=" ...")
        lines.append(OverviewLine(f"run {run['flow']}", text, "see its logs" if run["state"] == "failed" else ""))
    return lines


def firing_alerts(settings: Settings, seconds: float = 3.0) -> tuple[str, ...]:
    """Alerts that fire now, one sentence each; none without ``INCUMBENT_PROMETHEUS_URL``.

    A server that does not answer is a sentence of its own, for silence is no proof that all is well. The
    watchdog always fires and is left out; where it does not fire, that is said.
    """
    if not settings.prometheus_url:
        return ()
    import httpx

    try:
        response = httpx.get(f"{settings.prometheus_url.rstrip('/')}/api/v1/alerts", timeout=seconds)
        response.raise_for_status()
        alerts = response.json()["data"]["alerts"]
    except (httpx.HTTPError, ValueError, KeyError) as exc:
        return (f"Prometheus was not heard ({type(exc).__name__}): whether an alert fires is not known",)
    firing = [alert for alert in alerts if alert.get("state") == "firing"]
    names = {alert["labels"].get("alertname", "") for alert in firing}
    sentences = [
        f"{alert['labels'].get('alertname', '')} ({alert['labels'].get('severity', 'none')}): "
        f"{alert.get('annotations', {}).get('summary', '')}".rstrip(": ")
        for alert in firing
        if alert["labels"].get("alertname") != "Watchdog"
    ]
    return (*sentences, *(() if "Watchdog" in names else ("the watchdog does not fire: alerts may not be evaluated",)))
