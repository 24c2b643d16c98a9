"""Self-contained HTML pages: what a verdict rests on, and the header over a drift report.

A page holds everything it shows; it opens from a disk, prints well and runs no script of ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from monitoring.comparison.paired import PairedResult
from monitoring.comparison.secondary_figures import ALARM_LIMIT, LOWER_THRESHOLD, NOT_USED, RECALL_FLOOR, Appendix
from monitoring.core.measured import Measured
from monitoring.core.verdict import Check, Verdict
from monitoring.reports.render import render, table
from monitoring.reports.svg_charts import Line, bars, chart
from monitoring.stats.anytime import anytime_path
from monitoring.stats.intervals import RatioDifference

STYLE = """
.incumbent{font:15px/1.5 system-ui,sans-serif;color:#1c1c1c;background:#fff;max-width:60rem}
.incumbent{margin:1.5rem auto;padding:0 1rem}
.incumbent h1{font-size:1.5rem;margin:.2rem 0}.incumbent h2{font-size:1.1rem;margin:1.6rem 0 .4rem}
.incumbent table{border-collapse:collapse;width:100%}
.incumbent td,.incumbent th{border-bottom:1px solid #ddd;padding:.25rem .5rem;text-align:left;vertical-align:top}
.incumbent .n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.incumbent th.n{white-space:normal}
.incumbent .PASS,.incumbent .none{color:#166534}.incumbent .FAIL,.incumbent .severe{color:#b91c1c;font-weight:600}
.incumbent .INSUFFICIENT,.incumbent .warning{color:#92400e}
.incumbent svg{width:100%;height:auto;font-size:11px}.incumbent .legend,.incumbent .note{color:#555;font-size:.85rem}
.incumbent h3{font-size:1rem;margin:1.2rem 0 .3rem}.incumbent .appendix{margin-top:2.5rem;border-top:3px solid #ddd}
.incumbent .outcome{font-size:1.2rem;font-weight:600}
@media print{.incumbent .screen{display:none}}
@media print{.incumbent{max-width:none}.incumbent h2{break-after:avoid}}
@media print{.incumbent .appendix{break-before:page;border:0}}
@media print{.incumbent table,.incumbent svg{break-inside:avoid}}
"""


def write_comparison_report(path: Path, result: PairedResult, verdict: Verdict, warnings: Sequence[str] = ()) -> Path:
    """Write the page of a comparison: page one decides, the appendix does not. Returns ``path``."""
    title = f"{result.challenger} against {result.champion}"
    return write_page(path, title, comparison_body(result, verdict, warnings))


def write_page(path: Path, title: str, body: Markup) -> Path:
    """Write one page in a single step, so that nobody reads half of it."""
    return write_text(path, render("page.html", title=title, style=Markup(STYLE), body=body) + "\n")  # noqa: S704


def write_text(path: Path, text: str) -> Path:
    """Write a file beside its place and move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path


def comparison_body(
    result: PairedResult, verdict: Verdict, warnings: Sequence[str] = (), dossier: Markup | str = ""
) -> Markup:
    """The page's content: what decides, a dossier where there is one, then an appendix that does not decide."""
    further = result.appendix
    return render(
        "comparison.html", result=result, verdict=verdict, warnings=warnings, dossier=dossier, not_used=NOT_USED,
        checks=checks_table(verdict.checks), sequence=_sequence(result), saving_chart=saving_chart(result),
        both=_both(result), recall_chart=_recall_chart(result), disagreements=_disagreements(result),
        figures=None if further is None else _figures(further, result.currency),
        notes=() if further is None else _notes(further),
    )  # fmt: skip


def checks_table(checks: Iterable[Check]) -> Markup:
    """Every check with its value, limit and margin."""
    rows = [
        (c.name.replace("_", " "), number(c.value), number(c.threshold), number(c.margin), c.status, c.detail)
        for c in checks
    ]
    return table(("check", "value", "limit", "margin", "", ""), rows, numeric=(1, 2, 3), classed=4)


def number(value: float | None) -> str:
    """Four significant digits, large and whole numbers without decimals, a dash where there is nothing."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000.0 or float(value).is_integer() else f"{value:.4g}"


def interval(figure: Measured) -> str:
    """A value with its bounds."""
    if figure.low is None or figure.high is None:
        return number(figure.value)
    return f"{number(figure.value)} ({number(figure.low)} to {number(figure.high)})"


def _sequence(result: PairedResult) -> str:
    return "confidence sequence" if result.method == "anytime" else "bounds on decision days"


def saving_chart(result: PairedResult) -> Markup:
    """Draw the mean saving a day so far, with its anytime-valid bounds, as SVG with a legend."""
    saving = result.column("saving")
    path = anytime_path(saving, result.saving.alpha, result.saving.planned, result.saving.block)
    labels = [f"{result.series[n - 1].day:%Y-%m-%d}" for n in path.days]
    mean = Line(f"mean saving, {result.currency} a day", path.mean)
    if result.method == "anytime":
        band = tuple(Line("anytime-valid bounds of the mean", edge) for edge in (path.low, path.high))
    else:
        ends = (result.saving.low, result.saving.high)
        band = tuple(Line("bounds of the latest decision day", _at_the_end(end, len(labels))) for end in ends)
    return chart([mean], labels, band=(band[0], band[1]), zero=True)


def _at_the_end(bound: float | None, steps: int) -> list[float | None]:
    """A bound that is known for the last step only."""
    return [*([None] * (steps - 1)), bound][:steps]


def _recall_chart(result: PairedResult) -> Markup:
    labels = [f"{d.day:%Y-%m-%d}" for d in result.series]
    total = result.column("positives").cumsum()

    def so_far(name: str) -> list[float | None]:
        return [float(hit / n) if n else None for hit, n in zip(result.column(name).cumsum(), total, strict=True)]

    return chart([Line(result.champion, so_far("tp_a")), Line(result.challenger, so_far("tp_b"))], labels)


def _disagreements(result: PairedResult) -> list[tuple[str, Markup, Markup]]:
    """Discordant pairs by segment and by amount: caught by one model only, false alarms of one model only."""
    levels = result.appendix.groups if result.appendix is not None else ()
    names = (f"{result.champion} only", f"{result.challenger} only")
    parts = []
    for by in dict.fromkeys(group.by for group in levels):
        groups = [group for group in levels if group.by == by]
        caught = bars([(g.level, g.caught_a, g.caught_b) for g in groups], names)
        parts.append((by, caught, bars([(g.level, g.alarms_a, g.alarms_b) for g in groups], names)))
    return parts


def _both(result: PairedResult) -> list[tuple[str, str, str]]:
    return [
        ("recall", interval(result.recall_champion), interval(result.recall_challenger)),
        (f"cost, {result.currency}", interval(result.cost_champion), interval(result.cost_challenger)),
    ]


def _figures(a: Appendix, currency: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [_ratio(name, ratio) for name, ratio in _ratios(a).items()]
    rows.append((f"saving a day, {currency}", "", "", interval(a.saving.measured), number(a.saving.p)))
    p = a.delong.p if a.delong is not None else None
    rows.append(("AUC", number(a.auc.a), number(a.auc.b), interval(a.auc.difference), number(p)))
    if a.delong is not None:
        rows.append(("AUC, DeLong's interval", "", "", interval(a.delong.measured), number(p)))
    ranked = {
        "average precision": a.average_precision,
        "card precision": a.card_precision,
        f"precision at recall {RECALL_FLOOR:g} and above": a.precision_at_recall,
        f"recall at a false-positive rate of {ALARM_LIMIT:g} at most": a.recall_at_alarms,
    }
    for name, figure in ranked.items():
        if figure is not None:
            rows.append((name, number(figure.a), number(figure.b), interval(figure.difference), ""))
    m = a.mcnemar
    rows.append(("McNemar mid-p, caught by one model only", str(m.c), str(m.b), "", number(m.mid_p)))
    rows.append(("recall, Bonett-Price", "", "", interval(a.bonett_price), ""))
    rows.append(("recall, Tango", "", "", interval(a.tango), number(a.tango_p)))
    rows.append(("unpaired t-test (legacy)", "", "", "", number(a.legacy_p)))
    return rows


def _notes(a: Appendix) -> tuple[str, ...]:
    clusters = f"Intervals of ratios are clustered by {a.clustered_by}, those of rankings resample days (from 20 on)."
    return (clusters, *([LOWER_THRESHOLD] if a.gains_by_threshold_alone else []), a.legacy_note)


def _ratios(a: Appendix) -> Mapping[str, RatioDifference]:
    return {
        "recall": a.recall,
        "precision": a.precision,
        "false-positive rate": a.false_positive_rate,
        f"recall at {a.matched_alerts:,} alerts": a.matched,
    }


def _ratio(name: str, r: RatioDifference) -> tuple[str, str, str, str, str]:
    return name, number(r.a), number(r.b), interval(Measured(r.difference, r.low, r.high)), number(r.p)
