from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.settings import read_settings
from flows.commands.common import format_outcome
from flows.runs.artifacts import emit, publish, summary_of
from flows.runs.links import report_link, report_place
from flows.workspace.outcome import FlowOutcome
from flows.workspace.progress import progress, report_step
from monitoring.core.verdict import Check

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
CHECK = Check("recall", 0.8, 0.5, 0.3, "PASS", "on the test window")


def outcome(**changes: object) -> FlowOutcome:
    values: dict[str, object] = {
        "flow": "drift",
        "status": "done",
        "summary": "drift severe: amount",
        "as_of": AS_OF,
        "data": {"rows": 3},
        "checks": (CHECK,),
        "figures": [("share", 0.25), ("text", "a|b")],
    }
    return FlowOutcome(**values | changes)  # type: ignore[arg-type]  # the values above


def test_an_outcome_is_plain_json_for_machines() -> None:
    found = json.loads(json.dumps(outcome(report=Path("/r/page.html")).to_json()))
    assert found["flow"] == "drift"
    assert found["rows"] == 3
    assert found["as_of"] == "2026-03-01T00:00:00+00:00"
    assert found["report"] == "/r/page.html"


def test_people_see_the_sentence_the_figures_and_the_checks() -> None:
    text = format_outcome(outcome())
    assert text.startswith("drift severe: amount\n")
    assert "recall" in text
    assert "0.25" in text


def test_the_markdown_summary_escapes_what_would_break_its_table() -> None:
    text = summary_of(outcome())
    assert "# Drift: done" in text
    assert "| text | a\\|b |" in text


def test_what_decides_comes_first_and_the_appendix_is_marked_everywhere() -> None:
    found = outcome(appendix=[("McNemar mid-p", 0.01)])
    for text in (format_outcome(found), summary_of(found)):
        assert text.index("recall") < text.index("not used in the decision") < text.index("McNemar")


def test_nothing_is_published_outside_a_prefect_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.runs.artifacts.create_markdown_artifact", lambda *_, **__: pytest.fail("published"))
    publish(outcome(), read_settings(), "fraud")


def test_no_event_is_sent_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("flows.runs.artifacts.emit_event", lambda **_: pytest.fail("sent"))
    assert emit("dev.model.drift.detected", "model.dev-fraud", {}) is False


def test_a_report_link_opens_over_http_where_the_folder_is_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = read_settings(home=tmp_path)
    page = settings.reports / "drift" / "a page.html"
    monkeypatch.setenv("INCUMBENT_REPORTS_URL", "http://reports.example:8900/")
    assert report_link(page, settings) == "http://reports.example:8900/drift/a%20page.html"
    assert report_place(page, settings) == report_link(page, settings)
    assert report_link(tmp_path / "elsewhere.html", settings) is None
    monkeypatch.delenv("INCUMBENT_REPORTS_URL")
    assert report_link(page, settings) is None
    assert report_place(page, settings) == f"`{page}`"


def test_a_bar_without_a_terminal_is_a_few_lines_on_its_stream() -> None:
    stream = io.StringIO()
    with progress("history", 2, stream) as bar:
        bar(1, 2)
        bar.say("half")
        bar.tell("a line that stays")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "history: started"
    assert "a line that stays" in lines
    assert lines[-1].startswith("history: done in ")


def test_steps_are_told_to_the_bar_that_is_shown_and_to_nobody_else() -> None:
    report_step("nobody watches", 0, 1)
    seen: list[str] = []

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return False

    with progress("training", None, Stream()) as bar:
        bar.say = seen.append  # type: ignore[method-assign]  # what the bar would show
        report_step("fit", 1, 3)
    assert seen == ["fit"]
