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

from monitoring.core.calendar import BusinessCalendar
from monitoring.core.measured import Stored
from monitoring.performance.cost import Prices
from monitoring.policies import LabelPolicy

MIN_LABELS = 50
"""Labels below which the exponential with the same mean stands in for the observed delays."""
POINT = 0.95
_KNOTS = 201
_DAY_S = 86_400.0


@dataclass(frozen=True)
class ArrivalCurve(Stored):
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
class LedgerDay(Stored):
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
class Spent(Stored):
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


def exponential_point(mean_days: float, share: float = POINT) -> float:
    """Age in days by which that share of labels is there, if delays are exponential: -mean ln(1 - share)."""
    return -mean_days * math.log1p(-share)


def arrival_curve(
    events: pd.DataFrame,
    known: pd.DataFrame,
    as_of: datetime,
    policy: LabelPolicy,
    complete_after: timedelta | None = None,
) -> ArrivalCurve:
    """Learn the curve from events at least ``complete_after`` old.

    Args:
        events: event_id, event_time of logged events.
        known: event_id, observed_at of the label that counts (:func:`monitoring.store.predictions.labels.resolve`).
        as_of: business time of the reader.
        policy: what maturity is.
        complete_after: age from which a cohort is complete; none is twice ``matures_after``.
    """
    limit = pd.Timestamp(as_of - (2 * policy.matures_after if complete_after is None else complete_after))
    old = events[events["event_time"] < limit]
    seen = known.merge(old[["event_id", "event_time"]], on="event_id", how="inner")
    delays = np.maximum((seen["observed_at"] - seen["event_time"]).dt.total_seconds().to_numpy() / _DAY_S, 0.0)
    share = len(delays) / len(old) if len(old) else None
    if not len(delays):
        return ArrivalCurve(len(old), 0, share, None, None, "none")
    mean = float(delays.mean())
    steps = np.linspace(0.0, 1.0, _KNOTS)
    if len(delays) < MIN_LABELS:
        ages = np.array([exponential_point(mean, min(s, 1.0 - 1e-6)) for s in steps])
        point, basis = exponential_point(mean), "exponential"
    else:
        ages = np.quantile(delays, steps, method="inverted_cdf")
        point, basis = float(np.quantile(delays, POINT, method="inverted_cdf")), "observed"
    # Several shares may stand at one age (labels that come in batches): the largest is there by then.
    last = np.append(np.diff(ages) > 0.0, True)
    return ArrivalCurve(
        len(old), len(delays), share, point, mean, "observed" if basis == "observed" else "exponential",
        tuple(ages[last].tolist()), tuple(steps[last].tolist()),
    )  # fmt: skip


def ledger(
    events: pd.DataFrame,
    known: pd.DataFrame,
    statements: pd.DataFrame,
    curve: ArrivalCurve,
    as_of: datetime,
    policy: LabelPolicy,
    calendar: BusinessCalendar,
    blocked: Collection[str] = (),
) -> tuple[LedgerDay, ...]:
    """Each day of ``events``, oldest first.

    Args:
        events: event_id, event_time, and amount where money is known.
        known: what counts of each event: event_id, y, observed_at, conflict.
        statements: every statement up to ``as_of``: event_id, y, source.
        curve: of :func:`arrival_curve`.
        as_of, policy, calendar: as everywhere.
        blocked: ids of events that were blocked: without a label they are unknown.
    """
    if events.empty:
        return ()
    table = events.merge(known[["event_id", "y", "observed_at", "conflict"]], on="event_id", how="left")
    conflict = table["conflict"].eq(True).to_numpy()  # NaN where no label came
    labelled = (table["y"].notna() & ~conflict).to_numpy()
    code, days = pd.factorize(calendar.days_of(table["event_time"]), sort=True)
    end = pd.Timestamp(calendar.matured_until(as_of, policy.matures_after))
    matured = (table["event_time"] < end).to_numpy()
    age = (pd.Timestamp(as_of) - table["event_time"]).dt.total_seconds().to_numpy() / _DAY_S
    late = labelled & (table["observed_at"] - table["event_time"] > policy.matures_after).to_numpy()
    silent = matured & ~labelled & ~conflict
    unknown = silent & ((policy.absent_after_maturity == "unknown") | table["event_id"].isin(blocked).to_numpy())
    revised = table["event_id"].isin(revised_events(statements, policy)).to_numpy()
    money = table["amount"].fillna(0.0).to_numpy(dtype=float) if "amount" in table else np.zeros(len(table))
    masks = (matured, labelled, labelled & (table["y"] == 1).to_numpy(), ~matured, unknown, late, conflict, revised)
    counts = [np.bincount(code, weights=mask, minlength=len(days)).astype(int).tolist() for mask in masks]
    sizes = np.bincount(code, minlength=len(days)).tolist()
    amounts = np.bincount(code, weights=np.where(conflict, money, 0.0), minlength=len(days)).tolist()
    share = np.nan if curve.share is None else curve.share
    expected = np.bincount(code, weights=curve.arrived_by(age) * share, minlength=len(days)) / np.maximum(sizes, 1)
    return tuple(
        LedgerDay(
            pd.Timestamp(day).date(), sizes[i], counts[0][i] == sizes[i], counts[1][i], counts[2][i],
            None if np.isnan(expected[i]) else float(expected[i]), (counts[1][i] + counts[6][i]) / sizes[i],
            counts[3][i], counts[4][i], counts[5][i], counts[6][i], float(amounts[i]), counts[7][i],
        )
        for i, day in enumerate(days)
    )  # fmt: skip


def revised_events(statements: pd.DataFrame, policy: LabelPolicy) -> set[str]:
    """Events whose strongest source says otherwise than a weaker one did."""
    if statements.empty:
        return set()
    rank = statements["source"].map({name: at for at, name in enumerate(policy.sources)})
    ranked = statements.assign(rank=rank)[rank.notna().to_numpy()]
    strongest = ranked.groupby("event_id")["rank"].transform("min")
    top = ranked[ranked["rank"] == strongest].groupby("event_id")["y"].agg(["min", "max"])
    weaker = ranked[ranked["rank"] > strongest].groupby("event_id")["y"].agg(["min", "max"])
    both = top.join(weaker, how="inner", rsuffix="_weaker")
    clear = both["min"] == both["max"]
    turned = (both["min_weaker"] != both["min"]) | (both["max_weaker"] != both["max"])
    return set(both.index[clear & turned])


def spent(
    answers: pd.DataFrame,
    known: pd.DataFrame,
    missed: Prices,
    as_of: datetime,
    policy: LabelPolicy,
    calendar: BusinessCalendar,
    blocked: Collection[str] = (),
) -> tuple[Spent, Spent]:
    """What decisions cost: (provisional, final).

    Final are matured days, by the label policy. Provisional are the days after them, by the labels that
    are known so far: most of their frauds are still to come, so the two are never added up.

    Args:
        answers: event_id, event_time, decision of answered events.
        known: event_id, y, conflict.
        missed: prices, one for each row of ``answers`` where they differ.
        as_of, policy, calendar: as everywhere.
        blocked: ids of events that were blocked: without a label they enter no figure but their own count.
    """
    place = pd.Index(known["event_id"]).get_indexer(pd.Index(answers["event_id"]))
    found = place >= 0
    y, conflict = np.zeros(len(answers), dtype=np.int64), np.zeros(len(answers), dtype=bool)
    if found.any():
        y[found] = known["y"].to_numpy()[place[found]]
        conflict[found] = known["conflict"].to_numpy(dtype=bool)[place[found]]
    matured = (answers["event_time"] < pd.Timestamp(calendar.matured_until(as_of, policy.matures_after))).to_numpy()
    hidden = ~found & answers["event_id"].isin(blocked).to_numpy()
    absent = matured & ~hidden & (policy.absent_after_maturity == "negative")
    counts = ~conflict & (found | absent)
    flag = answers["decision"].to_numpy(dtype=bool)
    cost = missed.of_rows(y == 1, flag)
    days = calendar.days_of(answers["event_time"])
    provisional, final = (
        _spent(answers[part], days[part], y, flag, cost, counts, part) for part in (~matured, matured)
    )
    return provisional, replace(final, blocked=int((matured & hidden).sum()))


def _spent(
    rows: pd.DataFrame,
    days: pd.Series,
    y: np.ndarray,
    flag: np.ndarray,
    cost: np.ndarray,
    counts: np.ndarray,
    part: np.ndarray,
) -> Spent:
    taken = part & counts
    missed, alarms = int((taken & (y == 1) & ~flag).sum()), int((taken & (y == 0) & flag).sum())
    return Spent(int(days.nunique()), len(rows), int(taken.sum()), missed, alarms, float(cost[taken].sum()))
