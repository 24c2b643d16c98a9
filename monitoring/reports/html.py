"""Self-contained HTML pages: what a verdict rests on, and the header over a drift report.

A page holds everything it shows; it opens from a disk, prints well and runs no script of ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from monitoring.comparison.paired import PairedResult
from monitoring.comparison.secondary_figures import ALARM_LIMIT, LOWER_THRESHOLD, NOT_USED, RECALL_FLOOR, Appendix
from monitoring.core.measured import Measured
from monitoring.core.verdict import Check, Verdict
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


def write_page(path: Path, title: str, body: str) -> Path:
    """Write one page in a single step, so that nobody reads half of it."""
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    head = f"{meta}<title>{escape(title)}</title><style>{STYLE}</style>"
    text = f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
    return write_text(path, text)


def write_text(path: Path, text: str) -> Path:
    """Write a file beside its place and move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path


def comparison_body(result: PairedResult, verdict: Verdict, warnings: Sequence[str] = ()) -> str:
    """The page's content: first what decides, then an appendix that does not."""
    first, appendix = comparison_parts(result, verdict, warnings)
    return "".join(['<main class="incumbent">', *first, *appendix, "</main>"])


def comparison_parts(
    result: PairedResult, verdict: Verdict, warnings: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """What decides, for the first page, and the appendix that does not."""
    evidence = f"{result.days} matured days, {result.rows:,} events, {result.positives:,} positives"
    first = [
        f"<h1>{escape(result.challenger)} against {escape(result.champion)}</h1>",
        f'<p class="outcome">Verdict: {escape(verdict.outcome.replace("_", " "))}</p>',
        f"<p>{evidence}, as of {result.as_of:%Y-%m-%d %H:%M} UTC.</p>",
        "<ul>", *(f"<li>{escape(reason)}</li>" for reason in verdict.reasons), "</ul>",
        *(f'<p class="note">{escape(text)}</p>' for text in warnings),
        "<h2>What decides</h2>", checks_table(verdict.checks),
        f"<h2>Cost saved a day, and its {_sequence(result)}</h2>", saving_chart(result),
    ]  # fmt: skip
    appendix = [
        f'<section class="appendix"><h2>Appendix: {NOT_USED}</h2>',
        "<h3>Both models</h3>", _both(result),
        "<h3>Recall so far</h3>", _recall_chart(result),
    ]  # fmt: skip
    if result.appendix is not None:
        appendix += [_disagreements(result), "<h3>Further figures</h3>", _appendix(result.appendix, result.currency)]
    plan = f", plan {verdict.plan_hash[:16]}" if verdict.plan_hash else ""
    digests = f"Verdict {verdict.digest[:16]}, evidence {verdict.evidence_digest[:16]}{plan}."
    appendix.append(f'<p class="note">{digests}</p></section>')
    return first, appendix


def checks_table(checks: Iterable[Check]) -> str:
    """Every check with its value, limit and margin."""
    rows = [
        (c.name.replace("_", " "), number(c.value), number(c.threshold), number(c.margin), c.status, c.detail)
        for c in checks
    ]
    return table(("check", "value", "limit", "margin", "", ""), rows, numeric=(1, 2, 3), classed=4)


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int] = (), classed: int | None = None
) -> str:
    """An HTML table; ``classed`` names the column whose text is also its style."""

    def cell(index: int, text: str) -> str:
        style = "n" if index in numeric else text if index == classed else ""
        return f'<td class="{escape(style)}">{escape(text)}</td>' if style else f"<td>{escape(text)}</td>"

    classes = [' class="n"' if i in numeric else "" for i in range(len(head))]
    top = "".join(f"<th{style}>{escape(text)}</th>" for style, text in zip(classes, head, strict=True))
    body = "".join(f"<tr>{''.join(cell(i, t) for i, t in enumerate(row))}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


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


def saving_chart(result: PairedResult) -> str:
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


def _recall_chart(result: PairedResult) -> str:
    labels = [f"{d.day:%Y-%m-%d}" for d in result.series]
    total = result.column("positives").cumsum()

    def so_far(name: str) -> list[float | None]:
        return [float(hit / n) if n else None for hit, n in zip(result.column(name).cumsum(), total, strict=True)]

    return chart([Line(result.champion, so_far("tp_a")), Line(result.challenger, so_far("tp_b"))], labels)


def _disagreements(result: PairedResult) -> str:
    """Discordant pairs by segment and by amount: caught by one model only, false alarms of one model only."""
    found = result.appendix.groups if result.appendix is not None else ()
    names = (f"{result.champion} only", f"{result.challenger} only")
    parts = []
    for by in dict.fromkeys(group.by for group in found):
        groups = [group for group in found if group.by == by]
        parts.append(f"<h3>Caught by one model only, by {escape(by)}</h3>")
        parts.append(bars([(g.level, g.caught_a, g.caught_b) for g in groups], names))
        parts.append(f"<h3>False alarms of one model only, by {escape(by)}</h3>")
        parts.append(bars([(g.level, g.alarms_a, g.alarms_b) for g in groups], names))
    return "".join(parts)


def _both(result: PairedResult) -> str:
    rows = [
        ("recall", interval(result.recall_champion), interval(result.recall_challenger)),
        (f"cost, {result.currency}", interval(result.cost_champion), interval(result.cost_challenger)),
    ]
    return table(("", result.champion, result.challenger), rows, numeric=(1, 2))


def _appendix(a: Appendix, currency: str) -> str:
    rows = [_ratio(name, ratio) for name, ratio in _ratios(a).items()]
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
    head = ("figure", "champion", "challenger", "difference", "p")
    clusters = f"Intervals of ratios are clustered by {a.clustered_by}, those of rankings resample days (from 20 on)."
    said = (clusters, *([LOWER_THRESHOLD] if a.gains_by_threshold_alone else []), a.legacy_note)
    notes = "".join(f'<p class="note">{escape(text)}</p>' for text in said)
    return table(head, rows, numeric=(1, 2, 3, 4)) + notes


def _ratios(a: Appendix) -> Mapping[str, RatioDifference]:
    return {
        "recall": a.recall,
        "precision": a.precision,
        "false-positive rate": a.false_positive_rate,
        f"recall at {a.matched_alerts:,} alerts": a.matched,
    }


def _ratio(name: str, r: RatioDifference) -> tuple[str, str, str, str, str]:
    return name, number(r.a), number(r.b), interval(Measured(r.difference, r.low, r.high)), number(r.p)
