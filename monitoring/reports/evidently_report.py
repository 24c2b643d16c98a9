"""Drift reports for people: Evidently's HTML under a header that states our own verdict.

The only module that imports Evidently, and only inside functions: its import takes seconds. Nothing
is decided from its figures; :mod:`monitoring.drift.feature_drift` decides.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from monitoring.errors import ReportFailed
from monitoring.reports.drift_header import DriftHeading, bands_differ, drift_header, report_features
from monitoring.reports.html import STYLE, write_comparison_report, write_page, write_text
from monitoring.reports.render import render

__all__ = [
    "DriftHeading", "DriftPage", "DriftReportInfo", "evidently_default", "evidently_psi", "write_comparison_report",
    "write_drift_report",
]  # fmt: skip

MAX_ROWS = 20_000


@dataclass(frozen=True)
class DriftReportInfo:
    """What was written.

    Attributes:
        path: the page.
        rows: rows of reference and current in Evidently's part.
        left_out: columns without any value in one of the two, which Evidently cannot take.
        disagree: features whose band differs between Evidently's PSI and ours.
        tests: Evidently's own tests by outcome, for example ``{"SUCCESS": 9, "FAIL": 2}``.
    """

    path: Path
    rows: tuple[int, int]
    left_out: tuple[str, ...]
    disagree: tuple[str, ...]
    tests: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class DriftPage:
    """What a page is made of.

    Attributes:
        reference, current: rows of the reference period and of the window.
        numerical, categorical: feature columns of both tables.
        heading: our own verdict.
        target, prediction, score: columns with 0/1 label, 0/1 decision and score, for the part on
            classification quality; it is left out unless both tables hold both classes.
        matured: rows of which the truth is known (``y decision score``), for a part on classification
            quality of its own: the rows of the window are mostly too young to have labels. Left out
            where they hold one class.
    """

    reference: pd.DataFrame
    current: pd.DataFrame
    numerical: Sequence[str]
    categorical: Sequence[str] = ()
    heading: DriftHeading = field(default_factory=DriftHeading)
    target: str | None = None
    prediction: str | None = None
    score: str | None = None
    matured: pd.DataFrame | None = None


def write_drift_report(path: Path, page: DriftPage, *, max_rows: int = MAX_ROWS, seed: int = 7) -> DriftReportInfo:
    """Write one self-contained page on a bounded, seeded sample.

    Args:
        path: the HTML file.
        page: what it is made of.
        max_rows: rows of each table that Evidently sees.
        seed: of the sample.

    Raises:
        ReportFailed: when Evidently cannot make the report; the cause is attached.
    """
    heading, samples = page.heading, [_sample(frame, max_rows, seed) for frame in (page.reference, page.current)]
    usable, left_out = _split_usable(samples, [*page.numerical, *page.categorical])
    rows = (len(samples[0]), len(samples[1]))
    if not usable:
        body = drift_header(heading, {}, left_out, rows)
        return DriftReportInfo(write_page(path, heading.title, body), rows, left_out, (), {})
    quality = _quality_columns(samples, page.target, page.prediction, page.score)
    columns = [[c for c in names if c in usable] for names in (page.numerical, page.categorical)]
    try:
        html, values, tests = _run_evidently(samples, columns[0], columns[1], quality)
        matured_section = _matured_quality(page.matured, max_rows, seed)
    except Exception as exc:
        raise ReportFailed(f"Evidently could not make {path.name}: {type(exc).__name__}: {exc}") from exc
    header = drift_header(heading, values, left_out, rows)
    text = html.replace("<body>", f"<body><style>{STYLE}</style>{header}", 1)
    head, body_end, rest = text.rpartition("</body>")
    written = write_text(path, f"{head}{matured_section}{body_end}{rest}")
    compared_features = [f for f in report_features(heading.report) if f.name in values]
    disagreeing = tuple(f.name for f in compared_features if bands_differ(f, values[f.name], heading.policy))
    return DriftReportInfo(written, rows, left_out, disagreeing, tests)


def evidently_psi(reference: pd.DataFrame, current: pd.DataFrame) -> dict[str, float]:
    """PSI of each number column as Evidently's data-drift preset finds it: the other side of a benchmark.

    Raises:
        ReportFailed: when Evidently cannot.
    """
    return _column_drift(reference, current, num_method="psi")


def evidently_default(reference: pd.DataFrame, current: pd.DataFrame) -> dict[str, float]:
    """The drift of each number column by the test that Evidently chooses by itself.

    With more than 1,000 reference rows that is the Wasserstein distance in standard deviations.

    Raises:
        ReportFailed: when Evidently cannot.
    """
    return _column_drift(reference, current)


def _column_drift(reference: pd.DataFrame, current: pd.DataFrame, **settings: Any) -> dict[str, float]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from evidently import DataDefinition, Dataset, Report
            from evidently.presets import DataDriftPreset

            definition = DataDefinition(numerical_columns=list(reference.columns))
            datasets = [Dataset.from_pandas(frame, definition) for frame in (current, reference)]
            return _values(Report([DataDriftPreset(**settings)]).run(*datasets).dict())
    except Exception as exc:
        raise ReportFailed(f"Evidently could not compare the tables: {type(exc).__name__}: {exc}") from exc


def _sample(frame: pd.DataFrame, rows: int, seed: int) -> pd.DataFrame:
    """At most ``rows`` rows, in their own order."""
    if len(frame) <= rows:
        return frame.reset_index(drop=True)
    positions = np.sort(np.random.default_rng(seed).choice(len(frame), rows, replace=False))
    return frame.iloc[positions].reset_index(drop=True)


def _split_usable(samples: Sequence[pd.DataFrame], columns: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Columns with a value in both tables, and the rest."""
    usable = [c for c in columns if all(c in s.columns and bool(s[c].notna().any()) for s in samples)]
    return usable, tuple(c for c in columns if c not in usable)


def _quality_columns(
    samples: Sequence[pd.DataFrame], target: str | None, prediction: str | None, score: str | None
) -> dict[str, str]:
    """Columns of the classification part, empty where it cannot be made."""
    if target is None or prediction is None or score is None:
        return {}
    names = {"target": target, "prediction_labels": prediction, "prediction_probas": score}
    for sample in samples:
        if any(n not in sample.columns for n in names.values()) or sample[target].nunique() < 2:
            return {}
    return names


def _run_evidently(
    samples: Sequence[pd.DataFrame], numerical: list[str], categorical: list[str], quality: dict[str, str]
) -> tuple[str, dict[str, float], dict[str, int]]:
    """Evidently's page, its PSI of each column and its test outcomes."""
    with warnings.catch_warnings():
        # Its dependencies warn about their own future and about constant columns; neither is news here.
        warnings.simplefilter("ignore")
        from evidently import BinaryClassification, DataDefinition, Dataset, Report
        from evidently.presets import ClassificationPreset, DataDriftPreset, DataSummaryPreset

        columns = [*numerical, *categorical]
        definition = DataDefinition(
            numerical_columns=[*numerical, *(v for k, v in quality.items() if k == "prediction_probas")],
            categorical_columns=[*categorical, *(v for k, v in quality.items() if k != "prediction_probas")],
            classification=[BinaryClassification(**quality, pos_label=1)] if quality else None,
        )
        presets: list[Any] = [DataDriftPreset(columns=columns, num_method="psi", cat_method="psi")]
        presets.append(DataSummaryPreset(columns=columns))
        if quality:
            presets.append(ClassificationPreset())
        used_columns = [*columns, *quality.values()]
        reference, current = (Dataset.from_pandas(s[used_columns], definition) for s in samples)
        snapshot = Report(presets, include_tests=True).run(current, reference)
        results = snapshot.dict()
        return snapshot.get_html_str(as_iframe=False), _values(results), _tests(results)


def _matured_quality(matured: pd.DataFrame | None, max_rows: int, seed: int) -> Markup:
    """Evidently's page on classification quality of matured rows, in a frame; a note where there is none."""
    if matured is None:
        return Markup("")
    if matured.empty or matured["y"].nunique() < 2:
        return render("matured_quality.html", frame=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import BinaryClassification, DataDefinition, Dataset, Report
        from evidently.presets import ClassificationPreset

        names = {"target": "y", "prediction_labels": "decision", "prediction_probas": "score"}
        rows = _sample(matured[list(names.values())], max_rows, seed)
        rows = rows.astype({"y": int, "decision": int, "score": float})
        definition = DataDefinition(
            numerical_columns=["score"],
            categorical_columns=["y", "decision"],
            classification=[BinaryClassification(**names, pos_label=1)],
        )
        snapshot = Report([ClassificationPreset()], include_tests=True).run(Dataset.from_pandas(rows, definition), None)
        frame = Markup(snapshot.get_html_str(as_iframe=True))  # noqa: S704  # Evidently's own page, in a frame
    return render("matured_quality.html", frame=frame, rows=len(rows))


def _values(results: Mapping[str, Any]) -> dict[str, float]:
    """PSI by column from the snapshot's metrics."""
    return {
        str(m["config"]["column"]): float(m["value"])
        for m in results["metrics"]
        if str(m["config"].get("type", "")).endswith("ValueDrift")
    }


def _tests(results: Mapping[str, Any]) -> dict[str, int]:
    outcomes = [str(getattr(t["status"], "value", t["status"])) for t in results.get("tests", ())]
    return {name: outcomes.count(name) for name in sorted(set(outcomes))}
