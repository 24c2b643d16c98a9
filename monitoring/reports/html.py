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
from monitoring.core.measured import Measurement
from monitoring.core.verdict import Check, Verdict
from monitoring.reports.render import render, table
from monitoring.reports.svg_charts import ChartLine, bar_chart, line_chart
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
        checks=checks_table(verdict.checks), sequence=_bounds_name(result), saving_chart=saving_chart(result),
        both=_both_models_table(result), recall_chart=_recall_chart(result), disagreements=_disagreements(result),
        figures=None if further is None else _figures(further, result.currency),
        notes=() if further is None else _notes(further),
    )  # fmt: skip


def checks_table(checks: Iterable[Check]) -> Markup:
    """Every check with its value, limit and margin."""
    rows = [
        (
            c.name.replace("_", " "),
            format_number(c.value),
            format_number(c.threshold),
            format_number(c.margin),
            c.status,
            c.detail,
        )
        for c in checks
    ]
    return table(("check", "value", "limit", "margin", "", ""), rows, numeric=(1, 2, 3), classed=4)


def format_number(value: float | None) -> str:
    """Four significant digits, large and whole numbers without decimals, a dash where there is nothing."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000.0 or float(value).is_integer() else f"{value:.4g}"


def format_interval(figure: Measurement) -> str:
    """A value with its bounds."""
    if figure.low is None or figure.high is None:
        return format_number(figure.value)
    return f"{format_number(figure.value)} ({format_number(figure.low)} to {format_number(figure.high)})"


def _bounds_name(result: PairedResult) -> str:
    return "confidence sequence" if result.method == "anytime" else "bounds on decision days"


def saving_chart(result: PairedResult) -> Markup:
    """Draw the mean saving a day so far, with its anytime-valid bounds, as SVG with a legend."""
    saving = result.column("saving")
    path = anytime_path(saving, result.saving.alpha, result.saving.planned, result.saving.block)
    labels = [f"{result.series[n - 1].day:%Y-%m-%d}" for n in path.days]
    mean = ChartLine(f"mean saving, {result.currency} a day", path.mean)
    if result.method == "anytime":
        band = tuple(ChartLine("anytime-valid bounds of the mean", edge) for edge in (path.low, path.high))
    else:
        ends = (result.saving.low, result.saving.high)
        band = tuple(ChartLine("bounds of the latest decision day", _only_last_step(end, len(labels))) for end in ends)
    return line_chart([mean], labels, band=(band[0], band[1]), zero=True)


def _only_last_step(bound: float | None, steps: int) -> list[float | None]:
    """A bound that is known for the last step only."""
    return [*([None] * (steps - 1)), bound][:steps]


def _recall_chart(result: PairedResult) -> Markup:
    labels = [f"{d.day:%Y-%m-%d}" for d in result.series]
    total = result.column("positives").cumsum()

    def recall_so_far(name: str) -> list[float | None]:
        return [float(hit / n) if n else None for hit, n in zip(result.column(name).cumsum(), total, strict=True)]

    return line_chart(
        [ChartLine(result.champion, recall_so_far("tp_a")), ChartLine(result.challenger, recall_so_far("tp_b"))], labels
    )


def _disagreements(result: PairedResult) -> list[tuple[str, Markup, Markup]]:
    """Discordant pairs by segment and by amount: caught by one model only, false alarms of one model only."""
    levels = result.appendix.groups if result.appendix is not None else ()
    names = (f"{result.champion} only", f"{result.challenger} only")
    parts = []
    for column in dict.fromkeys(group.by for group in levels):
        groups = [group for group in levels if group.by == column]
        caught = bar_chart([(g.level, g.caught_a, g.caught_b) for g in groups], names)
        parts.append((column, caught, bar_chart([(g.level, g.alarms_a, g.alarms_b) for g in groups], names)))
    return parts


def _both_models_table(result: PairedResult) -> list[tuple[str, str, str]]:
    return [
        ("recall", format_interval(result.recall_champion), format_interval(result.recall_challenger)),
        (f"cost, {result.currency}", format_interval(result.cost_champion), format_interval(result.cost_challenger)),
    ]


def _figures(a: Appendix, currency: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [_ratio_row(name, ratio) for name, ratio in _ratios(a).items()]
    rows.append((f"saving a day, {currency}", "", "", format_interval(a.saving.measured), format_number(a.saving.p)))
    p = a.delong.p if a.delong is not None else None
    rows.append(
        ("AUC", format_number(a.auc.a), format_number(a.auc.b), format_interval(a.auc.difference), format_number(p))
    )
    if a.delong is not None:
        rows.append(("AUC, DeLong's interval", "", "", format_interval(a.delong.measured), format_number(p)))
    ranked = {
        "average precision": a.average_precision,
        "card precision": a.card_precision,
        f"precision at recall {RECALL_FLOOR:g} and above": a.precision_at_recall,
        f"recall at a false-positive rate of {ALARM_LIMIT:g} at most": a.recall_at_alarms,
    }
    for name, figure in ranked.items():
        if figure is not None:
            rows.append(
                (name, format_number(figure.a), format_number(figure.b), format_interval(figure.difference), "")
            )
    m = a.mcnemar
    rows.append(("McNemar mid-p, caught by one model only", str(m.c), str(m.b), "", format_number(m.mid_p)))
    rows.append(("recall, Bonett-Price", "", "", format_interval(a.bonett_price), ""))
    rows.append(("recall, Tango", "", "", format_interval(a.tango), format_number(a.tango_p)))
    rows.append(("unpaired t-test (legacy)", "", "", "", format_number(a.legacy_p)))
    return rows


def _notes(a: Appendix) -> tuple[str, ...]:
    clusters = f"Intervals of ratios are clustered by {a.clustered_by}, those of rankings resample days (from 20 on)."
    return (clusters, *([LOWER_THRESHOLD] if a.gains_by_threshold_alone else []), a.legacy_note)


def _ratios(appendix: Appendix) -> Mapping[str, RatioDifference]:
    return {
        "recall": appendix.recall,
        "precision": appendix.precision,
        "false-positive rate": appendix.false_positive_rate,
        f"recall at {appendix.matched_alerts:,} alerts": appendix.matched,
    }


def _ratio_row(name: str, ratio: RatioDifference) -> tuple[str, str, str, str, str]:
    return (
        name,
        format_number(ratio.a),
        format_number(ratio.b),
        format_interval(Measurement(ratio.difference, ratio.low, ratio.high)),
        format_number(ratio.p),
    )
