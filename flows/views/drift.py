"""The lines of a drift check that labels, estimates, detectors and the data themselves give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.core.measured import Measurement

if TYPE_CHECKING:
    from flows.steps.drift.check import DriftFinding
    from flows.steps.drift.over_time import Aftermath
    from monitoring.drift.data_quality import QualityReport

Figures = list[tuple[str, object]]


def drift_figures(finding: DriftFinding) -> Figures:
    """Short figures for the terminal and the run's artifact; the page holds the tables."""
    figures: Figures = []
    if finding.aftermath is not None:
        figures += _aftermath(finding.aftermath)
    if finding.fairness is not None:
        figures.append(("fairness", finding.fairness.status))
    if finding.attribution is not None:
        figures.append(("attribution nDCG", finding.attribution.ndcg))
    if finding.quality is not None:
        figures += _quality(finding.quality)
    return figures


def _aftermath(aftermath: Aftermath) -> Figures:
    figures: Figures = []
    if (concept := aftermath.concept) is not None:
        name = "matured loss against the first days" if concept.lost else "matured change against the first days"
        figures += [(f"{name}, {metric.replace('_', ' ')}", _text(m)) for metric, m in concept.differences.items()]
    if (prior := aftermath.prior) is not None:
        figures.append(("share of positives, p against the reference", prior.p))
    if (estimate := aftermath.estimate) is not None:
        figures.append((f"estimate (CBPE) of {len(estimate.days)} days without labels, recall", estimate.recall))
        figures.append((f"estimate (CBPE) of {len(estimate.days)} days without labels, precision", estimate.precision))
    for check in aftermath.checked[-1:]:
        text = f"estimated {_number(check.recall)}, true {_text(check.true_recall)}"
        figures.append((f"estimate against truth, recall of {check.day}", text))
    if aftermath.streams:
        counts = ", ".join(f"{s.detector.replace('_', '-')} {s.changes}" for s in aftermath.streams)
        figures.append(("changes in the error stream (no alert)", counts))
    return figures


def _quality(quality: QualityReport) -> Figures:
    volume = quality.volume
    against = "" if volume.ratio is None else f", {volume.ratio:.0%} of the usual"
    figures: Figures = [
        ("freshness", quality.freshness.status),
        (f"volume of {volume.day}", f"{volume.status}: {volume.rows:,} events{against}"),
        ("duplicates", quality.duplicates),
    ]
    if quality.quarantine:
        figures.append(("quarantine", ", ".join(f"{reason} {n:,}" for reason, n in quality.quarantine.items())))
    return figures


def _text(m: Measurement) -> str:
    return _number(m.value) if m.low is None else f"{_number(m.value)} ({_number(m.low)} to {_number(m.high)})"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
