"""What a person, a file or a client wrote is shown as text on every page, never run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.steps.onboarding.profile_page import write_profile
from flows.steps.onboarding.profile_table import guess_table
from flows.steps.reports.complaint_page import EventPage, write_event_page
from flows.steps.reports.overview import Overview, OverviewLine, write_overview
from monitoring.comparison.judge import judge_comparison
from monitoring.comparison.paired import PairedResult
from monitoring.core.measured import Measurement
from monitoring.core.verdict import Check, Verdict
from monitoring.policies import CostModel
from monitoring.policies.promotion import PromotionPolicy
from monitoring.reports import drift_sections
from monitoring.reports.dossier import Dossier, ModelFacts, write_dossier
from monitoring.reports.drift_header import DriftHeading, drift_header
from monitoring.reports.html import write_comparison_report, write_page
from monitoring.reports.render import note, section, subtitle, table
from monitoring.reports.svg_charts import ChartLine as Series
from monitoring.reports.svg_charts import bar_chart, line_chart
from tests.support.comparing import compare_paired
from tests.support.vectors import DAYS
from tests.unit.monitoring.comparison.test_paired import AS_OF, table_of

ROOMS = [
    next(f for f in Path(__file__).parents if (f / "pyproject.toml").exists()) / r for r in ("flows", "monitoring")
]
EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
AT = datetime(2026, 3, 1, tzinfo=UTC)


def compared() -> tuple[PairedResult, Verdict]:
    rows = table_of(np.tile(DAYS.T, (3, 1)), negatives=150)
    names: dict[str, Any] = {"champion": f"{EVIL}/1", "challenger": f"{EVIL}/2", "as_of": AS_OF, "repetitions": 50}
    result = compare_paired(rows, CostModel(), PromotionPolicy(), **names)
    return result, replace(judge_comparison(result, PromotionPolicy()), plan_hash=EVIL, reasons=(EVIL,))


def comparison(folder: Path) -> Path:
    return write_comparison_report(folder / "page.html", *compared(), warnings=[EVIL])


def dossier(folder: Path) -> Path:
    facts = ModelFacts(EVIL, EVIL, {EVIL: EVIL}, Measurement(0.1), (EVIL, "amount"), EVIL)
    check, fair = Check(EVIL, 0.1, 0.2, 0.1, "PASS", EVIL), Check("fairness" + EVIL, 0.1, 0.2, 0.1, "FAIL", EVIL)
    file = Dossier(
        facts, replace(facts, features=("other" + EVIL,)), gates=(check, fair), drift=((EVIL, EVIL),),
        fairness=((EVIL, EVIL, EVIL, EVIL),), latency={EVIL: 1.0}, approval=EVIL, decision=EVIL,
        made_with={EVIL: EVIL}, notes=(EVIL,),
    )  # fmt: skip
    return write_dossier(folder / "page.html", *compared(), file, warnings=[EVIL])


def drift(folder: Path) -> Path:
    parts = [
        drift_sections.attribution_section(0.5, 10, [(EVIL, 0.1, 0.2)]),
        section(EVIL, EVIL, note(EVIL), subtitle(EVIL)),
        table([EVIL], [[EVIL]], classed=0), line_chart([Series(EVIL, [0.0, 1.0])], [EVIL, EVIL]),
        bar_chart([(EVIL[:20], 1.0, 2.0)], (EVIL, EVIL)),
    ]  # fmt: skip
    return write_page(folder / "page.html", EVIL, drift_header(DriftHeading(EVIL, sections=parts), {}, [EVIL], (1, 1)))


def event(folder: Path) -> Path:
    facts: dict[str, Any] = {EVIL: EVIL}
    reason = {"feature": EVIL, "value": 1.0, "level": EVIL, "direction": EVIL, "contribution": 0.1}
    page = EventPage(
        {"event_id": EVIL, "decision": EVIL}, facts, {"reasons": [reason]}, facts, facts, facts,
        {"identical": False, EVIL: EVIL}, [{"source": EVIL, "y": 1, "observed_at": EVIL}],
    )  # fmt: skip
    return write_event_page(folder / "page.html", page)


def status(folder: Path) -> Path:
    class _Standing:
        model = EVIL

    lines = (OverviewLine(EVIL, EVIL, EVIL),)
    return write_overview(folder / "page.html", Overview(AT, _Standing(), lines))  # type: ignore[arg-type]


def profile(folder: Path) -> Path:
    rows = pd.DataFrame({"id": [f"{n}" for n in range(60)], EVIL: [EVIL, "b", "c"] * 20, "target": ["0", "1"] * 30})
    return write_profile(folder / "page.html", EVIL, guess_table([rows], "target"), rows, [EVIL])


@pytest.mark.parametrize("write", [comparison, dossier, drift, event, status, profile], ids=lambda w: w.__name__)
def test_no_value_on_a_page_becomes_a_tag_or_an_attribute(write: Callable[[Path], Path], tmp_path: Path) -> None:
    html = write(tmp_path).read_text(encoding="utf-8")
    assert html.count("&lt;script&gt;") >= 3
    assert "<script>alert" not in html
    assert "<img" not in html


def test_no_template_switches_escaping_off_and_no_module_writes_tags() -> None:
    templates = [path for room in ROOMS for path in room.rglob("templates/*.html")]
    assert len(templates) > 10
    assert [path.name for path in templates if re.search(r"\|\s*safe|autoescape", path.read_text("utf-8"))] == []
    tag = re.compile(r"f?[\"'](?:[^\"'\n]*)<(?:p|h[1-6]|table|t[rdh]|main|section|ul|li|span|div|svg|rect|text)[ >]")
    modules = [path for room in ROOMS for path in room.rglob("*.py")]
    found = {path.name for path in modules if tag.search(path.read_text("utf-8"))}
    # One looks for a server's list of files, the other gives a drawing the name that it needs outside of a page.
    assert found <= {"doors.py", "artifacts.py"}
