"""The parts of the drift page beside drift itself: performance, estimates, skew, fairness, data quality.

Each function gives one HTML section, or nothing where there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup

from monitoring.core.measured import Measurement
from monitoring.drift.data_quality import QualityReport
from monitoring.drift.feature_drift import PriorShift
from monitoring.drift.feature_skew import SkewReport
from monitoring.performance.fairness import FairnessReport
from monitoring.performance.over_time import SHOWN_FIGURES, CheckedEstimate, ConceptDrift, Estimate, GroupPerformance
from monitoring.reports.html import format_interval, format_number
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
    head = (groups[0].column, "rows", "positives", *(_figure_name(name, currency) for name in SHOWN_FIGURES))
    rows = [
        (
            group.group, f"{group.performance.rows:,}", f"{group.performance.positives:,}",
            *(format_interval(group.performance.metrics.get(name, Measurement(None))) for name in SHOWN_FIGURES),
        )
        for group in groups
    ]  # fmt: skip
    return table(head, rows, numeric=range(1, len(head)))


def concept_section(concept: ConceptDrift | None, prior: PriorShift | None) -> Markup:
    """Matured figures against the reference period, and the share of positives against the reference."""
    parts = []
    if concept is None:
        parts.append("Concept drift: too few matured days as champion to compare.")
    else:
        (first, last, days), (now_first, now_last, now_days) = concept.reference_days, concept.current_days
        loss = "performance is lost" if concept.lost else "no loss beyond its interval"
        parts.append(
            f"{now_days} days from {now_first} to {now_last} minus {days} days from {first} to {last}: {loss}."
        )
        rows = [(name.replace("_", " "), format_interval(figure)) for name, figure in concept.differences.items()]
        parts.append(table(("figure", "difference"), rows, numeric=(1,)))
    if prior is not None:
        share = f"{format_interval(prior.share)} of {prior.rows:,} matured rows"
        parts.append(
            f"Positives: {share}, {format_number(prior.reference)} in the reference, p {format_number(prior.p)}."
        )
    return section("Concept drift and prior shift", *parts)


def estimate_section(estimate: Estimate | None, checked_estimates: Sequence[CheckedEstimate]) -> Markup:
    """What is expected of days without labels, and how earlier expectations came out."""
    parts = ["From calibrated scores alone (CBPE). Blind to concept drift; nothing is decided on it."]
    if estimate is not None:
        rows = [
            (f"{d.day} (estimate)", f"{d.rows:,}", format_number(d.recall), format_number(d.precision))
            for d in estimate.days
        ]
        total_row = (
            "all (estimate)",
            f"{estimate.rows:,}",
            format_number(estimate.recall),
            format_number(estimate.precision),
        )
        parts.append(table(("day", "rows", "recall", "precision"), [*rows, total_row], numeric=(1, 2, 3)))
        if estimate.prior is not None:
            parts.append(
                f"Share of positives by black-box shift estimation: {format_number(estimate.prior)} (estimate)."
            )
    if checked_estimates:
        pairs = [
            (
                row.day if row.stored else f"{row.day} (computed now)",
                format_number(row.recall), format_interval(row.true_recall),
                format_number(row.precision), format_interval(row.true_precision),
            )
            for row in checked_estimates
        ]  # fmt: skip
        head = ("day", "estimated recall", "true recall", "estimated precision", "true precision")
        parts += [subtitle("Estimate against truth"), table(head, pairs, numeric=(1, 2, 3, 4))]
    return section("Estimate of days without labels", *parts) if len(parts) > 1 else Markup("")


def streams_section(streams: Sequence[Detection]) -> Markup:
    """What the change detectors say of the matured errors."""
    if not streams:
        return Markup("")
    rows = [(s.detector.replace("_", "-"), f"{s.values:,}", str(s.changes), _format_time(s.latest)) for s in streams]
    body = table(("detector", "errors", "changes", "latest"), rows, numeric=(1, 2))
    return section("Change detectors on matured errors", note(NO_ALERT), body)


def attribution_section(ndcg: float, rows: int, moved_features: Sequence[tuple[str, float, float]]) -> Markup:
    """How far the ranking of what the model leans on agrees with its reference."""
    table_rows = [
        (name, format_number(reference_value), format_number(window_value))
        for name, reference_value, window_value in moved_features
    ]
    text = f"nDCG {format_number(ndcg)} over {rows:,} rows; 1 is the same order. {NO_ALERT}"
    head = ("feature", "mean |SHAP|, reference", "mean |SHAP|, window")
    return section("Attribution drift", text, table(head, table_rows, numeric=(1, 2)))


def skew_section(skew: SkewReport | None) -> Markup:
    """Served features against the same features computed again."""
    if skew is None:
        return Markup("")
    text = f"{skew.different_rows:,} of {skew.rows:,} rows differ in any bit."
    rows = [(f.name, f"{f.different:,}", format_number(f.share), format_number(f.largest)) for f in skew.features]
    head = ("feature", "rows", "share", "largest difference")
    return section("Feature skew", text, table(head, rows, numeric=(1, 2, 3)) if rows else Markup(""))


def fairness_section(fairness: FairnessReport | None) -> Markup:
    """Decisions by group of each declared column, and the comparisons that have limits."""
    if fairness is None:
        return Markup("")
    slices = [
        (
            s.column, s.group, f"{s.rows:,}", f"{s.positives:,}", format_interval(s.flag_share),
            format_interval(s.recall),
            format_interval(s.precision),
        )
        for s in fairness.slices
    ]  # fmt: skip
    head = ("column", "group", "rows", "positives", "flagged", "recall", "precision")
    title, by_group = "Fairness, latest matured week", table(head, slices, numeric=range(2, 7))
    if fairness.comparisons:
        rows = [
            (
                c.measure, c.column, f"{c.group} against {c.reference}", format_interval(c.difference),
                format_number(c.limit),
                format_number(c.p), c.status, c.detail,
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
    freshness, volume = quality.freshness, quality.volume
    age = "no event" if freshness.age_s is None else f"newest event {freshness.age_s / 60:,.0f} min old"
    usual_text = "nothing to hold it against" if volume.usual is None else f"usual for its weekday {volume.usual:,.0f}"
    duplicates_text = "" if quality.new_duplicates is None else f"{quality.new_duplicates:,} since the last check"
    rows = [
        ("freshness", freshness.status, f"{age}; unknown from {freshness.limit_s / 60:,.0f} min on"),
        (f"volume of {volume.day}", volume.status, f"{volume.rows:,} events; {usual_text}"),
        ("duplicates", f"{quality.duplicates:,}", duplicates_text),
        ("quarantine", f"{sum(quality.quarantine.values()):,}", ""),
    ]
    for reason, count in quality.quarantine.items():
        new_count = quality.new_quarantine.get(reason, 0)
        rows.append(("in quarantine", f"{count:,}", f"{reason}; {new_count:,} since the last check"))
    return section("Data quality", table(("", "", ""), rows))


def _format_time(at: datetime | None) -> str:
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _figure_name(metric: str, currency: str) -> str:
    return f"cost, {currency}" if metric == "cost" else metric.replace("_", " ")
