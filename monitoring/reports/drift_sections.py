"""The parts of the drift page beside drift itself: performance, estimates, skew, fairness, data quality.

Each function gives one HTML section, or nothing where there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup

from monitoring.core.measured import Measured
from monitoring.drift.data_quality import QualityReport
from monitoring.drift.feature_drift import PriorShift
from monitoring.drift.feature_skew import SkewReport
from monitoring.performance.fairness import FairnessReport
from monitoring.performance.over_time import SHOWN, ConceptDrift, Estimate, EstimateChecked, GroupPerformance
from monitoring.reports.html import interval, number
from monitoring.reports.render import note, section, subtitle, table
from monitoring.stats.change_detection import Detection

NO_ALERT = "A line of this report; it starts nothing by itself."


def performance_section(
    daily: Sequence[GroupPerformance], segments: Sequence[GroupPerformance], currency: str
) -> Markup:
    """Matured figures of each day and of each segment."""
    if not daily:
        return section("Matured performance", "No day has matured.")
    parts = [_groups(daily, currency)]
    for column in dict.fromkeys(group.column for group in segments):
        parts.append(subtitle(f"By {column}"))
        parts.append(_groups([group for group in segments if group.column == column], currency))
    return section("Matured performance", *parts)


def _groups(groups: Sequence[GroupPerformance], currency: str) -> Markup:
    head = (groups[0].column, "rows", "positives", *(_named(name, currency) for name in SHOWN))
    rows = [
        (
            g.group, f"{g.performance.rows:,}", f"{g.performance.positives:,}",
            *(interval(g.performance.metrics.get(name, Measured(None))) for name in SHOWN),
        )
        for g in groups
    ]  # fmt: skip
    return table(head, rows, numeric=range(1, len(head)))


def concept_section(concept: ConceptDrift | None, prior: PriorShift | None) -> Markup:
    """Matured figures against the reference period, and the share of positives against the reference."""
    parts = []
    if concept is None:
        parts.append("Concept drift: too few matured days in office to compare.")
    else:
        (first, last, days), (now_first, now_last, now_days) = concept.reference_days, concept.current_days
        said = "performance is lost" if concept.lost else "no loss beyond its interval"
        parts.append(
            f"{now_days} days from {now_first} to {now_last} minus {days} days from {first} to {last}: {said}."
        )
        rows = [(name.replace("_", " "), interval(figure)) for name, figure in concept.differences.items()]
        parts.append(table(("figure", "difference"), rows, numeric=(1,)))
    if prior is not None:
        share = f"{interval(prior.share)} of {prior.rows:,} matured rows"
        parts.append(f"Positives: {share}, {number(prior.reference)} in the reference, p {number(prior.p)}.")
    return section("Concept drift and prior shift", *parts)


def estimate_section(estimate: Estimate | None, checked: Sequence[EstimateChecked]) -> Markup:
    """What is expected of days without labels, and how earlier expectations came out."""
    parts = ["From calibrated scores alone (CBPE). Blind to concept drift; nothing is decided on it."]
    if estimate is not None:
        rows = [(f"{d.day} (estimate)", f"{d.rows:,}", number(d.recall), number(d.precision)) for d in estimate.days]
        whole = ("all (estimate)", f"{estimate.rows:,}", number(estimate.recall), number(estimate.precision))
        parts.append(table(("day", "rows", "recall", "precision"), [*rows, whole], numeric=(1, 2, 3)))
        if estimate.prior is not None:
            parts.append(f"Share of positives by black-box shift estimation: {number(estimate.prior)} (estimate).")
    if checked:
        pairs = [
            (
                one.day if one.stored else f"{one.day} (computed now)", number(one.recall), interval(one.true_recall),
                number(one.precision), interval(one.true_precision),
            )
            for one in checked
        ]  # fmt: skip
        head = ("day", "estimated recall", "true recall", "estimated precision", "true precision")
        parts += [subtitle("Estimate against truth"), table(head, pairs, numeric=(1, 2, 3, 4))]
    return section("Estimate of days without labels", *parts) if len(parts) > 1 else Markup("")


def streams_section(streams: Sequence[Detection]) -> Markup:
    """What the change detectors say of the matured errors."""
    if not streams:
        return Markup("")
    rows = [(s.detector.replace("_", "-"), f"{s.values:,}", str(s.changes), _time(s.latest)) for s in streams]
    body = table(("detector", "errors", "changes", "latest"), rows, numeric=(1, 2))
    return section("Change detectors on matured errors", note(NO_ALERT), body)


def attribution_section(ndcg: float, rows: int, moved: Sequence[tuple[str, float, float]]) -> Markup:
    """How far the ranking of what the model leans on agrees with its reference."""
    found = [(name, number(then), number(now)) for name, then, now in moved]
    text = f"nDCG {number(ndcg)} over {rows:,} rows; 1 is the same order. {NO_ALERT}"
    head = ("feature", "mean |SHAP|, reference", "mean |SHAP|, window")
    return section("Attribution drift", text, table(head, found, numeric=(1, 2)))


def skew_section(skew: SkewReport | None) -> Markup:
    """Served features against the same features computed again."""
    if skew is None:
        return Markup("")
    text = f"{skew.different_rows:,} of {skew.rows:,} rows differ in any bit."
    rows = [(f.name, f"{f.different:,}", number(f.share), number(f.largest)) for f in skew.features]
    head = ("feature", "rows", "share", "largest difference")
    return section("Feature skew", text, table(head, rows, numeric=(1, 2, 3)) if rows else Markup(""))


def fairness_section(fairness: FairnessReport | None) -> Markup:
    """Decisions by group of each declared column, and the comparisons that have limits."""
    if fairness is None:
        return Markup("")
    slices = [
        (
            s.column, s.group, f"{s.rows:,}", f"{s.positives:,}", interval(s.flag_share), interval(s.recall),
            interval(s.precision),
        )
        for s in fairness.slices
    ]  # fmt: skip
    head = ("column", "group", "rows", "positives", "flagged", "recall", "precision")
    title, by_group = "Fairness, latest matured week", table(head, slices, numeric=range(2, 7))
    if fairness.comparisons:
        rows = [
            (
                c.measure, c.column, f"{c.group} against {c.reference}", interval(c.difference), number(c.limit),
                number(c.p), c.status, c.detail,
            )
            for c in fairness.comparisons
        ]  # fmt: skip
        names = ("measure", "column", "groups", "difference or ratio", "limit", "adjusted p", "", "")
        compared = table(names, rows, numeric=(3, 4, 5), classed=6)
        return section(title, f"Fairness: {fairness.status}.", compared, by_group)
    return section(title, by_group)


def quality_section(quality: QualityReport | None) -> Markup:
    """Freshness, volume, duplicates and quarantine."""
    if quality is None:
        return Markup("")
    fresh, volume = quality.freshness, quality.volume
    age = "no event" if fresh.age_s is None else f"newest event {fresh.age_s / 60:,.0f} min old"
    usual = "nothing to hold it against" if volume.usual is None else f"usual for its weekday {volume.usual:,.0f}"
    again = "" if quality.new_duplicates is None else f"{quality.new_duplicates:,} since the last check"
    rows = [
        ("freshness", fresh.status, f"{age}; unknown from {fresh.limit_s / 60:,.0f} min on"),
        (f"volume of {volume.day}", volume.status, f"{volume.rows:,} events; {usual}"),
        ("duplicates", f"{quality.duplicates:,}", again),
        ("quarantine", f"{sum(quality.quarantine.values()):,}", ""),
    ]
    for reason, count in quality.quarantine.items():
        new = quality.new_quarantine.get(reason, 0)
        rows.append(("in quarantine", f"{count:,}", f"{reason}; {new:,} since the last check"))
    return section("Data quality", table(("", "", ""), rows))


def _time(at: datetime | None) -> str:
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _named(metric: str, currency: str) -> str:
    return f"cost, {currency}" if metric == "cost" else metric.replace("_", " ")
