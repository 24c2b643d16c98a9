"""The profile of a table as a page: what was seen, what was guessed, what to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.sources.foreign_table import converted
from flows.steps.onboarding.profile_table import FirstFile, Guess
from monitoring.reports.html import table, write_page

_BARS = 12
_MOST = 60
"""Columns with a picture; of a wider table those that tell most come first."""


def write_profile(path: Path, name: str, found: FirstFile, head: pd.DataFrame, notes: Sequence[str]) -> Path:
    """Write the page; ``head`` holds the first rows as text, ``notes`` what to look at first."""
    body = [
        f'<main class="incumbent"><h1>{escape(name)}: a first look</h1>',
        f"<p>{found.rows:,} rows, {len(found.columns) + 1} columns. {escape(_target(found))}</p>",
        *_first(notes),
        "<h2>Guesses</h2>", table(("what", "guess", "why"), _guesses(found)),
        "<h2>Target</h2>", table(("value", "rows", "share"), _values(found), numeric=(1, 2)),
        "<h2>Columns</h2>", _columns(found, head), "</main>",
    ]  # fmt: skip
    return write_page(path, f"{name}: a first look", "".join(body))


def _first(notes: Sequence[str]) -> list[str]:
    items = [f"<li>{escape(note)}</li>" for note in notes]
    return ["<h2>Look at this first</h2><ul>", *items, "</ul>"] if items else []


def _target(found: FirstFile) -> str:
    if found.kind != "binary":
        return f"{found.target} is a {found.kind} target, which cannot be trained."
    return f"{found.target} is positive in {found.share:.1%} of them."


def _guesses(found: FirstFile) -> list[tuple[str, str, str]]:
    time = found.event_time if found.timed else "none: cross-validation"
    span = f"spans {found.days:,.0f} days" if found.event_time else "no column is a time in every row"
    return [
        (
            "target",
            found.target,
            f"also two values: {', '.join(found.others[:8])}" if found.others else "by its values or its name",
        ),
        ("positive", found.positive or "1", "what the score will be the probability of"),
        ("id", found.event_id, "the rows are counted" if found.made_id else "it never repeats"),
        ("time", str(time), span),
    ]


def _values(found: FirstFile) -> list[tuple[str, str, str]]:
    total = max(1, found.rows)
    rows = [(value, f"{n:,}", f"{n / total:.1%}") for value, n in found.values]
    return rows + ([("(none)", f"{found.unlabelled:,}", f"{found.unlabelled / total:.1%}")] if found.unlabelled else [])


def _columns(found: FirstFile, head: pd.DataFrame) -> str:
    ordered = sorted(found.columns, key=lambda c: -(c.tells or 0.0))
    shown = ordered if len(ordered) > _MOST else list(found.columns)
    rows = [_row(c, head[c.source], at < _MOST) for at, c in enumerate(shown)]
    order = ", those that tell most of the target first" if shown is ordered else ""
    auc = "AUC: how well the column alone ranks the target; 0.5 is chance."
    note = f'<p class="note">From the first {len(head):,} rows{order}. {auc}</p>'
    numeric = "".join(f'<th class="n">{name}</th>' for name in ("missing", "AUC"))
    top = f"<th>column</th><th>type</th><th>seen</th>{numeric}<th>distribution</th>"
    return f"{note}<table><thead><tr>{top}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(column: Guess, values: pd.Series[Any], drawn: bool) -> str:
    own = f'<br><span class="note">{escape(column.name)}</span>' if column.name != column.source else ""
    tells = "" if column.tells is None else f"{column.tells:.3f}"
    style = ' class="n FAIL"' if column.suspect else ' class="n"'
    picture = _picture(column, values.dropna()) if drawn else ""
    return (
        f"<tr><td>{escape(column.source)}{own}</td><td>{column.type}</td><td>{escape(column.detail)}</td>"
        f'<td class="n">{column.missing:.1%}</td><td{style}>{tells}</td><td style="width:9rem">{picture}</td></tr>'
    )


def _picture(column: Guess, given: pd.Series[Any]) -> str:
    """Bars of equal-width bins, or of the most frequent values; none for ids and texts."""
    if given.empty or column.type in ("ignored", "identifier"):
        return ""
    if column.type in ("category", "boolean"):
        counts = given.value_counts().head(_BARS).to_numpy(np.float64)
    else:
        read = converted(given, column.reading)
        numbers = read.dropna().astype(np.int64) if column.type == "datetime" else read.dropna()
        low, top = np.quantile(numbers, [0.01, 0.99])
        counts = np.histogram(numbers, _BARS, (low, top if top > low else low + 1.0))[0].astype(np.float64)
    step, tall = 120 / _BARS, max(float(counts.max()), 1.0)
    drawn = "".join(
        f'<rect x="{at * step:.1f}" y="{30 - high:.1f}" width="{step - 1:.1f}" height="{high:.1f}" fill="#0b5cad"/>'
        for at, high in enumerate(30 * counts / tall)
    )
    return f'<svg viewBox="0 0 120 30" role="img" style="height:30px">{drawn}</svg>'
