"""When labels arrive, and what of each day is still open: the maturity ledger.

The label-arrival curve is learnt from old, complete cohorts only: a young day holds its quick labels and
lacks its slow ones, so a curve that read it would be too fast. Every figure is as known at ``as_of``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd

from monitoring.core.measured import StoredResult
from monitoring.performance.cost import Prices
from monitoring.policies import LabelPolicy
from monitoring.policies.label_rules import LabelRules

MIN_LABELS = 50
"""Labels below which the exponential with the same mean stands in for the observed delays."""
POINT_SHARE = 0.95
_KNOTS = 201
_DAY_S = 86_400.0


@dataclass(frozen=True)
class ArrivalCurve(StoredResult):
    """How labels of complete cohorts arrived.

    Attributes:
        events, labels: of the complete cohorts.
        share: labels per event in the end; none without a complete cohort.
        point_days: age by which 95 % of the labels were there, in days; none without labels.
        mean_days: mean delay.
        basis: ``observed`` delays, the ``exponential`` of the same mean where there are few, or ``none``.
        ages, arrived: the curve itself: age in days and share of the labels that were there.
    """

    events: int
    labels: int
    share: float | None
    point_days: float | None
    mean_days: float | None
    basis: Literal["observed", "exponential", "none"]
    ages: tuple[float, ...] = ()
    arrived: tuple[float, ...] = ()

    def arrived_by(self, age_days: np.ndarray) -> np.ndarray:
        """Share of the labels that are there at each age; NaN without a curve."""
        ages = np.asarray(age_days, dtype=float)
        if not self.ages:
            return np.full(ages.shape, np.nan)
        return np.asarray(np.interp(ages, self.ages, self.arrived, left=0.0, right=1.0))


@dataclass(frozen=True)
class LedgerDay(StoredResult):
    """One business day's labels.

    Attributes:
        day, events: the day and its logged events.
        matured: whether the whole day lies ``matures_after`` back.
        labelled, positives: events whose label is known and not contradicted.
        expected_share, observed_share: of events with a label: by the curve, and as it is.
        immature: events of a day that has not matured.
        unknown: events of a matured day without a label, where absence is no negative; blocked ones among them.
        late: labels that came after their event's maturity.
        conflicting, conflicting_amount: events about which one source says both things, and their money.
        revised: events whose label a stronger source turned round.
    """

    day: date
    events: int
    matured: bool
    labelled: int
    positives: int
    expected_share: float | None
    observed_share: float
    immature: int
    unknown: int
    late: int
    conflicting: int
    conflicting_amount: float
    revised: int


@dataclass(frozen=True)
class DecisionCosts(StoredResult):
    """What decisions cost on a set of days, by the labels known of them.

    Attributes:
        days, answered: business days and answered events.
        blocked: of matured days, blocked events that no source labelled: what they were is not known.
        labelled: answered events that entered: with a label, or matured where absence is a negative.
        missed, false_alarms: mistakes among them.
        cost: money they cost.
    """

    days: int
    answered: int
    labelled: int
    missed: int
    false_alarms: int
    cost: float
    blocked: int = 0


def exponential_point(mean_days: float, share: float = POINT_SHARE) -> float:
    """Age in days by which that share of labels is there, if delays are exponential: -mean ln(1 - share)."""
    return -mean_days * math.log1p(-share)


def arrival_curve(
    events: pd.DataFrame,
    labels: pd.DataFrame,
    as_of: datetime,
    policy: LabelPolicy,
    complete_after: timedelta | None = None,
) -> ArrivalCurve:
    """Learn the curve from events at least ``complete_after`` old.

    Args:
        events: event_id, event_time of logged events.
        labels: event_id, observed_at of those that count (:func:`monitoring.store.predictions.labels.resolve_labels`).
        as_of: business time of the reader.
        policy: what maturity is.
        complete_after: age from which a cohort is complete; none is twice ``matures_after``.
    """
    limit = pd.Timestamp(as_of - (2 * policy.matures_after if complete_after is None else complete_after))
    old_events = events[events["event_time"] < limit]
    labelled_events = labels.merge(old_events[["event_id", "event_time"]], on="event_id", how="inner")
    delays = np.maximum(
        (labelled_events["observed_at"] - labelled_events["event_time"]).dt.total_seconds().to_numpy() / _DAY_S, 0.0
    )
    share = len(delays) / len(old_events) if len(old_events) else None
    if not len(delays):
        return ArrivalCurve(len(old_events), 0, share, None, None, "none")
    mean = float(delays.mean())
    steps = np.linspace(0.0, 1.0, _KNOTS)
    if len(delays) < MIN_LABELS:
        ages = np.array([exponential_point(mean, min(s, 1.0 - 1e-6)) for s in steps])
        point, basis = exponential_point(mean), "exponential"
    else:
        ages = np.quantile(delays, steps, method="inverted_cdf")
        point, basis = float(np.quantile(delays, POINT_SHARE, method="inverted_cdf")), "observed"
    # Several shares may stand at one age (labels that come in batches): the largest is there by then.
    is_last = np.append(np.diff(ages) > 0.0, True)
    return ArrivalCurve(
        len(old_events), len(delays), share, point, mean, "observed" if basis == "observed" else "exponential",
        tuple(ages[is_last].tolist()), tuple(steps[is_last].tolist()),
    )  # fmt: skip


def build_ledger(
    events: pd.DataFrame,
    labels: pd.DataFrame,
    statements: pd.DataFrame,
    curve: ArrivalCurve,
    as_of: datetime,
    rules: LabelRules,
    blocked_ids: Collection[str] = (),
) -> tuple[LedgerDay, ...]:
    """Each day of ``events``, oldest first.

    Args:
        events: event_id, event_time, and amount where money is known.
        labels: what counts of each event: event_id, y, observed_at, conflict.
        statements: every statement up to ``as_of``: event_id, y, source.
        curve: of :func:`arrival_curve`.
        as_of, rules: as everywhere.
        blocked_ids: ids of events that were blocked: without a label they are unknown.
    """
    if events.empty:
        return ()
    policy, calendar = rules.policy, rules.calendar
    table = events.merge(labels[["event_id", "y", "observed_at", "conflict"]], on="event_id", how="left")
    conflict = table["conflict"].eq(True).to_numpy()  # NaN where no label came
    is_labelled = (table["y"].notna() & ~conflict).to_numpy()
    code, days = pd.factorize(calendar.days_of(table["event_time"]), sort=True)
    end = pd.Timestamp(calendar.matured_until(as_of, policy.matures_after))
    matured = (table["event_time"] < end).to_numpy()
    age = (pd.Timestamp(as_of) - table["event_time"]).dt.total_seconds().to_numpy() / _DAY_S
    is_late = is_labelled & (table["observed_at"] - table["event_time"] > policy.matures_after).to_numpy()
    unlabelled = matured & ~is_labelled & ~conflict
    unknown = unlabelled & (
        (policy.absent_after_maturity == "unknown") | table["event_id"].isin(blocked_ids).to_numpy()
    )
    revised = table["event_id"].isin(revised_events(statements, policy)).to_numpy()
    money = table["amount"].fillna(0.0).to_numpy(dtype=float) if "amount" in table else np.zeros(len(table))
    masks = (
        matured,
        is_labelled,
        is_labelled & (table["y"] == 1).to_numpy(),
        ~matured,
        unknown,
        is_late,
        conflict,
        revised,
    )
    counts = [np.bincount(code, weights=mask, minlength=len(days)).astype(int).tolist() for mask in masks]
    sizes = np.bincount(code, minlength=len(days)).tolist()
    amounts = np.bincount(code, weights=np.where(conflict, money, 0.0), minlength=len(days)).tolist()
    share = np.nan if curve.share is None else curve.share
    expected_share = np.bincount(code, weights=curve.arrived_by(age) * share, minlength=len(days)) / np.maximum(
        sizes, 1
    )
    return tuple(
        LedgerDay(
            pd.Timestamp(day).date(), sizes[i], counts[0][i] == sizes[i], counts[1][i], counts[2][i],
            None if np.isnan(expected_share[i]) else float(expected_share[i]), (counts[1][i] + counts[6][i]) / sizes[i],
            counts[3][i], counts[4][i], counts[5][i], counts[6][i], float(amounts[i]), counts[7][i],
        )
        for i, day in enumerate(days)
    )  # fmt: skip


def revised_events(statements: pd.DataFrame, policy: LabelPolicy) -> set[str]:
    """Events whose strongest source says otherwise than a weaker one did."""
    if statements.empty:
        return set()
    rank = statements["source"].map({name: index for index, name in enumerate(policy.sources)})
    ranked_statements = statements.assign(rank=rank)[rank.notna().to_numpy()]
    strongest = ranked_statements.groupby("event_id")["rank"].transform("min")
    top = ranked_statements[ranked_statements["rank"] == strongest].groupby("event_id")["y"].agg(["min", "max"])
    weaker = ranked_statements[ranked_statements["rank"] > strongest].groupby("event_id")["y"].agg(["min", "max"])
    both_sources = top.join(weaker, how="inner", rsuffix="_weaker")
    unanimous = both_sources["min"] == both_sources["max"]
    changed = (both_sources["min_weaker"] != both_sources["min"]) | (both_sources["max_weaker"] != both_sources["max"])
    return set(both_sources.index[unanimous & changed])


def sum_decision_costs(
    answers: pd.DataFrame,
    labels: pd.DataFrame,
    prices: Prices,
    as_of: datetime,
    rules: LabelRules,
    blocked_ids: Collection[str] = (),
) -> tuple[DecisionCosts, DecisionCosts]:
    """What decisions cost: (provisional, final).

    Final are matured days, by the label policy. Provisional are the days after them, by the labels that
    are known so far: most of their frauds are still to come, so the two are never added up.

    Args:
        answers: event_id, event_time, decision of answered events.
        labels: event_id, y, conflict.
        prices: prices, one for each row of ``answers`` where they differ.
        as_of, rules: as everywhere.
        blocked_ids: ids of events that were blocked: without a label they enter no figure but their own count.
    """
    policy, calendar = rules.policy, rules.calendar
    label_rows = pd.Index(labels["event_id"]).get_indexer(pd.Index(answers["event_id"]))
    has_label = label_rows >= 0
    y, conflict = np.zeros(len(answers), dtype=np.int64), np.zeros(len(answers), dtype=bool)
    if has_label.any():
        y[has_label] = labels["y"].to_numpy()[label_rows[has_label]]
        conflict[has_label] = labels["conflict"].to_numpy(dtype=bool)[label_rows[has_label]]
    matured = (answers["event_time"] < pd.Timestamp(calendar.matured_until(as_of, policy.matures_after))).to_numpy()
    blocked_unlabelled = ~has_label & answers["event_id"].isin(blocked_ids).to_numpy()
    absent = matured & ~blocked_unlabelled & (policy.absent_after_maturity == "negative")
    is_counted = ~conflict & (has_label | absent)
    flag = answers["decision"].to_numpy(dtype=bool)
    cost = prices.of_rows(y == 1, flag)
    days = calendar.days_of(answers["event_time"])
    provisional, final = (
        _sum_costs(answers[rows_of_part], days[rows_of_part], y, flag, cost, is_counted, rows_of_part)
        for rows_of_part in (~matured, matured)
    )
    return provisional, replace(final, blocked=int((matured & blocked_unlabelled).sum()))


def _sum_costs(
    rows: pd.DataFrame,
    days: pd.Series,
    y: np.ndarray,
    flag: np.ndarray,
    cost: np.ndarray,
    is_counted: np.ndarray,
    rows_of_part: np.ndarray,
) -> DecisionCosts:
    counted_rows = rows_of_part & is_counted
    missed_positives, alarms = int((counted_rows & (y == 1) & ~flag).sum()), int((counted_rows & (y == 0) & flag).sum())
    return DecisionCosts(
        int(days.nunique()),
        len(rows),
        int(counted_rows.sum()),
        missed_positives,
        alarms,
        float(cost[counted_rows].sum()),
    )
