"""Grafana's dashboards from ``boards.toml``: ``python -m monitoring.grafana`` writes the JSON.

A panel is a title, what it tells, queries, a unit and thresholds; the rest is Grafana's form of it. A test
keeps the two in step and asks a real Prometheus every query.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

_HERE: Final = Path(__file__).resolve().parent
SOURCE_FILE: Final = _HERE / "boards.toml"
FOLDER: Final = _HERE / "dashboards"
SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
COLUMNS: Final = 24
SCOPE_METRIC: Final = "incumbent_exporter_part_readable"
"""Has a series for each use case of each environment."""


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An expression and the text of its legend."""

    expr: str
    legend: str


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from"}):
    """The value from which a colour holds."""

    start: float
    color: str


class Heat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A heat map with a row for each series, rather than for each bucket of a histogram.

    Attributes:
        full: value of the hottest colour; 0 is the coldest.
        step: time that a column stands for.
        span: time that the panel shows, whatever the dashboard's.
        value: what a cell tells.
    """

    full: float
    step: str
    span: str
    value: str


class Panel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One panel.

    Attributes:
        title, about: what it shows, and how to read it.
        unit: Grafana's name of the unit.
        queries: what is drawn.
        steps: thresholds after green.
        kind: Grafana's name of the form.
        width: of 24 columns.
        heat: how the rows of a heat map are drawn; none draws the buckets of a histogram.
        repeat: variable for each of whose values the panel is drawn, where its figures must not be added up.
    """

    title: str
    about: str
    unit: str
    queries: list[Query]
    steps: list[Step]
    kind: str = "timeseries"
    width: int = 8
    heat: Heat | None = None
    repeat: str = ""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A heading with its panels."""

    heading: str
    panel: list[Panel]


class Dashboard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One dashboard."""

    uid: str
    title: str
    about: str
    row: list[Row]


class _Boards(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    board: list[Dashboard]


def read_dashboards(file: Path = SOURCE_FILE) -> list[Dashboard]:
    """The dashboards that ``boards.toml`` describes.

    Raises:
        msgspec.ValidationError: the file says something else; the message names the place.
    """
    return msgspec.toml.decode(file.read_bytes(), type=_Boards).board


def render_dashboard(board: Dashboard) -> dict[str, Any]:
    """Grafana's JSON of a dashboard; ids count from 1, panels flow from left to right."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in board.row:
        position = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": row.heading, "gridPos": position, "panels": []})
        left, top = 0, top + 1
        for panel in row.panel:
            if left + panel.width > COLUMNS:
                left, top = 0, top + 8
            panels.append(_panel(panel, len(panels) + 1, left, top))
            left += panel.width
        top += 8
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["incumbent"],
        "timezone": "utc",
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [_environment(), _usecases()]},
        "panels": panels,
    }


def _panel(panel: Panel, number: int, left: int, top: int) -> dict[str, Any]:
    thresholds = [
        {"color": "green", "value": None},
        *({"color": step.color, "value": step.start} for step in panel.steps),
    ]
    colour_mode = {"mode": "thresholds"} if panel.kind in ("stat", "state-timeline") else {"mode": "palette-classic"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": 8},
        "targets": [
            {"refId": chr(65 + index), "expr": query.expr, "legendFormat": query.legend, "datasource": SOURCE}
            | ({"format": "time_series" if panel.heat else "heatmap"} if panel.kind == "heatmap" else {})
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "color": colour_mode,
                "thresholds": {"mode": "absolute", "steps": thresholds},
                "custom": {"thresholdsStyle": {"mode": "dashed"}} if panel.kind == "timeseries" else {},
            },
            "overrides": [],
        },
        "options": {} if panel.heat is None else _heat(panel.heat, panel.unit),
        **({} if panel.heat is None else {"interval": panel.heat.step, "timeFrom": panel.heat.span}),
        **({"repeat": panel.repeat, "repeatDirection": "h"} if panel.repeat else {}),
    }


def _heat(heat: Heat, unit: str) -> dict[str, Any]:
    """Grafana's options of a heat map whose rows are series. It knows no thresholds, so its colours have a range."""
    colours = {"mode": "scheme", "scheme": "RdYlGn", "reverse": True, "steps": 64, "min": 0, "max": heat.full}
    return {
        "calculate": False,
        "color": colours,
        "cellGap": 2,
        "cellValues": {"unit": unit, "decimals": 2},
        "filterValues": {"le": -1},  # Grafana would hide zero, which is the good news
        "rowsFrame": {"layout": "auto", "value": heat.value},
        "yAxis": {"axisPlacement": "left"},
        "legend": {"show": True},
        "tooltip": {"mode": "single"},
    }


def _environment() -> dict[str, Any]:
    """One at a time: figures of two environments never belong together."""
    return _variable("env", "Environment", f"label_values({SCOPE_METRIC}, env)") | {"multi": False, "includeAll": False}


def _usecases() -> dict[str, Any]:
    selection = {"includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "multi": True}
    return _variable("usecase", "Use case", f'label_values({SCOPE_METRIC}{{env=~"$env"}}, usecase)') | selection


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "label": label,
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
    }


def write_dashboards(folder: Path = FOLDER) -> list[Path]:
    """Write every dashboard; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for board in read_dashboards():
        file = folder / f"{board.uid.removeprefix('incumbent-')}.json"
        file.write_text(json.dumps(render_dashboard(board), indent=1) + "\n", encoding="utf-8")
        files.append(file)
    return files


if __name__ == "__main__":
    for written in write_dashboards():
        print(written)  # noqa: T201  # a command talks to people
