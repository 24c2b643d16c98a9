"""HTML pages beside the figures of a drift check or a comparison."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup

from bentos.usecase.definition import UseCase
from flows.errors import SnapshotError
from flows.snapshots.store import SnapshotStore
from flows.steps.drift.check import DriftFinding, DriftInputs
from flows.steps.evaluation.level_names import category_levels, name_levels
from flows.workspace.step import step
from monitoring.errors import ReportFailed
from monitoring.reports import drift_sections as pages
from monitoring.reports.render import paragraph

if TYPE_CHECKING:
    from bentos.model.scoring_model import ScoringModel

REFERENCE_ROWS = 20_000
log = logging.getLogger("incumbent.flows")


@step(name="write the page", run_name="write the drift page of {finding.model}", tags=("files",))
def write_drift_page(
    snapshots: SnapshotStore,
    folder: Path,
    usecase: UseCase,
    model: ScoringModel,
    finding: DriftFinding,
    inputs: DriftInputs,
) -> Path | None:
    """Write the Evidently page of the newest window; none where it cannot be made, for it decides nothing.

    A window with too few rows has a page without Evidently's part, and so has one whose reference rows are gone.
    """
    from monitoring.reports.evidently_report import DriftHeading, DriftPage, write_drift_report

    if finding.latest.window is None:
        return None
    path = folder / "drift" / f"{finding.model.replace('/', '-')}-{finding.as_of:%Y%m%dT%H%M}.html"
    levels, names = category_levels(model), model.plan.names
    reference, note = _reference(snapshots, model)
    sample = inputs.windows[-1].sample if finding.latest.status == "ok" else inputs.windows[-1].sample[:0]
    heading = DriftHeading(
        f"Drift of {finding.model} as of {finding.as_of:%Y-%m-%d %H:%M}",
        finding.latest,
        finding.alarm,
        [*note, *page_sections(finding, usecase)],
        usecase.drift,
    )
    page = DriftPage(
        name_levels(reference, levels),
        name_levels(pd.DataFrame(sample, columns=list(names)), levels),
        numerical=[name for name in names if name not in levels],
        categorical=list(levels),
        heading=heading,
        matured=inputs.answers.matured(),
    )
    try:
        return write_drift_report(path, page).path
    except ReportFailed as exc:
        log.warning("no drift page: %s", exc)
        return None


def _reference(snapshots: SnapshotStore, model: ScoringModel) -> tuple[pd.DataFrame, list[Markup]]:
    """The rows that the model was fitted on; none, and a part of the page that says so, where they are gone."""
    try:
        return training_rows(snapshots, model), []
    except SnapshotError as exc:
        log.warning("a drift page without Evidently's part: %s", exc)
        note = f"Evidently has no part here, for the rows that the model was fitted on are gone: {exc}"
        return pd.DataFrame(columns=list(model.plan.names), dtype="float32"), [paragraph(f"{note}.")]


def page_sections(finding: DriftFinding, usecase: UseCase) -> list[Markup]:
    """Everything of the check that is not drift of features, as parts of the page."""
    parts = [pages.quality_section(finding.quality)]
    if (aftermath := finding.aftermath) is not None:
        parts += [
            pages.performance_section(aftermath.daily, aftermath.segments, usecase.cost.currency),
            pages.concept_section(aftermath.concept, aftermath.prior),
            pages.estimate_section(aftermath.estimate, aftermath.checked),
        ]
    parts.append(pages.fairness_section(finding.fairness))
    if (attribution := finding.attribution) is not None:
        parts.append(pages.attribution_section(attribution.ndcg, attribution.rows, attribution.moved))
    parts.append(pages.skew_section(finding.skew))
    if aftermath is not None:
        parts.append(pages.streams_section(aftermath.streams))
    return [part for part in parts if part]


def training_rows(snapshots: SnapshotStore, model: ScoringModel, rows: int = REFERENCE_ROWS) -> pd.DataFrame:
    """Features of the rows that the model was fitted on, at most so many, built again from its snapshot.

    Raises:
        SnapshotMissing: its data is gone.
        SnapshotCorrupt: its data was changed.
    """
    metadata = model.metadata
    data = snapshots.load(metadata.data_digest)
    features = model.plan.build(data.events, data.revisions, datetime.fromisoformat(metadata.as_of))
    times = data.events[model.plan.event_time]
    start, end = pd.Timestamp(metadata.training_start), pd.Timestamp(metadata.training_end)
    training_features = features[((times >= start) & (times < end)).to_numpy()]
    return training_features.sample(min(rows, len(training_features)), random_state=metadata.seed).sort_index()
