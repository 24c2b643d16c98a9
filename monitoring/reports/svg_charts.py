"""Small line charts as inline SVG: no script, no font, no picture file; they print as they look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

T = TypeVar("T")
WIDTH, HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 12, 12, 28
EDGES = (_LEFT, WIDTH - _RIGHT)
"""Where the first and the last step of a line chart lie."""
_BAR_LEFT, _BAR_ROW, _LABEL = 190, 34, 28
COLOURS = ("#0b5cad", "#c2410c", "#4d7c0f")


@dataclass(frozen=True)
class Line:
    """One named series; ``None`` leaves a gap."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Scale:
    """From values to picture coordinates."""

    low: float
    high: float
    count: int

    def x(self, index: int) -> float:
        """Horizontal place of the n-th value."""
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (index / max(1, self.count - 1))

    def y(self, value: float) -> float:
        """Vertical place; values beyond the scale stop at its edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1.0 - share)


def chart(
    lines: Sequence[Line], labels: Sequence[str], *, band: tuple[Line, Line] | None = None, zero: bool = False
) -> str:
    """Lines over labelled steps, with a shaded band between two of them.

    Args:
        lines: at most three series of equal length.
        labels: one per step; the first and last are written.
        band: lower and upper edge of what is shaded; where one is missing nothing is.
        zero: whether zero belongs to the picture.
    """
    values = [v for line in lines for v in line.values if v is not None]
    values += [v for edge in band or () for v in edge.values if v is not None]
    if not values:
        return "<p>Nothing to draw yet.</p>"
    scale = _scale(values + ([0.0] if zero else []), len(labels))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">', *_axes(scale, labels)]
    if band is not None:
        parts += _shade(scale, *band)
    for colour, line in zip(COLOURS, lines, strict=False):
        parts += _path(scale, line, colour)
    return "".join((*parts, "</svg>", _legend(lines, band)))


def bars(groups: Sequence[tuple[str, float, float]], names: tuple[str, str]) -> str:
    """Two horizontal bars for each group, with their numbers.

    Args:
        groups: label and the two values, none below zero.
        names: of the two series.
    """
    if not any(a or b for _, a, b in groups):
        return "<p>Nothing to draw yet.</p>"
    most, room = max(max(a, b) for _, a, b in groups), WIDTH - _BAR_LEFT - 60
    parts = [f'<svg viewBox="0 0 {WIDTH} {len(groups) * _BAR_ROW + 8}" role="img">']
    for row, (label, *pair) in enumerate(groups):
        top = row * _BAR_ROW + 4
        text = label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"
        parts.append(f'<text x="{_BAR_LEFT - 8}" y="{top + 18}" text-anchor="end">{escape(text)}</text>')
        for place, (value, colour) in enumerate(zip(pair, COLOURS, strict=False)):
            y, width = top + place * 13, room * value / most
            parts.append(f'<rect x="{_BAR_LEFT}" y="{y}" width="{width:.1f}" height="11" fill="{colour}"/>')
            parts.append(f'<text x="{_BAR_LEFT + width + 5:.1f}" y="{y + 10}">{value:,.0f}</text>')
    legend = " ".join(
        f'<span style="color:{c}">■ {escape(name)}</span>' for c, name in zip(COLOURS, names, strict=False)
    )
    return "".join((*parts, "</svg>", f'<p class="legend">{legend}</p>'))


def _scale(values: Sequence[float], count: int) -> Scale:
    low, high = min(values), max(values)
    pad = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return Scale(low - pad, high + pad, count)


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers within a range."""
    raw = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= raw)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _axes(scale: Scale, labels: Sequence[str]) -> list[str]:
    parts = []
    for tick in ticks(scale.low, scale.high):
        y = scale.y(tick)
        weight = "#555" if abs(tick) < 1e-12 else "#ddd"
        parts.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{weight}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    if labels:
        bottom = HEIGHT - 8
        parts.append(f'<text x="{_LEFT}" y="{bottom}">{escape(labels[0])}</text>')
        parts.append(f'<text x="{WIDTH - _RIGHT}" y="{bottom}" text-anchor="end">{escape(labels[-1])}</text>')
    return parts


def _path(scale: Scale, line: Line, colour: str) -> list[str]:
    """One stroke for each run of known values; a lonely value becomes a dot."""
    parts = []
    for run in _runs(line.values):
        points = [f"{scale.x(i):.1f},{scale.y(v):.1f}" for i, v in run]
        if len(points) == 1:
            x, y = points[0].split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>')
        else:
            parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return parts


def _shade(scale: Scale, low: Line, high: Line) -> list[str]:
    both = [None if a is None or b is None else (a, b) for a, b in zip(low.values, high.values, strict=True)]
    parts = []
    for run in _runs(both):
        if len(run) == 1:  # a single step has no width to shade
            x, (bottom, top) = scale.x(run[0][0]), run[0][1]
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{scale.y(top):.1f}" y2="{scale.y(bottom):.1f}"'
                f' stroke="{COLOURS[0]}" stroke-width="6" opacity=".3"/>'
            )
            continue
        upper = [f"{scale.x(i):.1f},{scale.y(pair[1]):.1f}" for i, pair in run]
        lower = [f"{scale.x(i):.1f},{scale.y(pair[0]):.1f}" for i, pair in reversed(run)]
        parts.append(f'<polygon points="{" ".join(upper + lower)}" fill="{COLOURS[0]}" opacity=".15"/>')
    return parts


def _runs(values: Sequence[T | None]) -> list[list[tuple[int, T]]]:
    runs: list[list[tuple[int, T]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((index, value))
    return [run for run in runs if run]


def _legend(lines: Sequence[Line], band: tuple[Line, Line] | None) -> str:
    items = [f'<span style="color:{c}">■ {escape(line.name)}</span>' for c, line in zip(COLOURS, lines, strict=False)]
    if band is not None:
        items.append(f"<span>shaded, from the step on where they are finite: {escape(band[0].name)}</span>")
    return f'<p class="legend">{" ".join(items)}</p>'
