"""Pages: golden text, charts, and what decides before what does not."""

import re
from pathlib import Path

import numpy as np
import pytest

from monitoring.comparison.judge import judge_comparison
from monitoring.comparison.paired import PairedResult
from monitoring.policies import CostModel
from monitoring.policies.promotion import PromotionPolicy
from monitoring.reports.html import comparison_body, format_number, table, write_comparison_report
from monitoring.reports.svg_charts import ChartLine, line_chart, ticks
from tests.support.comparing import compare_paired
from tests.support.vectors import DAYS
from tests.unit.monitoring.comparison.test_paired import AS_OF, table_of

POLICY = PromotionPolicy()
GOLDEN = Path(__file__).parents[3] / "golden"


def result(weeks: int = 3, **more: object) -> PairedResult:
    frame = table_of(np.tile(DAYS.T, (weeks, 1)), negatives=150)
    names = {"champion": "dev-fraud/1", "challenger": "dev-fraud/2", "as_of": AS_OF, "repetitions": 50}
    return compare_paired(frame, CostModel(), POLICY, **names, **more)  # type: ignore[arg-type]  # options of many types


def text_of(html: str) -> str:
    """The words of a page, one line per cell, without its digests."""
    lines = (line.strip() for line in re.sub(r"<svg.*?</svg>|<[^>]+>", "\n", html, flags=re.S).splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("Verdict ")) + "\n"


def test_the_words_of_a_comparison_page_are_those_agreed() -> None:
    found = result(entity="customer_id", top_k=20)
    text = text_of(comparison_body(found, judge_comparison(found, POLICY)))
    assert text == (GOLDEN / "comparison.txt").read_text(encoding="utf-8")


def test_what_does_not_decide_comes_after_what_does_and_is_marked() -> None:
    found = result()
    html = comparison_body(found, judge_comparison(found, POLICY))
    assert html.index("What decides") < html.index("not used in the decision")
    for figure in ("McNemar", "unpaired t-test", "DeLong"):
        assert html.index(figure) > html.index("not used in the decision")


def test_a_page_is_one_file_that_asks_nothing_of_the_network(tmp_path: Path) -> None:
    found = result()
    path = write_comparison_report(tmp_path / "deep" / "compare.html", found, judge_comparison(found, POLICY))
    html = path.read_text(encoding="utf-8")
    assert "http" not in html
    assert "<script" not in html
    assert html.count("<svg") == 2
    assert [p.name for p in path.parent.iterdir()] == ["compare.html"]


def test_an_empty_comparison_has_a_page_too(tmp_path: Path) -> None:
    found = compare_paired(
        table_of(DAYS.T[:1]).head(0), CostModel(), POLICY, champion="m/1", challenger="m/2", as_of=AS_OF
    )
    path = write_comparison_report(tmp_path / "compare.html", found, judge_comparison(found, POLICY))
    assert "Nothing to draw yet" in path.read_text(encoding="utf-8")


def test_names_cannot_smuggle_markup_into_a_page() -> None:
    assert "<b>" not in table(("<b>",), [("<b>x",)])
    assert "<b>" not in line_chart([ChartLine("<b>", [1.0, 2.0])], ["<b>", "z"])


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (3.0, "3"), (1234567.0, "1,234,567"), (0.123456, "0.1235"), (-2.5, "-2.5")]
)
def test_numbers_are_short(value: float | None, shown: str) -> None:
    assert format_number(value) == shown


def test_a_chart_leaves_gaps_and_survives_a_flat_line() -> None:
    picture = line_chart([ChartLine("a", [1.0, None, 1.0, 1.0])], ["x", "y"])
    assert picture.count("<circle") == 1
    assert picture.count("<polyline") == 1
    assert "Nothing to draw" in line_chart([ChartLine("a", [None])], ["x"])


def test_ticks_are_round_and_lie_within_the_range() -> None:
    assert ticks(0.0, 10.0) == [0.0, 5.0, 10.0]
    assert all(-3.2 <= t <= 7.9 for t in ticks(-3.2, 7.9))


def test_a_bound_that_is_known_for_one_step_only_is_drawn_as_a_bar() -> None:
    edges = (ChartLine("bounds", [None, None, 1.0]), ChartLine("bounds", [None, None, 3.0]))
    picture = line_chart([ChartLine("mean", [2.0, 2.0, 2.0])], ["a", "b", "c"], band=edges)
    assert 'stroke-width="6"' in picture
    assert "polygon" not in picture
