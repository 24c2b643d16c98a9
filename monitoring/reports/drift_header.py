"""Our own verdict over Evidently's page: what drifted, and why its figures may say otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from monitoring.drift.feature_drift import DriftAlarm, DriftReport, FeatureDrift
from monitoring.policies import DriftPolicy
from monitoring.reports.html import format_number
from monitoring.reports.render import render, table

DEFAULT_POLICY = DriftPolicy()
DISAGREEMENT = (
    "Evidently's PSI may differ from ours, and only ours decides. Evidently bins reference and current rows pooled, "
    "in bins of equal width, and leaves missing values out; so its figure moves with the window, one large amount can "
    "put nearly all rows into one bin, and half the values missing looks like no drift. Ours uses the quantile bins "
    "frozen with the model, with a bin for missing values, and counts only what exceeds chance at this sample size."
)


def report_features(report: DriftReport | None) -> Sequence[FeatureDrift]:
    """The features of a finding; none without one."""
    return report.features if report is not None else ()


def _evidently_band(evidently_psi: float, policy: DriftPolicy) -> str:
    return (
        "severe" if evidently_psi >= policy.psi_severe else "warning" if evidently_psi >= policy.psi_warning else "none"
    )


def bands_differ(feature: FeatureDrift, evidently_psi: float, policy: DriftPolicy) -> bool:
    """Whether Evidently's PSI would have another band than ours, by the bands of the same policy."""
    return feature.band != _evidently_band(evidently_psi, policy)


@dataclass(frozen=True)
class DriftHeading:
    """What stands over Evidently's part of a page.

    Attributes:
        title: of the page.
        report, alarm: our own findings.
        sections: further parts, as HTML.
        policy: its bands are what Evidently's PSI is held against.
    """

    title: str = "Drift report"
    report: DriftReport | None = None
    alarm: DriftAlarm | None = None
    sections: Sequence[Markup] = ()
    policy: DriftPolicy = DEFAULT_POLICY


def drift_header(
    heading: DriftHeading, values: Mapping[str, float], left_out: Sequence[str], rows: tuple[int, int]
) -> Markup:
    """Our own verdict, and why Evidently's figures may say otherwise."""
    report = heading.report
    shown = report is not None and bool(report.features)
    return render(
        "drift_header.html", title=heading.title, verdict=_verdict(report, heading.alarm), sections=heading.sections,
        rows=rows, table=_table(report, values) if report is not None and shown else "",
        reasons=_reasons(report, values, heading.policy) if report is not None and shown else (),
        sampled=bool(values), disagreement=DISAGREEMENT, left_out=left_out,
    )  # fmt: skip


def _verdict(report: DriftReport | None, alarm: DriftAlarm | None) -> str:
    if report is None:
        return "No finding of our own was given."
    if report.status == "insufficient_data":
        return f"Insufficient data: {report.rows:,} rows in the window."
    text = f"This window: {report.band}, {report.rows:,} rows, {(report.share or 0.0):.0%} of features drifted."
    if alarm is None:
        return text
    if alarm.band is None:
        return f"{text} Too few windows for an alarm."
    feature_names = f" ({', '.join(alarm.features)})" if alarm.features else ""
    return f"{text} Over {alarm.windows} windows: {alarm.band}{feature_names}."


def _table(report: DriftReport, values: Mapping[str, float]) -> Markup:
    rows = [_row(feature, values.get(feature.name)) for feature in report.ranked]
    if report.score is not None:
        rows.append(_row(report.score, None))
    head = (
        "feature", "band", "importance", "PSI", "above chance", "adjusted p", "KS", "missing", "unseen",
        "Evidently's PSI",
    )  # fmt: skip
    return table(head, rows, numeric=range(2, 10), classed=1)


def _reasons(report: DriftReport, values: Mapping[str, float], policy: DriftPolicy) -> list[str]:
    """Why Evidently's band is another, for each feature of which it is."""
    return [
        f"{f.name}: {f.band} here, {_evidently_band(values[f.name], policy)} there: "
        f"{_explain_difference(f, values[f.name], policy)}"
        for f in report.ranked
        if f.name in values and bands_differ(f, values[f.name], policy)
    ]


def _row(f: FeatureDrift, evidently_psi: float | None) -> tuple[str, ...]:
    remarks = [*(["constant"] if f.status == "constant" else []), *([] if f.raises else ["calendar: raises nothing"])]
    name = f"{f.name} ({', '.join(remarks)})" if remarks else f.name
    importance = "–" if f.importance is None else f"{f.importance:.1%}"
    unseen = "–" if f.unseen_share is None else f"{f.unseen_share:.1%}"
    return (
        name, f.band, importance, format_number(f.psi), format_number(f.excess),
        format_number(f.adjusted_p), format_number(f.ks),
        f"{f.missing_share or 0.0:.1%}", unseen, format_number(evidently_psi),
    )  # fmt: skip


def _explain_difference(feature: FeatureDrift, evidently_psi: float, policy: DriftPolicy) -> str:
    """Why the two bands of one feature differ, from what is known of it."""
    excess = feature.excess or 0.0
    if evidently_psi < (feature.psi or 0.0):
        reference_share, share = feature.reference_missing_share or 0.0, feature.missing_share or 0.0
        if abs(share - reference_share) >= 0.02:
            return f"missing values went from {reference_share:.1%} to {share:.1%}, and Evidently leaves them out"
        if feature.unseen_share:
            return f"{feature.unseen_share:.1%} are of unseen levels, which have a bin of their own here"
        if excess < policy.psi_warning and (feature.ks or 0.0) >= policy.ks_warning:
            return "here the Kolmogorov-Smirnov distance warns"
        return "its bins of equal width over both samples put most rows into few bins, and the shift lies inside them"
    if not feature.raises or feature.status == "constant":
        return "ours is compared with the same weekdays of the reference, its with all of them"
    if (feature.p or 0.0) >= policy.alpha:
        return "in the frozen bins the shift is no more than chance gives at this number of rows"
    if feature.band == "none" and feature.psi is not None and feature.psi - excess > excess:
        return "most of it is what chance gives at this number of rows"
    return "its bins are drawn anew over both samples, and counts in thin bins at the ends weigh much"
