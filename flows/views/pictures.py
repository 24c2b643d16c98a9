"""Pictures that open the summary of a run: money of a training, drift of each window, saving of each day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.workspace.outcome import Picture
from monitoring.reports.html import saving_chart
from monitoring.reports.svg_charts import ChartLine, line_chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bentos.model.scoring_model import ScoringModel
    from monitoring.comparison.paired import PairedResult
    from monitoring.drift.feature_drift import DriftReport


def cost_picture(model: ScoringModel) -> Picture | None:
    """Draw what the fold that chose a model's threshold would have cost at others; none for a model without a curve."""
    curve = model.cost_curve
    if curve is None or not curve.cost:
        return None
    labels = [f"threshold {value:.3g}" for value in curve.threshold]
    place = curve.point_index(model.threshold.value)
    used = [cost if n == place else None for n, cost in enumerate(curve.cost)]
    title = (
        f"Cost of the rows that chose the threshold, at falling ones; the dot is in use, {model.threshold.value:.4g}"
    )
    return Picture(title, line_chart([ChartLine("cost", curve.cost), ChartLine("in use", used)], labels))


def drift_picture(reports: Sequence[DriftReport]) -> Picture | None:
    """Draw the share of features that moved in each window; none while no window has enough rows."""
    if all(report.share is None for report in reports):
        return None
    labels = [f"{report.window.end:%Y-%m-%d}" if report.window else "" for report in reports]
    title = "Share of the features that moved, in each window up to its last day"
    return Picture(title, line_chart([ChartLine("share", [report.share for report in reports])], labels, zero=True))


def saving_picture(result: PairedResult) -> Picture | None:
    """Draw what the challenger saves a day, with its anytime-valid bounds; none without a matured day."""
    if not result.series:
        return None
    title = (
        f"Money that {result.challenger} saves a day beside {result.champion}, in {result.currency}, with its bounds"
    )
    return Picture(title, saving_chart(result))
