"""The dossier in a real browser: nothing fails, the slider works offline, and paper has what it needs."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitoring.comparison.group_effects import compare_groups
from monitoring.comparison.judge import judge_comparison
from monitoring.core.measured import Measurement
from monitoring.core.verdict import Check
from monitoring.performance.capacity import capacity_curve
from monitoring.performance.cost import Prices
from monitoring.performance.cost_curve import CostCurve
from monitoring.policies import CostModel, FairnessPolicy
from monitoring.policies.promotion import PromotionPolicy
from monitoring.reports.dossier import Dossier, ModelFacts, write_dossier
from tests.support.comparing import compare_paired
from tests.support.processes.system import system_program
from tests.support.vectors import DAYS
from tests.unit.monitoring.comparison.test_paired import AS_OF, table_of

POLICY = PromotionPolicy()
FAIRNESS = FairnessPolicy(sensitive=("senior_citizen",))


def page(folder: Path, *, script: str = "") -> Path:
    """A dossier of three weeks, with everything on it; ``script`` runs after the page's own."""
    rows = table_of(np.tile(DAYS.T, (3, 1)), negatives=150)
    names = {"champion": "dev-fraud/1", "challenger": "dev-fraud/2", "as_of": AS_OF, "repetitions": 50}
    result = compare_paired(rows, CostModel(), POLICY, **names)  # type: ignore[arg-type]  # options of many types
    verdict = replace(judge_comparison(result, POLICY), plan_hash="ab" * 32)
    check = Check("average_precision", 0.61, 0.5, 0.11, "PASS", "interval .54 to .67")
    fair = Check("fairness_parity_region", 0.2, 0.1, -0.1, "FAIL", "north </script> against south")
    groups = rows.assign(senior_citizen=np.arange(len(rows)) % 3 == 0)
    dossier = Dossier(
        ModelFacts("dev-fraud/1", "1.0.0", {"data": "aa"}, Measurement(0.01, 0.005, 0.02), ("amount", "night")),
        ModelFacts("dev-fraud/2", "1.1.0", {"data": "bb"}, Measurement(0.03, 0.02, 0.05), ("amount", "risk_7d"),
                   curve=CostCurve((0.9, 0.04, 0.001), (500.0, 70.0, 140.0), (0, 12, 150), (0.0, 0.8, 1.0))),
        gates=(check, fair), drift=(("outcome", "severe"),),
        groups=compare_groups(groups, FAIRNESS, "dev-fraud/1", "dev-fraud/2"),
        capacity=capacity_curve(rows, Prices(100.0, 1.0), 20),
        latency={"one event": 0.7}, approval="maria approved this verdict.", decision="Promoted by ops: decision #9.",
    )  # fmt: skip
    path = write_dossier(folder / "dossier.html", result, verdict, dossier)
    if script:
        path.write_text(path.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"))
    return path


def browse(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What headless Chromium says of a page, its console included."""
    program = system_program("chromium", "chromium")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    profile = f"--user-data-dir={path.parent / 'profile'}"
    return subprocess.run(
        [*command, profile, *options, path.as_uri()], capture_output=True, text=True, timeout=600, check=True
    )


def test_a_dossier_holds_everything_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    html = page(tmp_path).read_text(encoding="utf-8")
    for part in (
        "What decides", "What changes", "Lineage", "Gates of the challenger", "Drift of the traffic", "Groups",
        "alerts a day against money", "Latency", "maria approved", "decision #9", "incumbent rollback", "ab" * 32,
        "added: risk_7d", "gone: night", "Cost of other thresholds", "in use",
    ):  # fmt: skip
        assert part in html, part
    assert not re.search(r"(src|href)=|url\(", html.replace("xmlns", ""))
    assert html.index("What decides") < html.index("not used in the decision") < html.index("What changes")
    assert "north </script>" not in html


def test_the_page_runs_without_an_error_and_the_slider_moves_the_figures(tmp_path: Path) -> None:
    move = "var s=document.getElementById('capacity-slider');s.value=0;s.dispatchEvent(new Event('input'));"
    there, moved = (browse(page(tmp_path / name, script=text), "--dump-dom") for name, text in (("a", ""), ("b", move)))
    for seen in (there, moved):
        assert "CONSOLE" not in seen.stderr, seen.stderr
    said = [re.search(r'id="capacity-alerts">([\d,]+)<', seen.stdout) for seen in (there, moved)]
    assert [found and found[1] for found in said] == ["20", "1"]
    readouts = [re.search(r'id="capacity-readout">(.*?)</table>', seen.stdout, re.S) for seen in (there, moved)]
    assert all(found is not None and found[1].count("<tr>") == 5 for found in readouts)
    assert len({found[1] for found in readouts if found is not None}) == 2


def test_a_console_error_would_be_seen(tmp_path: Path) -> None:
    assert "CONSOLE" in browse(page(tmp_path, script="missing.call()"), "--dump-dom").stderr


def test_the_page_can_be_seen_and_printed(tmp_path: Path) -> None:
    path = page(tmp_path)
    shot, paper = tmp_path / "dossier.png", tmp_path / "dossier.pdf"
    browse(path, "--window-size=1100,4000", f"--screenshot={shot}")
    assert shot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert shot.stat().st_size > 50_000
    browse(path, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    pages = len(re.findall(rb"/Type /Page\b", paper.read_bytes()))
    assert 3 <= pages <= 8, "what decides, the dossier and the appendix each begin a page"


def test_no_table_is_wider_than_the_page(tmp_path: Path) -> None:
    wide = "document.body.dataset.spare = innerWidth - document.documentElement.scrollWidth;"
    seen = browse(page(tmp_path, script=wide), "--window-size=1100,1000", "--dump-dom")
    found = re.search(r'data-spare="(-?\d+)"', seen.stdout)
    assert found is not None
    assert int(found[1]) >= 0


@pytest.mark.parametrize("missing", ["capacity", "gates", "drift", "latency"])
def test_what_is_not_known_is_said(tmp_path: Path, missing: str) -> None:
    rows = table_of(DAYS.T)
    result = compare_paired(
        rows, CostModel(), POLICY, champion="vendor/0", challenger="dev-fraud/2", as_of=AS_OF, repetitions=20
    )
    facts = ModelFacts("vendor/0", "external: a column of the event"), ModelFacts("dev-fraud/2")
    path = write_dossier(tmp_path / "d.html", result, judge_comparison(result, POLICY), Dossier(*facts))
    text = {
        "capacity": "No matured day yet", "gates": "No training of ours", "drift": "No drift check", "latency":
        "Nothing was measured",
    }  # fmt: skip
    assert text[missing] in path.read_text(encoding="utf-8")


def test_a_threshold_by_the_amount_is_shown_as_money(tmp_path: Path) -> None:
    rows = table_of(np.tile(DAYS.T, (3, 1)), negatives=20)
    names = {"champion": "dev-fraud/1", "challenger": "dev-fraud/2", "as_of": AS_OF, "repetitions": 10}
    result = compare_paired(rows, CostModel(), POLICY, **names)  # type: ignore[arg-type]  # options of many types
    curve = CostCurve((90.0, 2.0, -5.0), (500.0, 70.0, 140.0), (0, 12, 150), (0.0, 0.8, 1.0))
    saving = ModelFacts("dev-fraud/2", threshold=Measurement(2.0, 1.5, 3.0), curve=curve, by_amount=True)
    path = write_dossier(
        tmp_path / "d.html", result, judge_comparison(result, POLICY), Dossier(ModelFacts("dev-fraud/1"), saving)
    )  # fmt: skip
    html = path.read_text(encoding="utf-8")
    assert "by amount: an alert saves 2 (1.5 to 3) EUR at least" in html
    assert "least saving, EUR" in html
