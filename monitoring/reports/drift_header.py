"""Our own verdict over Evidently's page: what drifted, and why its figures may say otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from monitoring.drift.feature_drift import DriftAlarm, DriftReport, FeatureDrift
from monitoring.policies import DriftPolicy
from monitoring.reports.html import number
from monitoring.reports.render import render, table

DEFAULT = DriftPolicy()
DISAGREEMENT = (
    "Evidently's PSI may differ from ours, and only ours decides. Evidently bins reference and current rows pooled, "
    "in bins of equal width, and leaves missing values out; so its figure moves with the window, one large amount can "
    "put nearly all rows into one bin, and half the values missing looks like no drift. Ours uses the quantile bins "
    "frozen with the model, with a bin for missing values, and counts only what exceeds chance at this sample size."
)


def features_of(report: DriftReport | None) -> Sequence[FeatureDrift]:
    """The features of a finding; none without one."""
    return report.features if report is not None else ()


def _theirs(psi: float, policy: DriftPolicy) -> str:
    return "severe" if psi >= policy.psi_severe else "warning" if psi >= policy.psi_warning else "none"


def bands_differ(feature: FeatureDrift, theirs: float, policy: DriftPolicy) -> bool:
    """Whether Evidently's PSI would have another band than ours, by the bands of the same policy."""
    return feature.band != _theirs(theirs, policy)


def header_of(
    title: str,
    report: DriftReport | None,
    alarm: DriftAlarm | None,
    values: Mapping[str, float],
    left_out: Sequence[str],
    rows: tuple[int, int],
    sections: Sequence[Markup] = (),
    policy: DriftPolicy = DEFAULT,
) -> Markup:
    """Our own verdict, and why Evidently's figures may say otherwise."""
    shown = report is not None and bool(report.features)
    return render(
        "drift_header.html", title=title, verdict=_verdict(report, alarm), sections=sections, rows=rows,
        table=_table(report, values) if report is not None and shown else "",
        reasons=_reasons(report, values, policy) if report is not None and shown else (),
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
    named = f" ({', '.join(alarm.features)})" if alarm.features else ""
    return f"{text} Over {alarm.windows} windows: {alarm.band}{named}."


def _table(report: DriftReport, values: Mapping[str, float]) -> Markup:
    rows = [_row(f, values.get(f.name)) for f in report.ranked]
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
        f"{f.name}: {f.band} here, {_theirs(values[f.name], policy)} there: {_why(f, values[f.name], policy)}"
        for f in report.ranked
        if f.name in values and bands_differ(f, values[f.name], policy)
    ]


def _row(f: FeatureDrift, theirs: float | None) -> tuple[str, ...]:
    remarks = [*(["constant"] if f.status == "constant" else []), *([] if f.raises else ["calendar: raises nothing"])]
    name = f"{f.name} ({', '.join(remarks)})" if remarks else f.name
    importance = "–" if f.importance is None else f"{f.importance:.1%}"
    unseen = "–" if f.unseen_share is None else f"{f.unseen_share:.1%}"
    return (
        name, f.band, importance, number(f.psi), number(f.excess), number(f.adjusted_p), number(f.ks),
        f"{f.missing_share or 0.0:.1%}", unseen, number(theirs),
    )  # fmt: skip


def _why(f: FeatureDrift, theirs: float, policy: DriftPolicy) -> str:
    """Why the two bands of one feature differ, from what is known of it."""
    excess = f.excess or 0.0
    if theirs < (f.psi or 0.0):
        then, now = f.reference_missing_share or 0.0, f.missing_share or 0.0
        if abs(now - then) >= 0.02:
            return f"missing values went from {then:.1%} to {now:.1%}, and Evidently leaves them out"
        if f.unseen_share:
            return f"{f.unseen_share:.1%} are of unseen levels, which have a bin of their own here"
        if excess < policy.psi_warning and (f.ks or 0.0) >= policy.ks_warning:
            return "here the Kolmogorov-Smirnov distance warns"
        return "its bins of equal width over both samples put most rows into few bins, and the shift lies inside them"
    if not f.raises or f.status == "constant":
        return "ours is compared with the same weekdays of the reference, its with all of them"
    if (f.p or 0.0) >= policy.alpha:
        return "in the frozen bins the shift is no more than chance gives at this number of rows"
    if f.band == "none" and f.psi is not None and f.psi - excess > excess:
        return "most of it is what chance gives at this number of rows"
    return "its bins are drawn anew over both samples, and counts in thin bins at the ends weigh much"
