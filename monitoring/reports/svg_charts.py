"""Small line charts as inline SVG: no script, no font, no picture file; they print as they look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from monitoring.reports.render import render

T = TypeVar("T")
WIDTH, HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 12, 12, 28
EDGES = (_LEFT, WIDTH - _RIGHT)
"""Where the first and the last step of a line chart lie."""
_BAR_LEFT, _LABEL = 190, 28
Point = tuple[str, str]
COLOURS = ("#0b5cad", "#c2410c", "#4d7c0f")


@dataclass(frozen=True)
class ChartLine:
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


def line_chart(
    lines: Sequence[ChartLine],
    labels: Sequence[str],
    *,
    band: tuple[ChartLine, ChartLine] | None = None,
    zero: bool = False,
    id: str = "",
) -> Markup:
    """Lines over labelled steps, with a shaded band between two of them.

    Args:
        lines: at most three series of equal length.
        labels: one per step; the first and last are written.
        band: lower and upper edge of what is shaded; where one is missing nothing is.
        zero: whether zero belongs to the picture.
        id: of the picture, for a script.
    """
    values = [v for line in lines for v in line.values if v is not None]
    values += [v for bound_line in band or () for v in bound_line.values if v is not None]
    if not values:
        return render("no_chart.html")
    scale = _scale(values + ([0.0] if zero else []), len(labels))
    return render(
        "chart.html", id=id, width=WIDTH, height=HEIGHT, left=_LEFT, right=WIDTH - _RIGHT, labels=labels,
        ticks=_axis(scale), shades=[] if band is None else _shade(scale, *band), colours=COLOURS,
        strokes=[(c, run) for c, line in zip(COLOURS, lines, strict=False) for run in _path(scale, line)],
        names=[line.name for line in lines[: len(COLOURS)]], shaded=band[0].name if band else "",
    )  # fmt: skip


def bar_chart(groups: Sequence[tuple[str, float, float]], names: tuple[str, str]) -> Markup:
    """Two horizontal bars for each group, with their numbers.

    Args:
        groups: label and the two values, none below zero.
        names: of the two series.
    """
    if not any(a or b for _, a, b in groups):
        return render("no_chart.html")
    largest, bar_space = max(max(a, b) for _, a, b in groups), WIDTH - _BAR_LEFT - 60
    rows = [
        (
            label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…",
            [(bar_space * value / largest, f"{value:,.0f}") for value in values],
        )
        for label, *values in groups
    ]
    return render("bars.html", width=WIDTH, left=_BAR_LEFT, rows=rows, names=names, colours=COLOURS)


def _scale(values: Sequence[float], count: int) -> Scale:
    low, high = min(values), max(values)
    pad = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return Scale(low - pad, high + pad, count)


def ticks(low: float, high: float, tick_count: int = 4) -> list[float]:
    """Round numbers within a range."""
    raw = (high - low) / tick_count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= raw)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _axis(scale: Scale) -> list[tuple[float, str, str]]:
    """Height, colour and text of each tick; that of zero is darker."""
    return [
        (scale.y(tick), "#555" if abs(tick) < 1e-12 else "#ddd", f"{tick:.6g}") for tick in ticks(scale.low, scale.high)
    ]


def _path(scale: Scale, line: ChartLine) -> list[list[Point]]:
    """The points of each run of known values; a lonely value becomes a dot."""
    return [[_point(scale, at, value) for at, value in run] for run in _runs(line.values) if run]


def _shade(scale: Scale, low: ChartLine, high: ChartLine) -> list[list[Point]]:
    """The outline of each run of known bounds: along the upper edge, and back along the lower."""
    bounds = [None if a is None or b is None else (a, b) for a, b in zip(low.values, high.values, strict=True)]
    return [
        [_point(scale, at, pair[1]) for at, pair in run] + [_point(scale, at, pair[0]) for at, pair in reversed(run)]
        for run in _runs(bounds)
    ]


def _point(scale: Scale, index: int, value: float) -> Point:
    return f"{scale.x(index):.1f}", f"{scale.y(value):.1f}"


def _runs(values: Sequence[T | None]) -> list[list[tuple[int, T]]]:
    runs: list[list[tuple[int, T]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((index, value))
    return [run for run in runs if run]
