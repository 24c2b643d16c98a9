"""The dossier of a verdict: one self-contained page for whoever approves it, prints it or audits it.

First the verdict and the bounds that decided it, as on the page of a comparison. Then everything a person asks
before saying yes: what changes, where both models come from, what the gates said, drift, groups, threshold
against capacity, latency, who approved, and the way back. The only script is the capacity slider, which works
offline on figures that stand in the page; without a script the same figures are a table and a chart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from monitoring.comparison.group_effects import GroupEffects
from monitoring.comparison.paired import PairedResult
from monitoring.core.measured import Measurement
from monitoring.core.verdict import Check, Verdict
from monitoring.performance.capacity import CapacityCurve, CapacityPoint
from monitoring.performance.cost_curve import CostCurve
from monitoring.performance.fairness import Slice
from monitoring.reports import svg_charts
from monitoring.reports.html import checks_table, comparison_body, format_interval, format_number, write_page
from monitoring.reports.render import note, render, table

NOT_DECISIVE = "For whoever approves; not used in the decision"
_PRINTED_POINTS = 8


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
    threshold: Measurement = field(default_factory=lambda: Measurement(None))
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
        decision: the decision that promote the challenger, once there is one.
        made_with: code and packages that computed the verdict, name to version; empty where they are not on record.
        notes: what could not be found out, in sentences.
    """

    champion: ModelFacts
    challenger: ModelFacts
    gates: tuple[Check, ...] = ()
    gates_as_of: datetime | None = None
    drift: tuple[tuple[str, str], ...] = ()
    fairness: tuple[tuple[str, str, str, str], ...] = ()
    groups: GroupEffects | None = None
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


def dossier_body(result: PairedResult, verdict: Verdict, dossier: Dossier, warnings: Sequence[str] = ()) -> Markup:
    """The page's content."""
    dossier_parts = render(
        "dossier.html", dossier=dossier, verdict=verdict, not_decisive=NOT_DECISIVE, old=dossier.champion,
        new=dossier.challenger, changes=_changes(dossier, result.currency), moved=_moved(dossier),
        lineage=_lineage(dossier), gates=_gates(dossier), fairness=_fairness(dossier),
        capacity=_capacity(dossier.capacity, result.currency), curves=_curves(dossier, result.currency),
        latency=[(name, format_number(value)) for name, value in dossier.latency.items()],
    )  # fmt: skip
    return comparison_body(result, verdict, warnings, dossier_parts)


def _changes(dossier: Dossier, currency: str) -> list[tuple[str, str, str]]:
    champion, challenger = dossier.champion, dossier.challenger
    return [
        ("version", champion.version, challenger.version),
        ("threshold (95 % interval)", _threshold_text(champion, currency), _threshold_text(challenger, currency)),
        (
            "features",
            f"{len(champion.features)}" if champion.features else "–",
            f"{len(challenger.features)}" if challenger.features else "–",
        ),
        ("in its role", champion.since, challenger.since),
    ]


def _moved(dossier: Dossier) -> str:
    """Which features came and went; nothing where those of one model are not known."""
    old, new = set(dossier.champion.features), set(dossier.challenger.features)
    if not old or not new:
        return ""
    moved = {"added": sorted(new - old), "gone": sorted(old - new)}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in moved.items() if names)


def _threshold_text(facts: ModelFacts, currency: str) -> str:
    """The threshold; one that goes by the amount is the money that an alert must be expected to save."""
    threshold = format_interval(facts.threshold)
    return f"by amount: an alert saves {threshold} {currency} at least" if facts.by_amount else threshold


def _lineage(dossier: Dossier) -> list[tuple[str, str, str]]:
    champion, challenger = dossier.champion.facts, dossier.challenger.facts
    return [
        (name, champion.get(name, "–"), challenger.get(name, "–")) for name in dict.fromkeys([*challenger, *champion])
    ]


def _gates(dossier: Dossier) -> Markup | None:
    checks = [check for check in dossier.gates if not check.name.startswith("fairness")]
    return checks_table(checks) if checks else None


def _fairness(dossier: Dossier) -> list[Markup]:
    gates = [check for check in dossier.gates if check.name.startswith("fairness")]
    parts = [checks_table(gates)] if gates else []
    if dossier.groups is not None:
        parts.append(groups_section(dossier.groups))
    elif dossier.fairness:
        head = ("measure, latest matured week, champion", "groups", "value", "")
        parts.append(table(head, dossier.fairness, numeric=(2,), classed=3))
    return parts


def _capacity(curve: CapacityCurve | None, currency: str) -> Markup | None:
    """Chart, table and slider; none where no day has matured."""
    if curve is None or not curve.points:
        return None
    points = curve.points
    lines = [svg_charts.ChartLine(f"champion, {currency} a day", [p.cost_a.value for p in points])]
    lines.append(svg_charts.ChartLine(f"challenger, {currency} a day", [p.cost_b.value for p in points]))
    index = next((n for n, p in enumerate(points) if p.alerts == curve.now), len(points) // 2)
    capacity_text = "" if curve.now is None else f" The declared capacity is {curve.now:,}."
    return render(
        "capacity.html",
        place=index,
        head=_capacity_columns(currency),
        rows=[_row(point) for point in points],
        explanation=f"{curve.days} matured days, each day's highest scores flagged, "
        f"95 % t intervals over days.{capacity_text}",
        chart=svg_charts.line_chart(lines, [f"{p.alerts:,} a day" for p in points], zero=True, id="capacity-chart"),
        printed=_capacity_table(points, index),
        edges=svg_charts.EDGES,
        height=svg_charts.HEIGHT,
    )


def _capacity_table(points: Sequence[CapacityPoint], index: int) -> list[tuple[str, ...]]:
    """A few capacities as a table: what paper has in the place of the slider."""
    indices = sorted({round(n * (len(points) - 1) / (_PRINTED_POINTS - 1)) for n in range(_PRINTED_POINTS)} | {index})
    return [_row(points[n]) for n in indices]


def _curves(dossier: Dossier, currency: str) -> list[tuple[str, Markup]]:
    """What each version's own threshold fold would have cost at other thresholds."""
    parts = []
    for facts in (dossier.champion, dossier.challenger):
        if facts.curve is None:
            continue
        threshold_in_use = facts.threshold.value or 0.0
        alerts_in_use = facts.curve.alerts[facts.curve.point_index(threshold_in_use)]
        rows = [
            (
                format_number(threshold),
                format_number(cost),
                f"{alerts:,}",
                f"{recall:.1%}",
                "in use" if alerts == alerts_in_use else "",
            )
            for threshold, cost, alerts, recall in facts.curve.few(_PRINTED_POINTS, threshold_in_use)
        ]
        first_column = f"least saving, {currency}" if facts.by_amount else "threshold"
        head = (first_column, f"cost, {currency}", "alerts", "caught", "")
        parts.append((facts.label, table(head, rows, numeric=range(4))))
    return parts


def _capacity_columns(currency: str) -> tuple[str, ...]:
    costs = tuple(f"{name}, {currency} a day" for name in ("champion costs", "challenger costs", "saved"))
    return ("alerts a day", *costs, "champion catches", "challenger catches")


def _row(point: CapacityPoint) -> tuple[str, ...]:
    shares = ("–" if recall is None else f"{recall:.1%}" for recall in (point.recall_a, point.recall_b))
    return (
        f"{point.alerts:,}",
        format_interval(point.cost_a),
        format_interval(point.cost_b),
        format_interval(point.saving),
        *shares,
    )


def groups_section(group_effects: GroupEffects) -> Markup:
    """Two tables: the comparisons of sensitive groups, and every group and slice by itself."""
    parts = [note(f"{group_effects.rows:,} matured events that both scored, each model at its own decisions.")]
    comparison_rows = [
        (f"{a.measure} of {a.column}", f"{a.group} against {a.reference}",
         f"{format_interval(a.difference)}: {a.status}", format_interval(b.difference), b.status)
        for a, b in zip(group_effects.a.comparisons, group_effects.b.comparisons, strict=True)
    ]  # fmt: skip
    if comparison_rows:
        head = ("measure", "groups", f"champion {group_effects.champion}", f"challenger {group_effects.challenger}", "")
        parts.append(table(head, comparison_rows, numeric=(2, 3), classed=4))
    # A line for each model: both beside each other would be wider than a sheet of paper.
    slice_rows = [
        row
        for a, b in zip(group_effects.a.slices, group_effects.b.slices, strict=True)
        for row in (
            (f"{a.column} {a.group}", f"{a.rows:,}", f"{a.positives:,}", *_figures(a, _ROLES[0])),
            ("", "", "", *_figures(b, _ROLES[1])),
        )
    ]
    return Markup("").join(
        [*parts, table(("group", "events", "positives", "", "flagged", "caught"), slice_rows, numeric=(1, 2, 4, 5))]
    )


def _figures(group_slice: Slice, role: str) -> tuple[str, str, str]:
    return role, format_interval(group_slice.flag_share), format_interval(group_slice.recall)


_ROLES = ("champion", "challenger")
