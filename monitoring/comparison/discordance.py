"""Where two models disagree: pairs that one of them decided otherwise, by segment and by amount.

They are shown and not used in the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from monitoring.comparison.paired_rows import PairedRows

_LEVELS = 8
"""Levels of a segment that are shown by themselves; the others are one group."""
_AMOUNT_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class DiscordantGroup:
    """Events of one group on which the models differ.

    Attributes:
        by: the column.
        level: its value, or a range of amounts.
        events, positives: size of the group.
        caught_b, caught_a: positives that only the challenger, or only the champion, flagged.
        alarms_b, alarms_a: false alarms of the challenger only, of the champion only.
    """

    by: str
    level: str
    events: int
    positives: int
    caught_b: int
    caught_a: int
    alarms_b: int
    alarms_a: int


def discordant_groups(
    paired: pd.DataFrame, rows: PairedRows, segments: Sequence[str], amount: str | None
) -> tuple[DiscordantGroup, ...]:
    """Counts for each level of each segment, and for ranges of the amount; absent columns are left out."""
    groups: list[DiscordantGroup] = []
    for name in segments:
        if name in paired.columns:
            groups += _count_groups(name, *segment_levels(paired[name]), rows)
    if amount is not None and amount in paired.columns:
        groups += _count_groups(amount, *_amount_ranges(paired[amount].to_numpy(dtype=float)), rows)
    return tuple(groups)


def _count_groups(by: str, codes: np.ndarray, names: Sequence[str], rows: PairedRows) -> list[DiscordantGroup]:
    """One cell for each group and kind of row, counted in a single pass."""
    table = np.bincount(codes * 8 + (rows.kind & 7), minlength=len(names) * 8).reshape(len(names), 8)
    return [
        DiscordantGroup(
            by, name, int(cells.sum()), int(cells[[1, 3, 5, 7]].sum()), *(int(cells[k]) for k in (5, 3, 4, 2))
        )
        for name, cells in zip(names, table, strict=True)
        if cells.sum()
    ]


def segment_levels(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """The most frequent levels, then everything else, then missing: the code of each row, and their names."""
    codes, names = pd.factorize(values, sort=True)
    frequent = np.sort(np.argsort(-np.bincount(codes[codes >= 0], minlength=len(names)), kind="stable")[:_LEVELS])
    level_of_code = np.full(len(names) + 1, len(frequent))
    level_of_code[frequent] = np.arange(len(frequent))
    level_of_code[-1] = len(frequent) + 1
    return level_of_code[codes], [*(str(names[i]) for i in frequent), "other", "missing"]


def _amount_ranges(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Quartiles, with the top twentieth apart; the bounds are those of these rows."""
    finite_values = values[np.isfinite(values)]
    if not len(finite_values):
        return np.zeros(len(values), dtype=np.int64), ["missing"]
    edges = np.unique(np.quantile(finite_values, _AMOUNT_QUANTILES))
    inner = edges[1:-1]
    codes = np.searchsorted(inner, values, side="left")
    codes[~np.isfinite(values)] = len(inner) + 1
    low = [edges[0], *inner]
    high = [*inner, edges[-1]]
    names = [f"{_format_amount(a)} to {_format_amount(b)}" for a, b in zip(low, high, strict=True)]
    return codes, [*names, "missing"]


def _format_amount(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
