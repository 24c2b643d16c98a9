"""Tables for a terminal, for a pipe and for a file: columns of text, numbers to the right."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_UNLIMITED = 1_000_000
"""Characters of a line that no terminal folds."""


def table(rows: Sequence[Sequence[object]], headers: Sequence[str] = ()) -> str:
    """Columns of text, aligned; numbers to the right.

    At a terminal the table is as wide as the terminal and long cells are folded; anywhere else each row is one whole
    line without colours, so that other programs can read it.

    Args:
        rows: of equal length; floats are shown with four digits, ``None`` as a dash.
        headers: one for each column; none leaves the heading out.

    Returns:
        The lines, without a newline at the end; empty without rows and headers.
    """
    from rich.console import Console
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    columns = len(headers or (rows[0] if rows else ()))
    if not columns:
        return ""
    terminal = sys.stdout.isatty()
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=False)
    for at in range(columns):
        numeric = bool(rows) and all(isinstance(row[at], int | float | None) for row in rows)
        grid.add_column(justify="right" if numeric else "left", overflow="fold", no_wrap=not terminal)
    texts = [[_cell(value) for value in row] for row in rows]
    if headers:
        grid.add_row(*(Text(name, style="bold") for name in headers))
        grid.add_row(*[Rule(characters="-", style="dim")] * columns)
    for row in texts:
        grid.add_row(*map(Text, row))
    console = Console(width=None if terminal else _UNLIMITED, force_terminal=terminal, color_system="auto")
    with console.capture() as printed:
        console.print(grid)
    return "\n".join(line.rstrip() for line in printed.get().splitlines())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return " ".join(str(value).splitlines())
