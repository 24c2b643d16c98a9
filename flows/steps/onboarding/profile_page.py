"""The profile of a table as a page: what was seen, what was guessed, what to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.sources.foreign_table import convert_texts
from flows.steps.onboarding.profile_table import ColumnGuess, TableProfile
from monitoring.reports.html import write_page
from monitoring.reports.render import render

_BARS = 12
_MAX_PICTURES = 60
"""Columns with a picture; of a wider table those that tell most come first."""


def write_profile(path: Path, name: str, profile: TableProfile, head: pd.DataFrame, notes: Sequence[str]) -> Path:
    """Write the page; ``head`` holds the first rows as text, ``notes`` what to look at first."""
    ordered = sorted(profile.columns, key=lambda c: -(c.tells or 0.0))
    shown = ordered if len(ordered) > _MAX_PICTURES else list(profile.columns)
    order = ", those that tell most of the target first" if shown is ordered else ""
    auc = "AUC: how well the column alone ranks the target; 0.5 is chance."
    body = render(
        "profile.html",
        name=name,
        size=f"{profile.rows:,} rows, {len(profile.columns) + 1} columns.",
        target=_target(profile),
        notes=notes,
        guesses=_guesses(profile),
        values=_values(profile),
        step=120 / _BARS,
        explanation=f"From the first {len(head):,} rows{order}. {auc}",
        columns=[
            (
                c,
                "" if c.tells is None else f"{c.tells:.3f}",
                _bars(c, head[c.source].dropna()) if at < _MAX_PICTURES else (),
            )
            for at, c in enumerate(shown)
        ],
    )
    return write_page(path, f"{name}: a first look", body)


def _target(profile: TableProfile) -> str:
    if profile.kind != "binary":
        return f"{profile.target} is a {profile.kind} target, which cannot be trained."
    return f"{profile.target} is positive in {profile.share:.1%} of them."


def _guesses(profile: TableProfile) -> list[tuple[str, str, str]]:
    time = profile.event_time if profile.timed else "none: cross-validation"
    span = f"spans {profile.days:,.0f} days" if profile.event_time else "no column is a time in every row"
    return [
        (
            "target",
            profile.target,
            f"also two values: {', '.join(profile.others[:8])}" if profile.others else "by its values or its name",
        ),
        ("positive", profile.positive or "1", "what the score will be the probability of"),
        ("id", profile.event_id, "the rows are counted" if profile.made_id else "it never repeats"),
        ("time", str(time), span),
    ]


def _values(profile: TableProfile) -> list[tuple[str, str, str]]:
    total = max(1, profile.rows)
    rows = [(value, f"{n:,}", f"{n / total:.1%}") for value, n in profile.values]
    return rows + (
        [("(none)", f"{profile.unlabelled:,}", f"{profile.unlabelled / total:.1%}")] if profile.unlabelled else []
    )


def _bars(column: ColumnGuess, given: pd.Series[Any]) -> list[float]:
    """Heights up to 30 of equal-width bins, or of the most frequent values; none for ids and texts."""
    if given.empty or column.type in ("ignored", "identifier"):
        return []
    if column.type in ("category", "boolean"):
        counts = given.value_counts().head(_BARS).to_numpy(np.float64)
    else:
        read = convert_texts(given, column.reading)
        numbers = read.dropna().astype(np.int64) if column.type == "datetime" else read.dropna()
        low, top = np.quantile(numbers, [0.01, 0.99])
        counts = np.histogram(numbers, _BARS, (low, top if top > low else low + 1.0))[0].astype(np.float64)
    return [float(high) for high in 30 * counts / max(float(counts.max()), 1.0)]
