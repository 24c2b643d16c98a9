"""One page for whoever comes in the morning: who is in office, how it goes, and what to do next."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from bentos.serving.role_watcher import REPAIR
from bentos.settings import Settings
from flows.stack.state_file import PartState, read_state
from flows.steps.reports.status import Standing, standing
from monitoring.reports.html import number, write_page
from monitoring.reports.render import render

if TYPE_CHECKING:
    from flows.workspace.workspace import House
    from monitoring.store import OpenAlert, Report


@dataclass(frozen=True)
class Line:
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
    standing: Standing
    lines: tuple[Line, ...]
    alerts: tuple[OpenAlert, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return self.standing.to_json() | {
            "as_of": self.as_of.isoformat(),
            "lines": [asdict(line) for line in self.lines],
            "alerts_today": [alert.to_json() for alert in self.alerts],
        }


def overview(house: House, as_of: datetime) -> Overview:
    """Look everything up; nothing is computed and nothing changed but the price of a miss for the view."""
    from bentos.usecase.definition import stakes_of

    store, usecase = house.store, house.usecase
    found = standing(store, house.registry, usecase, house.model, as_of)
    store.alerts.price(usecase.name, *stakes_of(usecase))
    reports = {k: store.reports.latest(usecase.name, k, as_of=as_of) for k in ("drift", "comparison", "retraining")}
    alerts = () if found.past else tuple(store.alerts.open(usecase.name, 10))
    lines = [
        *_office(house, found, as_of),
        *_challenger(found, reports["comparison"]),
        *_drift(reports["drift"]),
        *_performance(reports["drift"]),
        _labels(house, as_of),
        _retraining(reports["retraining"]),
        *_served(found),
        *([] if found.past else _of_now(house, found, alerts)),
    ]
    if found.past:  # nobody can do anything on a past day
        lines = [*(replace(line, next="") for line in lines), _LEFT_OUT]
    return Overview(as_of, found, tuple(lines), alerts)


_LEFT_OUT = Line("now", "replicas, routing, runs and open alerts are of today and left out here", "incumbent status")


def _of_now(house: House, found: Standing, alerts: tuple[OpenAlert, ...]) -> list[Line]:
    """What is known of the present only."""
    firing = [Line("alert", text, "see docs/how-to/runbook.md") for text in firing_alerts(house.settings)]
    return [_open_alerts(house, alerts), *_runs(found), *firing, *process_lines(house.settings.root)]


def process_lines(root: Path) -> list[Line]:
    """The processes of the stack that is up in a home, one line each; none where no stack is."""
    state = read_state(root / "run" / "stack.json")
    if state is None or not (state.supervisor.alive or any(part.alive for part in state.parts.values())):
        return []
    lines = [_process(name, part) for name, part in state.parts.items()]
    if not state.supervisor.alive:
        text = f"the supervisor (process {state.supervisor.pid}) is gone: nothing restarts a part that ends"
        lines.append(Line("supervisor", text, "incumbent up --detach (goes on with the parts that live)"))
    return lines


def _process(name: str, part: PartState) -> Line:
    since = f" since {part.since:%Y-%m-%d %H:%M}" if part.since else ""
    text = f"{part.state.replace('_', ' ')}{since}"
    if part.pid is not None and not part.alive:
        text = "ended"
    if part.restarts:
        text += f", started again {part.restarts} times" if part.restarts > 1 else ", started again once"
    if part.ended:
        text += f"; it {part.ended}"
    return Line(
        name, text, f"look at {part.log}, then: incumbent down, incumbent up" if part.state == "given_up" else ""
    )


def text_of(found: Overview, width: int = 100) -> str:
    """The lines for a terminal, folded; what to do next stands below each."""
    names = max(len(line.name) for line in found.lines) + 2
    fold = textwrap.TextWrapper(width, subsequent_indent=" " * names)
    parts = []
    for line in found.lines:
        parts.append(fold.fill(f"{line.name:<{names}}{line.text}"))
        if line.next:
            parts.append(fold.fill(f"{'':<{names}}-> {line.next}"))
    return "\n".join(parts)


def write_overview(path: Path, found: Overview) -> Path:
    """The page as HTML, in one step; returns ``path``."""
    alerts = [
        (str(a.place), a.event_id, f"{a.event_time:%Y-%m-%d %H:%M}", number(a.score), number(a.expected_loss))
        for a in found.alerts or ()
    ]
    lines = [(line.name, line.text, line.next) for line in found.lines]
    body = render("status.html", model=found.standing.model, as_of=found.as_of, lines=lines, alerts=alerts)
    return write_page(path, f"{found.standing.model}: status", body)


def _office(house: House, found: Standing, as_of: datetime) -> list[Line]:
    lines = []
    for role, held in found.roles.items():
        decided = _decided(house, role, str(held["version"]), as_of)
        since = "" if held["since"] is None else f" since {held['since']:%Y-%m-%d %H:%M}"
        text, after = f"version {held['version']}{since}{decided}", _NEXT_OF_ROLE.get(role, "")
        if "lost" in held:
            copy = "; its verified copy answers" if role == "champion" else ""
            text, after = f"{text}; the registry has lost it{copy}", REPAIR
        lines.append(Line(f"@{role}", text, after))
    if house.registry.experiment_deleted(found.model):
        lines.append(Line("MLflow experiment", f"{found.model} was deleted: nothing can be trained", REPAIR))
    if "champion" not in found.roles and house.usecase.incumbent is None:
        lines.insert(0, Line("office", "vacant", "train a first model: incumbent train"))
    return lines


_NEXT_OF_ROLE = {
    "champion": "if it harms: incumbent rollback --reason ...",
    "candidate": "waits for its turn; it follows the verdict on the challenger",
    "previous": "the way back",
}


def _decided(house: House, role: str, version: str, as_of: datetime) -> str:
    """By which decision a version holds a role."""
    terms = house.store.decisions.terms(house.model, role)
    held = [seq for found, at, seq in terms if found == version and at <= as_of]
    if not held:
        return ", set by hand"
    rows = house.store.decisions.list(house.usecase.name, after=held[-1] - 1, limit=None)
    line = next((row for row in rows if row.seq == held[-1]), None)
    return "" if line is None else f", by {line.kind} #{line.seq} ({line.actor})"


def _challenger(found: Standing, report: Report | None) -> list[Line]:
    held = found.roles.get("challenger")
    if held is None:
        return []
    label = f"{found.model}/{held['version']}"
    if report is None or report.challenger != label:
        return [Line("comparison", f"{label} has not been compared yet", "incumbent compare")]
    verdict, result = report.payload["verdict"], report.payload["result"]
    saving = result["saving"]
    text = f"{report.outcome.replace('_', ' ')} as of {report.as_of:%Y-%m-%d}: {result['days']} matured days"
    if saving.get("mean") is not None:
        text += f", saves {number(saving['mean'])} {result['currency']} a day"
        text += f" ({number(saving['low'])} to {number(saving['high'])})" if saving["low"] is not None else ""
        text += f", log e-value {saving['log_e']:.2f}" if saving.get("log_e") is not None else ""
    left = verdict.get("days_needed")
    then = {
        "promote": "incumbent promote --reason ...",
        "keep": "the challenger leaves shadow; look at the dossier",
        "keep_watching": "wait" if left is None else f"wait, about {left} matured days more",
    }
    return [Line("comparison", text, then.get(report.outcome, ""))]


def _drift(report: Report | None) -> list[Line]:
    if report is None:
        return [Line("drift", "never checked", "incumbent drift, or switch the deployment's schedule on")]
    alarm = report.payload.get("alarm") or {}
    named = ", ".join(alarm.get("features", ()))
    text = f"{report.outcome.replace('_', ' ')} as of {report.as_of:%Y-%m-%d %H:%M}{f': {named}' if named else ''}"
    return [Line("drift", text, _NEXT_OF_DRIFT.get(report.outcome, ""))]


_NEXT_OF_DRIFT = {
    "warning": "watch the next checks",
    "severe": "find the cause; incumbent retrain says whether to train",
    "insufficient_data": "too few rows in the window; look at the traffic",
}


def _performance(report: Report | None) -> list[Line]:
    """Matured figures and labels, as the newest drift check found them."""
    if report is None:
        return []
    found, quality = report.payload.get("performance"), report.payload.get("quality") or {}
    lines = []
    if not found:
        lines.append(Line("performance", "no day has matured", "incumbent labels status"))
    else:
        metrics = found["metrics"]
        shown = [f"{name.replace('_', ' ')} {_interval(metrics[name])}" for name in _SHOWN if name in metrics]
        text = f"{', '.join(shown)} on {found['rows']:,} matured rows, {found['positives']:,} positive"
        lines.append(Line("performance", text, ""))
    concept = (report.payload.get("aftermath") or {}).get("concept")
    if concept and concept["lost"]:
        lines.append(Line("concept drift", "matured performance is lost", "incumbent retrain"))
    fresh = quality.get("freshness", {}).get("status")
    if fresh is not None:
        lines.append(Line("events", fresh, "" if fresh == "fresh" else "no new event: look at the clients"))
    return lines


_SHOWN = ("recall", "precision", "average_precision", "cost")


def _interval(figure: dict[str, Any]) -> str:
    value, low, high = (figure.get(name) for name in ("value", "low", "high"))
    if low is None or high is None:
        return number(value)
    return f"{number(value)} ({number(low)} to {number(high)})"


def _labels(house: House, as_of: datetime) -> Line:
    """Up to which day labels are final, and when the newest one became known."""
    usecase = house.usecase
    settled = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    newest = house.store.labels.newest(usecase.name, as_of)
    told = "no label has come" if newest is None else f"the newest label is of {newest:%Y-%m-%d %H:%M}"
    late = newest is None or as_of - newest > usecase.label.matures_after
    then = "no label for longer than they take to mature: look at the import" if late else "incumbent labels status"
    return Line("labels", f"days before {settled:%Y-%m-%d} have matured; {told}", then)


def _retraining(report: Report | None) -> Line:
    if report is None:
        return Line("retraining", "never asked", "incumbent retrain")
    reasons = report.payload.get("blocked_by") or report.payload.get("reasons") or ()
    text = f"{report.outcome} as of {report.as_of:%Y-%m-%d %H:%M}{': ' + '; '.join(reasons) if reasons else ''}"
    return Line("retraining", text, "")


def _served(found: Standing) -> list[Line]:
    """Replicas, routing and log, as the standing words them."""
    others = {f"@{role}" for role in found.roles} | {
        "office",
        *found.reports,
        *(f"run {r['flow']}" for r in found.runs),
    }
    kept = [(name, text) for name, text in found.lines() if name not in others]
    lines = [Line(name, text, "incumbent canary status" if name == "routing" else "") for name, text in kept]
    if not found.replicas and not found.past:
        lines.append(Line("replicas", "none was heard of lately", "incumbent serve, or incumbent up"))
    return lines


def _open_alerts(house: House, alerts: tuple[OpenAlert, ...]) -> Line:
    count, loss = house.store.alerts.total(house.usecase.name)
    capacity = house.usecase.capacity.alerts_per_day
    of = "" if capacity is None else f" of {capacity:,} a day"
    text = f"{count:,} open{of}, expected loss {number(loss)} {house.usecase.cost.currency}"
    return Line("alerts today", text, "incumbent alerts" if alerts else "")


def _runs(found: Standing) -> list[Line]:
    lines = []
    for run in found.runs:
        text = shorten(f"{run['state']} {run['message']}", 400, placeholder=" ...")
        lines.append(Line(f"run {run['flow']}", text, "see its logs" if run["state"] == "failed" else ""))
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
        answer = httpx.get(f"{settings.prometheus_url.rstrip('/')}/api/v1/alerts", timeout=seconds)
        answer.raise_for_status()
        alerts = answer.json()["data"]["alerts"]
    except (httpx.HTTPError, ValueError, KeyError) as exc:
        return (f"Prometheus was not heard ({type(exc).__name__}): whether an alert fires is not known",)
    firing = [alert for alert in alerts if alert.get("state") == "firing"]
    names = {alert["labels"].get("alertname", "") for alert in firing}
    said = [
        f"{alert['labels'].get('alertname', '')} ({alert['labels'].get('severity', 'none')}): "
        f"{alert.get('annotations', {}).get('summary', '')}".rstrip(": ")
        for alert in firing
        if alert["labels"].get("alertname") != "Watchdog"
    ]
    return (*said, *(() if "Watchdog" in names else ("the watchdog does not fire: alerts may not be evaluated",)))
