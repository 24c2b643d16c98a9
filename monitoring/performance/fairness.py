"""Fairness between groups and performance of slices, decided by whole intervals.

A *group* is one value of a sensitive column (numbers are cut at declared edges). Each group is
compared with the reference group, by default the largest:

* ``parity``: difference of the shares that are flagged (demographic parity),
* ``opportunity``: difference of recall (equal opportunity),
* ``impact``: ratio of the shares that are flagged (disparate impact).

Differences have Newcombe's hybrid of Wilson intervals, the ratio Katz's log interval. ``FAIL`` needs
an interval entirely beyond the limit and a p value below alpha after Benjamini and Hochberg over all
comparisons; an interval entirely inside is a ``PASS``; anything else, and any group that is too
small, is ``INSUFFICIENT`` and never "fair".

Where rows stand for others, as the explored ones of a use case that blocks do, shares are weighted, and each share
counts for as many rows as a plain sample of its precision would hold
(:func:`monitoring.stats.label_weights.effective_counts`): in intervals, in tests and against the minimum counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from monitoring.core.measured import UNKNOWN, Measured, Stored
from monitoring.core.verdict import Check, Status
from monitoring.policies import FairnessPolicy
from monitoring.stats.distances import benjamini_hochberg
from monitoring.stats.intervals import katz, newcombe, wilson
from monitoring.stats.label_weights import effective_counts

MISSING = "(missing)"
OTHER = "(other)"

Measure = Literal["parity", "opportunity", "impact"]


@dataclass(frozen=True)
class Slice:
    """The rows of one group of one column.

    Attributes:
        column, group: which rows; text, also for numbers that were cut (``30 to 50``).
        rows, positives, flagged, caught: counts of rows that were seen; ``caught`` are flagged positives.
        flag_share, recall, precision: with Wilson intervals; weighted where rows stand for others.
    """

    column: str
    group: str
    rows: int
    positives: int
    flagged: int
    caught: int
    flag_share: Measured
    recall: Measured
    precision: Measured


_Share = tuple[float, float]
"""Hits, and among how many."""


@dataclass(frozen=True)
class _Worth:
    """What the shares of a group rest on: its counts, or effective ones where rows stand for others."""

    flagged: float
    rows: float
    caught: float
    positives: float


@dataclass(frozen=True)
class _Group:
    """A group with what its shares are worth; ``weighted`` where rows stand for others."""

    slice: Slice
    worth: _Worth
    weighted: bool


@dataclass(frozen=True)
class Comparison:
    """One measure of one group against the reference group of its column.

    Attributes:
        column, group, reference: who is compared with whom.
        measure: ``parity``, ``opportunity`` or ``impact``.
        difference: group minus reference; for ``impact`` group divided by reference.
        limit: largest allowed distance; for ``impact`` the smallest allowed ratio.
        p: two-sided p value of equality, adjusted over all comparisons; none where a group is too small.
        status: ``PASS``, ``FAIL`` or ``INSUFFICIENT``.
        detail: one plain sentence.
    """

    column: str
    group: str
    reference: str
    measure: Measure
    difference: Measured
    limit: float
    p: float | None
    status: Status
    detail: str


@dataclass(frozen=True)
class FairnessReport(Stored):
    """Every slice and every comparison of one set of decisions.

    Attributes:
        slices: sensitive columns and plain slices.
        comparisons: of sensitive columns only.
    """

    slices: tuple[Slice, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def status(self) -> Status:
        """``FAIL`` with any failed comparison, else ``INSUFFICIENT`` with any of those, else ``PASS``."""
        found = {comparison.status for comparison in self.comparisons}
        if "FAIL" in found:
            return "FAIL"
        return "PASS" if found <= {"PASS"} else "INSUFFICIENT"

    def checks(self, policy: FairnessPolicy) -> tuple[Check, ...]:
        """The comparisons that a gate looks at: all that failed, and those without evidence where they block."""
        blocking = ("FAIL", "INSUFFICIENT") if policy.insufficient_blocks else ("FAIL",)
        shown = [c for c in self.comparisons if c.status == "PASS" or c.status in blocking]
        return tuple(
            Check(
                f"{c.measure}:{c.column}={c.group}", c.difference.value, c.limit, _margin(c), c.status, c.detail
            )
            for c in shown
        )  # fmt: skip


def assess(
    groups: pd.DataFrame,
    y: ArrayLike,
    flags: ArrayLike,
    policy: FairnessPolicy,
    *,
    labelled: bool = True,
    weight: ArrayLike | None = None,
) -> FairnessReport:
    """Compare the groups of each sensitive column, and cut the figures by each slice.

    Args:
        groups: one row an event; the columns that the policy names, as the event brought them.
        y: matured labels, 0 or 1.
        flags: decisions.
        policy: columns, limits and minimum counts.
        labelled: whether ``y`` says anything; if not, recall and precision are unknown in every group.
        weight: how many events each row stands for; none where each stands for itself.

    Raises:
        KeyError: a declared column is not in ``groups``.
    """
    truth, flagged = np.asarray(y, dtype=bool), np.asarray(flags, dtype=bool)
    each = None if weight is None else np.asarray(weight, dtype=float)
    slices: list[Slice] = []
    found: list[Comparison] = []
    for column in dict.fromkeys((*policy.sensitive, *policy.slices)):
        names = group_names(groups[column], policy, column)
        here = list(_groups(column, names, truth, flagged, policy, labelled, each))
        slices += [group.slice for group in here]
        if column in policy.sensitive and here:
            found += _against_reference(here, policy)
    return FairnessReport(tuple(slices), _controlled(found, policy))


def group_names(values: pd.Series, policy: FairnessPolicy, column: str) -> pd.Series:
    """The group of each row as text: numbers cut at the declared edges, missing values a group of their own."""
    edges = policy.edges.get(column)
    if edges:
        cut = pd.cut(values.astype(float), [-math.inf, *edges, math.inf], right=False, labels=_bands(edges))
        return cut.astype(object).where(values.notna(), MISSING)
    return values.astype(object).where(values.notna(), MISSING).astype(str)


def _bands(edges: Sequence[float]) -> list[str]:
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}", *inner, f"{edges[-1]:g} and above"]


def _groups(
    column: str,
    names: pd.Series,
    y: np.ndarray,
    flags: np.ndarray,
    policy: FairnessPolicy,
    labelled: bool,
    weight: np.ndarray | None,
) -> Iterator[_Group]:
    counted = pd.DataFrame({"rows": 1, "positives": y, "flagged": flags, "caught": y & flags}).astype(int)
    named = names.to_numpy()
    table = counted.groupby(named, sort=False).sum().sort_values("rows", ascending=False, kind="stable")
    if len(table) > policy.max_groups:
        # A column with very many values would bury the report; its small ones are one group.
        kept, rest = table.iloc[: policy.max_groups - 1], table.iloc[policy.max_groups - 1 :]
        named = np.where(np.isin(named, rest.index.to_numpy()), OTHER, named)
        table = pd.concat([kept, rest.sum().to_frame(OTHER).T])
    for group, row in table.iterrows():
        rows, positives, flagged, caught = (int(row[name]) for name in ("rows", "positives", "flagged", "caught"))
        worth, right = _Worth(flagged, rows, caught, positives), (float(caught), float(flagged))
        if weight is not None:
            here = named == group
            worth, right = _weighed(y[here], flags[here], weight[here])
        yield _Group(
            Slice(
                column, str(group), rows, positives, flagged, caught,
                wilson(worth.flagged, worth.rows), wilson(worth.caught, worth.positives),
                wilson(right[0], right[1] if labelled else 0),
            ),
            worth,
            weight is not None,
        )  # fmt: skip


def _weighed(y: np.ndarray, flags: np.ndarray, weight: np.ndarray) -> tuple[_Worth, tuple[float, float]]:
    """Effective counts of flags among rows and among positives; and of positives among flags."""
    share = effective_counts(flags, weight)
    recall = effective_counts(flags[y], weight[y])
    return _Worth(*share, *recall), effective_counts(y[flags], weight[flags])


def _against_reference(groups: Sequence[_Group], policy: FairnessPolicy) -> Iterator[Comparison]:
    declared = policy.reference.get(groups[0].slice.column)
    reference = next((g for g in groups if g.slice.group == declared), groups[0])
    for one in groups:
        if one is not reference:
            yield _parity(one, reference, policy)
            yield _opportunity(one, reference, policy)
            yield _impact(one, reference, policy)


def _parity(one: _Group, other: _Group, policy: FairnessPolicy) -> Comparison:
    ours, theirs = ((group.worth.flagged, group.worth.rows) for group in (one, other))
    needed = (policy.min_rows, "rows")
    return _difference(one, other, "parity", policy.max_parity_difference, ours, theirs, needed)


def _opportunity(one: _Group, other: _Group, policy: FairnessPolicy) -> Comparison:
    ours, theirs = ((group.worth.caught, group.worth.positives) for group in (one, other))
    needed = (policy.min_positives, "positives")
    return _difference(one, other, "opportunity", policy.max_opportunity_difference, ours, theirs, needed)


def _difference(
    one: _Group, other: _Group, measure: Measure, limit: float, ours: _Share, theirs: _Share, needed: tuple[int, str]
) -> Comparison:
    """The difference of two shares, each as hits among how many, of which ``needed`` says the least and the name."""
    least, what = needed
    if min(ours[1], theirs[1]) < least:
        return _too_small(one, other, measure, limit, f"fewer than {least} {_kind(one)}{what}")
    difference = newcombe(*ours, *theirs)
    p = _equality(*ours, *theirs)
    status, detail = _beyond(difference, -limit, limit)
    return _compared(one, other, measure, difference, limit, p, status, detail + _worth(one, ours[1], theirs[1]))


def _impact(one: _Group, other: _Group, policy: FairnessPolicy) -> Comparison:
    limit, a, b = policy.min_disparate_impact, one.worth, other.worth
    if min(a.rows, b.rows) < policy.min_rows or not a.flagged or not b.flagged:
        why = f"fewer than {policy.min_rows} {_kind(one)}rows, or nobody flagged"
        return _too_small(one, other, "impact", limit, why)
    ratio = katz(a.flagged, a.rows, b.flagged, b.rows)
    p = _equality(a.flagged, a.rows, b.flagged, b.rows)
    # Being flagged is the burden here, so a ratio too high is as unfair as one too low.
    status, detail = _beyond(ratio, limit, 1.0 / limit)
    return _compared(one, other, "impact", ratio, limit, p, status, detail + _worth(one, a.rows, b.rows))


def _kind(one: _Group) -> str:
    return "effective " if one.weighted else ""


def _worth(one: _Group, a: float, b: float) -> str:
    return f"; weighted, worth {a:.0f} against {b:.0f} rows" if one.weighted else ""


def _too_small(one: _Group, other: _Group, measure: Measure, limit: float, why: str) -> Comparison:
    return _compared(one, other, measure, UNKNOWN, limit, None, "INSUFFICIENT", why)


def _compared(
    one: _Group,
    other: _Group,
    measure: Measure,
    found: Measured,
    limit: float,
    p: float | None,
    status: Status,
    detail: str,
) -> Comparison:
    a, b = one.slice, other.slice
    return Comparison(a.column, a.group, b.group, measure, found, limit, p, status, detail)


def _beyond(found: Measured, low: float, high: float) -> tuple[Status, str]:
    """Where an interval lies against the allowed range."""
    if found.low is None or found.high is None:
        return "INSUFFICIENT", "no interval"
    detail = f"interval {found.low:.4f} to {found.high:.4f}, allowed {low:.4f} to {high:.4f}"
    if low <= found.low and found.high <= high:
        return "PASS", detail
    return ("FAIL" if found.high < low or found.low > high else "INSUFFICIENT"), detail


def _equality(k1: float, n1: float, k2: float, n2: float) -> float:
    """Two-sided p value of the pooled two-proportion z test."""
    pooled = (k1 + k2) / (n1 + n2)
    spread = math.sqrt(pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n2))
    return float(2.0 * special.ndtr(-abs(k1 / n1 - k2 / n2) / spread)) if spread > 0.0 else 1.0


def _controlled(found: Sequence[Comparison], policy: FairnessPolicy) -> tuple[Comparison, ...]:
    """Adjust the p values; a failure that may be chance among so many looks is no evidence."""
    tested = [c for c in found if c.p is not None]
    adjusted = iter(benjamini_hochberg([c.p for c in tested if c.p is not None]).tolist() if tested else ())
    done = [c if c.p is None else replace(c, p=next(adjusted)) for c in found]
    return tuple(
        replace(c, status="INSUFFICIENT", detail=f"{c.detail}; not beyond chance among all comparisons")
        if c.status == "FAIL" and (c.p is None or c.p >= policy.alpha)
        else c
        for c in done
    )


def _margin(c: Comparison) -> float | None:
    low, high = c.difference.low, c.difference.high
    if low is None or high is None:
        return None
    if c.measure == "impact":
        return min(low - c.limit, 1.0 / c.limit - high)
    return c.limit - max(abs(low), abs(high))
