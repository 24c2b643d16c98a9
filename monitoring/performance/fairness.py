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

from monitoring.core.measured import UNKNOWN, Measurement, StoredResult
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
    flag_share: Measurement
    recall: Measurement
    precision: Measurement


_Share = tuple[float, float]
"""Hits, and among how many."""


@dataclass(frozen=True)
class _ShareCounts:
    """What the shares of a group rest on: its counts, or effective ones where rows stand for others."""

    flagged: float
    rows: float
    caught: float
    positives: float


@dataclass(frozen=True)
class _Group:
    """A group with what its shares are worth; ``weighted`` where rows stand for others."""

    slice: Slice
    worth: _ShareCounts
    weighted: bool


@dataclass(frozen=True)
class GroupComparison:
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
    difference: Measurement
    limit: float
    p: float | None
    status: Status
    detail: str


@dataclass(frozen=True)
class FairnessReport(StoredResult):
    """Every slice and every comparison of one set of decisions.

    Attributes:
        slices: sensitive columns and plain slices.
        comparisons: of sensitive columns only.
    """

    slices: tuple[Slice, ...]
    comparisons: tuple[GroupComparison, ...]

    @property
    def status(self) -> Status:
        """``FAIL`` with any failed comparison, else ``INSUFFICIENT`` with any of those, else ``PASS``."""
        statuses = {comparison.status for comparison in self.comparisons}
        if "FAIL" in statuses:
            return "FAIL"
        return "PASS" if statuses <= {"PASS"} else "INSUFFICIENT"

    def checks(self, policy: FairnessPolicy) -> tuple[Check, ...]:
        """The comparisons that a gate looks at: all that failed, and those without evidence where they block."""
        blocking = ("FAIL", "INSUFFICIENT") if policy.insufficient_blocks else ("FAIL",)
        reported = [c for c in self.comparisons if c.status == "PASS" or c.status in blocking]
        return tuple(
            Check(
                f"{c.measure}:{c.column}={c.group}", c.difference.value, c.limit, _margin(c), c.status, c.detail
            )
            for c in reported
        )  # fmt: skip


def assess_fairness(
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
    weights = None if weight is None else np.asarray(weight, dtype=float)
    slices: list[Slice] = []
    comparisons: list[GroupComparison] = []
    for column in dict.fromkeys((*policy.sensitive, *policy.slices)):
        names = group_names(groups[column], policy, column)
        column_groups = list(_groups(column, names, truth, flagged, policy, labelled, weights))
        slices += [group.slice for group in column_groups]
        if column in policy.sensitive and column_groups:
            comparisons += _against_reference(column_groups, policy)
    return FairnessReport(tuple(slices), _control_false_discoveries(comparisons, policy))


def group_names(values: pd.Series, policy: FairnessPolicy, column: str) -> pd.Series:
    """The group of each row as text: numbers cut at the declared edges, missing values a group of their own."""
    edges = policy.edges.get(column)
    if edges:
        cut = pd.cut(values.astype(float), [-math.inf, *edges, math.inf], right=False, labels=_range_names(edges))
        return cut.astype(object).where(values.notna(), MISSING)
    return values.astype(object).where(values.notna(), MISSING).astype(str)


def _range_names(edges: Sequence[float]) -> list[str]:
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
    count_table = pd.DataFrame({"rows": 1, "positives": y, "flagged": flags, "caught": y & flags}).astype(int)
    group_of_row = names.to_numpy()
    table = count_table.groupby(group_of_row, sort=False).sum().sort_values("rows", ascending=False, kind="stable")
    if len(table) > policy.max_groups:
        # A column with very many values would bury the report; its small ones are one group.
        largest, smaller = table.iloc[: policy.max_groups - 1], table.iloc[policy.max_groups - 1 :]
        group_of_row = np.where(np.isin(group_of_row, smaller.index.to_numpy()), OTHER, group_of_row)
        table = pd.concat([largest, smaller.sum().to_frame(OTHER).T])
    for group, row in table.iterrows():
        rows, positives, flagged, caught = (int(row[name]) for name in ("rows", "positives", "flagged", "caught"))
        share_counts, precision_counts = _ShareCounts(flagged, rows, caught, positives), (float(caught), float(flagged))
        if weight is not None:
            in_group = group_of_row == group
            share_counts, precision_counts = _weighted_counts(y[in_group], flags[in_group], weight[in_group])
        yield _Group(
            Slice(
                column, str(group), rows, positives, flagged, caught,
                wilson(share_counts.flagged, share_counts.rows), wilson(share_counts.caught, share_counts.positives),
                wilson(precision_counts[0], precision_counts[1] if labelled else 0),
            ),
            share_counts,
            weight is not None,
        )  # fmt: skip


def _weighted_counts(y: np.ndarray, flags: np.ndarray, weight: np.ndarray) -> tuple[_ShareCounts, tuple[float, float]]:
    """Effective counts of flags among rows and among positives; and of positives among flags."""
    share = effective_counts(flags, weight)
    recall = effective_counts(flags[y], weight[y])
    return _ShareCounts(*share, *recall), effective_counts(y[flags], weight[flags])


def _against_reference(groups: Sequence[_Group], policy: FairnessPolicy) -> Iterator[GroupComparison]:
    reference_name = policy.reference.get(groups[0].slice.column)
    reference = next((g for g in groups if g.slice.group == reference_name), groups[0])
    for group in groups:
        if group is not reference:
            yield _parity(group, reference, policy)
            yield _opportunity(group, reference, policy)
            yield _impact(group, reference, policy)


def _parity(group: _Group, reference: _Group, policy: FairnessPolicy) -> GroupComparison:
    group_share, reference_share = ((member.worth.flagged, member.worth.rows) for member in (group, reference))
    minimum = (policy.min_rows, "rows")
    return _difference(group, reference, "parity", policy.max_parity_difference, group_share, reference_share, minimum)


def _opportunity(group: _Group, reference: _Group, policy: FairnessPolicy) -> GroupComparison:
    group_share, reference_share = ((member.worth.caught, member.worth.positives) for member in (group, reference))
    minimum = (policy.min_positives, "positives")
    return _difference(
        group, reference, "opportunity", policy.max_opportunity_difference, group_share, reference_share, minimum
    )


def _difference(
    group: _Group,
    reference: _Group,
    measure: Measure,
    limit: float,
    group_share: _Share,
    reference_share: _Share,
    minimum: tuple[int, str],
) -> GroupComparison:
    """The difference of two shares, each as hits among how many, of which ``minimum`` says the least and the name."""
    min_count, count_name = minimum
    if min(group_share[1], reference_share[1]) < min_count:
        return _report_insufficient(
            group, reference, measure, limit, f"fewer than {min_count} {_row_kind(group)}{count_name}"
        )
    difference = newcombe(*group_share, *reference_share)
    p = _equality_p(*group_share, *reference_share)
    status, detail = _judge_interval(difference, -limit, limit)
    return _build_comparison(
        group,
        reference,
        measure,
        difference,
        limit,
        p,
        status,
        detail + _describe_worth(group, group_share[1], reference_share[1]),
    )


def _impact(group: _Group, reference: _Group, policy: FairnessPolicy) -> GroupComparison:
    limit, a, b = policy.min_disparate_impact, group.worth, reference.worth
    if min(a.rows, b.rows) < policy.min_rows or not a.flagged or not b.flagged:
        reason = f"fewer than {policy.min_rows} {_row_kind(group)}rows, or nobody flagged"
        return _report_insufficient(group, reference, "impact", limit, reason)
    ratio = katz(a.flagged, a.rows, b.flagged, b.rows)
    p = _equality_p(a.flagged, a.rows, b.flagged, b.rows)
    # Being flagged is the burden here, so a ratio too high is as unfair as one too low.
    status, detail = _judge_interval(ratio, limit, 1.0 / limit)
    return _build_comparison(
        group, reference, "impact", ratio, limit, p, status, detail + _describe_worth(group, a.rows, b.rows)
    )


def _row_kind(group: _Group) -> str:
    return "effective " if group.weighted else ""


def _describe_worth(group: _Group, a: float, b: float) -> str:
    return f"; weighted, worth {a:.0f} against {b:.0f} rows" if group.weighted else ""


def _report_insufficient(
    group: _Group, reference: _Group, measure: Measure, limit: float, reason: str
) -> GroupComparison:
    return _build_comparison(group, reference, measure, UNKNOWN, limit, None, "INSUFFICIENT", reason)


def _build_comparison(
    group: _Group,
    reference: _Group,
    measure: Measure,
    difference: Measurement,
    limit: float,
    p: float | None,
    status: Status,
    detail: str,
) -> GroupComparison:
    a, b = group.slice, reference.slice
    return GroupComparison(a.column, a.group, b.group, measure, difference, limit, p, status, detail)


def _judge_interval(figure: Measurement, low: float, high: float) -> tuple[Status, str]:
    """Where an interval lies against the allowed range."""
    if figure.low is None or figure.high is None:
        return "INSUFFICIENT", "no interval"
    detail = f"interval {figure.low:.4f} to {figure.high:.4f}, allowed {low:.4f} to {high:.4f}"
    if low <= figure.low and figure.high <= high:
        return "PASS", detail
    return ("FAIL" if figure.high < low or figure.low > high else "INSUFFICIENT"), detail


def _equality_p(k1: float, n1: float, k2: float, n2: float) -> float:
    """Two-sided p value of the pooled two-proportion z test."""
    pooled = (k1 + k2) / (n1 + n2)
    spread = math.sqrt(pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n2))
    return float(2.0 * special.ndtr(-abs(k1 / n1 - k2 / n2) / spread)) if spread > 0.0 else 1.0


def _control_false_discoveries(
    comparisons: Sequence[GroupComparison], policy: FairnessPolicy
) -> tuple[GroupComparison, ...]:
    """Adjust the p values; a failure that may be chance among so many looks is no evidence."""
    tested = [c for c in comparisons if c.p is not None]
    adjusted_p = iter(benjamini_hochberg([c.p for c in tested if c.p is not None]).tolist() if tested else ())
    adjusted_comparisons = [c if c.p is None else replace(c, p=next(adjusted_p)) for c in comparisons]
    return tuple(
        replace(c, status="INSUFFICIENT", detail=f"{c.detail}; not beyond chance among all comparisons")
        if c.status == "FAIL" and (c.p is None or c.p >= policy.alpha)
        else c
        for c in adjusted_comparisons
    )


def _margin(comparison: GroupComparison) -> float | None:
    low, high = comparison.difference.low, comparison.difference.high
    if low is None or high is None:
        return None
    if comparison.measure == "impact":
        return min(low - comparison.limit, 1.0 / comparison.limit - high)
    return comparison.limit - max(abs(low), abs(high))
