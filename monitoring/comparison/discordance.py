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
    found: list[DiscordantGroup] = []
    for name in segments:
        if name in paired.columns:
            found += _of(name, *levels(paired[name]), rows)
    if amount is not None and amount in paired.columns:
        found += _of(amount, *_ranges(paired[amount].to_numpy(dtype=float)), rows)
    return tuple(found)


def _of(by: str, codes: np.ndarray, names: Sequence[str], rows: PairedRows) -> list[DiscordantGroup]:
    """One cell for each group and kind of row, counted in a single pass."""
    table = np.bincount(codes * 8 + (rows.kind & 7), minlength=len(names) * 8).reshape(len(names), 8)
    return [
        DiscordantGroup(by, name, int(c.sum()), int(c[[1, 3, 5, 7]].sum()), *(int(c[k]) for k in (5, 3, 4, 2)))
        for name, c in zip(names, table, strict=True)
        if c.sum()
    ]


def levels(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """The most frequent levels, then everything else, then missing: the code of each row, and their names."""
    codes, names = pd.factorize(values, sort=True)
    kept = np.sort(np.argsort(-np.bincount(codes[codes >= 0], minlength=len(names)), kind="stable")[:_LEVELS])
    place = np.full(len(names) + 1, len(kept))
    place[kept] = np.arange(len(kept))
    place[-1] = len(kept) + 1
    return place[codes], [*(str(names[i]) for i in kept), "other", "missing"]


def _ranges(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Quartiles, with the top twentieth apart; the bounds are those of these rows."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(len(values), dtype=np.int64), ["missing"]
    edges = np.unique(np.quantile(known, _AMOUNT_QUANTILES))
    inner = edges[1:-1]
    codes = np.searchsorted(inner, values, side="left")
    codes[~np.isfinite(values)] = len(inner) + 1
    low = [edges[0], *inner]
    high = [*inner, edges[-1]]
    names = [f"{_short(a)} to {_short(b)}" for a, b in zip(low, high, strict=True)]
    return codes, [*names, "missing"]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
