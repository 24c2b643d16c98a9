"""The summary of a run: the outcome first, then the picture, then figures; links that carry no login."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from bentos.settings import read_settings
from flows.runs.artifacts import summary_of
from flows.runs.links import mlflow_link
from flows.workspace.outcome import FlowOutcome, Picture
from monitoring.reports.svg_charts import ChartLine, line_chart

AT = datetime(2026, 5, 14, tzinfo=UTC)


def test_a_summary_opens_with_the_outcome_and_a_picture_that_is_an_svg_of_its_own() -> None:
    picture = Picture(
        "Cost at falling thresholds", line_chart([ChartLine("cost & more", [3.0, 1.0, 2.0])], ["a", "b", "c"])
    )
    text = summary_of(
        FlowOutcome("training", "done", "dev-fraud/1: gates pass", AT, figures=[("rows", 7)], picture=picture)
    )
    assert text.startswith(
        "# Training: done\n\ndev-fraud/1: gates pass\n\n![Cost at falling thresholds](data:image/svg+xml;"
    )
    (data,) = re.findall(r"base64,([A-Za-z0-9+/=]+)\)", text)
    drawing = ElementTree.fromstring(base64.b64decode(data))
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert drawing.find("{http://www.w3.org/2000/svg}polyline") is not None
    assert text.index("base64") < text.index("Business time") < text.index("| rows | 7 |")


def test_a_summary_without_anything_to_draw_has_no_image() -> None:
    nothing = Picture("Saving a day", line_chart([ChartLine("saving", [])], []))
    for picture in (None, nothing):
        assert "![" not in summary_of(FlowOutcome("drift", "done", "calm", AT, picture=picture))


def test_the_link_of_an_mlflow_run_opens_on_a_server_and_shows_no_login(tmp_path: Path) -> None:
    server = read_settings(home=tmp_path, mlflow_uri="https://ann:secret@mlflow.example:5000/base/")
    assert mlflow_link("0a1b", server) == "https://mlflow.example:5000/base/#/runs/0a1b"
    assert mlflow_link("0a1b", read_settings(home=tmp_path)) is None
