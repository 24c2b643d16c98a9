"""The dossier of a verdict: one self-contained page for whoever approves it, prints it or audits it.

First the verdict and the bounds that decided it, as on the page of a comparison. Then everything a person asks
before saying yes: what changes, where both models come from, what the gates said, drift, groups, threshold
against capacity, latency, who approved, and the way back. The only script is the capacity slider, which works
offline on figures that stand in the page; without a script the same figures are a table and a chart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path

from monitoring.comparison.group_effects import BothGroups
from monitoring.comparison.paired import PairedResult
from monitoring.core.measured import Measured
from monitoring.core.verdict import Check, Verdict
from monitoring.performance.capacity import CapacityCurve, CapacityPoint
from monitoring.performance.cost_curve import CostCurve
from monitoring.performance.fairness import Slice
from monitoring.reports import svg_charts
from monitoring.reports.html import checks_table, comparison_parts, interval, number, table, write_page

NOT_DECISIVE = "For whoever approves; not used in the decision"
_PRINTED = 8


@dataclass(frozen=True)
class ModelFacts:
    """Where one of the two models comes from; what is not known stays empty.

    Attributes:
        label: ``dev-fraud/3``, or the column of an external incumbent.
        version: ``major.minor.patch``.
        facts: name to value, in the order in which they are shown: data, code, parameters, parent.
        threshold: the promoted cut with its bootstrap interval.
        features: names of its features.
        since: who put it where it is, and when, in words.
        curve: cost at other thresholds on the fold that chose this one; none where the version holds none.
        by_amount: whether the threshold goes by the amount: cut and curve are then money.
    """

    label: str
    version: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    threshold: Measured = field(default_factory=lambda: Measured(None))
    features: tuple[str, ...] = ()
    since: str = ""
    curve: CostCurve | None = None
    by_amount: bool = False


@dataclass(frozen=True)
class Dossier:
    """Everything on the page beside the comparison itself.

    Attributes:
        champion, challenger: where they come from.
        gates: checks of the challenger's training; those named ``fairness...`` are shown apart.
        gates_as_of: business time of that training; none where it is not known.
        drift: what the newest drift check said, as lines of name and value.
        fairness: lines of group comparisons of the newest drift check: measure, groups, value, status.
        groups: both models' figures by group on the same matured events; they take the place of ``fairness``.
        capacity: alerts a day against money.
        latency: name to milliseconds.
        approval: whether a person has to agree, and who did.
        decision: the decision that put the challenger in office, once there is one.
        made_with: code and packages that computed the verdict, name to version; empty where they are not on record.
        notes: what could not be found out, in sentences.
    """

    champion: ModelFacts
    challenger: ModelFacts
    gates: tuple[Check, ...] = ()
    gates_as_of: datetime | None = None
    drift: tuple[tuple[str, str], ...] = ()
    fairness: tuple[tuple[str, str, str, str], ...] = ()
    groups: BothGroups | None = None
    capacity: CapacityCurve | None = None
    latency: Mapping[str, float | None] = field(default_factory=dict)
    approval: str = ""
    decision: str = ""
    made_with: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def write_dossier(
    path: Path, result: PairedResult, verdict: Verdict, dossier: Dossier, warnings: Sequence[str] = ()
) -> Path:
    """Write the page in one step and return ``path``."""
    title = f"{result.challenger} against {result.champion}"
    return write_page(path, title, dossier_body(result, verdict, dossier, warnings))


def dossier_body(result: PairedResult, verdict: Verdict, dossier: Dossier, warnings: Sequence[str] = ()) -> str:
    """The page's content."""
    first, appendix = comparison_parts(result, verdict, warnings)
    file = [
        f'<section class="appendix dossier"><h2>{NOT_DECISIVE}</h2>',
        _changes(dossier, result.currency), _lineage(dossier), _gates(dossier), _drift(dossier), _fairness(dossier),
        _capacity(dossier.capacity, result.currency), _curves(dossier, result.currency), _latency(dossier),
        _approval(dossier, verdict),
        *(f'<p class="note">{escape(note)}</p>' for note in dossier.notes),
        "</section>",
    ]  # fmt: skip
    return "".join(['<main class="incumbent">', *first, *file, *appendix, "</main>"])


def _changes(dossier: Dossier, currency: str) -> str:
    old, new = dossier.champion, dossier.challenger
    gone = sorted(set(old.features) - set(new.features))
    come = sorted(set(new.features) - set(old.features))
    rows = [
        ("version", old.version, new.version),
        ("threshold (95 % interval)", _cut(old, currency), _cut(new, currency)),
        ("features", f"{len(old.features)}" if old.features else "–", f"{len(new.features)}" if new.features else "–"),
        ("in its role", old.since, new.since),
    ]
    moved = [f"added: {', '.join(come)}"] * bool(come) + [f"gone: {', '.join(gone)}"] * bool(gone)
    said = "; ".join(moved) if old.features and new.features else ""
    note = f"<p>Features {escape(said)}.</p>" if said else ""
    return "<h3>What changes</h3>" + table(("", old.label, new.label), rows) + note


def _cut(facts: ModelFacts, currency: str) -> str:
    """The threshold; one that goes by the amount is the money that an alert must be expected to save."""
    shown = interval(facts.threshold)
    return f"by amount: an alert saves {shown} {currency} at least" if facts.by_amount else shown


def _lineage(dossier: Dossier) -> str:
    old, new = dossier.champion, dossier.challenger
    names = dict.fromkeys([*new.facts, *old.facts])
    if not names:
        return f"<h3>Lineage</h3><p>Not known.</p>{_made_with(dossier)}"
    rows = [(name, old.facts.get(name, "–"), new.facts.get(name, "–")) for name in names]
    return "<h3>Lineage</h3>" + table(("", old.label, new.label), rows) + _made_with(dossier)


def _made_with(dossier: Dossier) -> str:
    """What computed the verdict."""
    if not dossier.made_with:
        return "<p>Which code and packages computed the verdict is not on record.</p>"
    return "<p>The verdict was computed with:</p>" + table(("", ""), tuple(dossier.made_with.items()))


def _gates(dossier: Dossier) -> str:
    checks = [check for check in dossier.gates if not check.name.startswith("fairness")]
    if not checks:
        return "<h3>Gates</h3><p>No training of ours is on record.</p>"
    when = "" if dossier.gates_as_of is None else f" as of {dossier.gates_as_of:%Y-%m-%d %H:%M} UTC"
    return f"<h3>Gates of the challenger{when}</h3>" + checks_table(checks)


def _drift(dossier: Dossier) -> str:
    body = table(("", ""), dossier.drift) if dossier.drift else "<p>No drift check is on record.</p>"
    return "<h3>Drift of the traffic against the champion's reference</h3>" + body


def _fairness(dossier: Dossier) -> str:
    gates = [check for check in dossier.gates if check.name.startswith("fairness")]
    parts = [checks_table(gates)] if gates else []
    if dossier.groups is not None:
        parts.append(groups_section(dossier.groups))
    elif dossier.fairness:
        head = ("measure, latest matured week, champion", "groups", "value", "")
        parts.append(table(head, dossier.fairness, numeric=(2,), classed=3))
    return "<h3>Groups</h3>" + ("".join(parts) or "<p>No sensitive column is declared.</p>")


def _latency(dossier: Dossier) -> str:
    if not dossier.latency:
        return "<h3>Latency</h3><p>Nothing was measured.</p>"
    rows = [(name, number(value)) for name, value in dossier.latency.items()]
    return "<h3>Latency, 99th percentile, ms</h3>" + table(("", ""), rows, numeric=(1,))


def _approval(dossier: Dossier, verdict: Verdict) -> str:
    back = (
        "<code>incumbent rollback --reason TEXT</code>, the deployment <em>rollback</em>, or inside the image "
        "<code>python -m bentos.release rollback --reason TEXT</code>; no registry and no Prefect is needed."
    )
    rows = [f"<p>{escape(dossier.approval)}</p>"] if dossier.approval else []
    rows += [f"<p>{escape(dossier.decision)}</p>"] if dossier.decision else []
    plan = f"<p>Plan <code>{escape(verdict.plan_hash)}</code>, verdict <code>{verdict.digest}</code>.</p>"
    return f"<h3>Approval, and the way back</h3>{''.join(rows)}{plan if verdict.plan_hash else ''}<p>{back}</p>"


def _capacity(curve: CapacityCurve | None, currency: str) -> str:
    title = "<h3>Threshold and capacity: alerts a day against money</h3>"
    if curve is None or not curve.points:
        return title + "<p>No matured day yet.</p>"
    points = curve.points
    labels = [f"{point.alerts:,} a day" for point in points]
    lines = [svg_charts.Line(f"champion, {currency} a day", [p.cost_a.value for p in points])]
    lines.append(svg_charts.Line(f"challenger, {currency} a day", [p.cost_b.value for p in points]))
    place = next((n for n, p in enumerate(points) if p.alerts == curve.now), len(points) // 2)
    now = "" if curve.now is None else f" The declared capacity is {curve.now:,}."
    note = f"{curve.days} matured days, each day's highest scores flagged, 95 % t intervals over days.{now}"
    slider = (
        '<p class="screen"><label>Alerts a day <input type="range" id="capacity-slider" min="0" '
        f'max="{len(points) - 1}" value="{place}" style="width:60%"></label> <output id="capacity-alerts"></output></p>'
        '<table class="screen" id="capacity-readout"><tbody></tbody></table>'
    )
    data = json.dumps([_row(point) for point in points], separators=(",", ":")).replace("<", "\\u003c")
    script = f'<script type="application/json" id="capacity-data">{data}</script><script>{_script(currency)}</script>'
    drawn = svg_charts.chart(lines, labels, zero=True).replace("<svg ", '<svg id="capacity-chart" ', 1)
    return f'{title}<p class="note">{escape(note)}</p>{slider}{drawn}{_printed(points, place, currency)}{script}'


def _printed(points: Sequence[CapacityPoint], place: int, currency: str) -> str:
    """A few capacities as a table: what paper has in the place of the slider."""
    chosen = sorted({round(n * (len(points) - 1) / (_PRINTED - 1)) for n in range(_PRINTED)} | {place})
    rows = [_row(points[n]) for n in chosen]
    return table(_head(currency), rows, numeric=range(6))


def _curves(dossier: Dossier, currency: str) -> str:
    """What each version's own threshold fold would have cost at other thresholds."""
    parts = []
    for facts in (dossier.champion, dossier.challenger):
        if facts.curve is None:
            continue
        used = facts.threshold.value or 0.0
        now = facts.curve.alerts[facts.curve.place_of(used)]
        rows = [
            (number(cut), number(cost), f"{alerts:,}", f"{recall:.1%}", "in use" if alerts == now else "")
            for cut, cost, alerts, recall in facts.curve.few(_PRINTED, used)
        ]
        first = f"least saving, {currency}" if facts.by_amount else "threshold"
        head = (first, f"cost, {currency}", "alerts", "caught", "")
        parts.append(f"<p>{escape(facts.label)}</p>" + table(head, rows, numeric=range(4)))
    title = "<h3>Cost of other thresholds on the fold that chose each one</h3>"
    return title + ("".join(parts) or "<p>Neither version holds its cost curve.</p>")


def _head(currency: str) -> tuple[str, ...]:
    costs = tuple(f"{name}, {currency} a day" for name in ("champion costs", "challenger costs", "saved"))
    return ("alerts a day", *costs, "champion catches", "challenger catches")


def _row(point: CapacityPoint) -> tuple[str, ...]:
    shares = ("–" if recall is None else f"{recall:.1%}" for recall in (point.recall_a, point.recall_b))
    return (f"{point.alerts:,}", interval(point.cost_a), interval(point.cost_b), interval(point.saving), *shares)


def _script(currency: str) -> str:
    left, right = svg_charts.EDGES
    names = json.dumps(_head(currency)).replace("<", "\\u003c")
    return (
        "(function(){var rows=JSON.parse(document.getElementById('capacity-data').textContent),"
        f"names={names},left={left},right={right},"
        "slider=document.getElementById('capacity-slider'),body=document.querySelector('#capacity-readout tbody'),"
        "svg=document.getElementById('capacity-chart'),"
        "mark=document.createElementNS('http://www.w3.org/2000/svg','line');"
        f"mark.setAttribute('y1',0);mark.setAttribute('y2',{svg_charts.HEIGHT});mark.setAttribute('stroke','#1c1c1c');"
        "mark.setAttribute('stroke-dasharray','4 3');svg.appendChild(mark);"
        "function show(){var at=+slider.value,row=rows[at],"
        "x=left+(right-left)*at/Math.max(1,rows.length-1);"
        "mark.setAttribute('x1',x);mark.setAttribute('x2',x);"
        "document.getElementById('capacity-alerts').textContent=row[0];"
        "body.replaceChildren.apply(body,names.slice(1).map(function(name,n){"
        "var line=document.createElement('tr'),head=document.createElement('td'),value=document.createElement('td');"
        "head.textContent=name;value.textContent=row[n+1];value.className='n';line.append(head,value);return line;}));}"
        "slider.addEventListener('input',show);show();})();"
    )


def groups_section(both: BothGroups) -> str:
    """Two tables: the comparisons of sensitive groups, and every group and slice by itself."""
    parts = [f'<p class="note">{both.rows:,} matured events that both scored, each model at its own decisions.</p>']
    compared = [
        (f"{one.measure} of {one.column}", f"{one.group} against {one.reference}",
         f"{interval(one.difference)}: {one.status}", interval(other.difference), other.status)
        for one, other in zip(both.a.comparisons, both.b.comparisons, strict=True)
    ]  # fmt: skip
    if compared:
        head = ("measure", "groups", f"champion {both.champion}", f"challenger {both.challenger}", "")
        parts.append(table(head, compared, numeric=(2, 3), classed=4))
    # A line for each model: both beside each other would be wider than a sheet of paper.
    sliced = [
        line
        for one, other in zip(both.a.slices, both.b.slices, strict=True)
        for line in (
            (f"{one.column} {one.group}", f"{one.rows:,}", f"{one.positives:,}", *_figures(one, _WHO[0])),
            ("", "", "", *_figures(other, _WHO[1])),
        )
    ]
    return "".join(
        [*parts, table(("group", "events", "positives", "", "flagged", "caught"), sliced, numeric=(1, 2, 4, 5))]
    )


def _figures(one: Slice, who: str) -> tuple[str, str, str]:
    return who, interval(one.flag_share), interval(one.recall)


_WHO = ("champion", "challenger")
