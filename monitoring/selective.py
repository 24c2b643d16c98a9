"""Estimates where labels are missing by design: weights of an exploration, bounds where there is none.

Where flagged events are blocked they never earn a label, and any challenger "wins" on what is left. An
event that was let through by a draw of chance *p* stands for 1/*p* flagged events (Horvitz and Thompson
1952), so totals are right again. Where no draw was made nothing of the kind is known: then every check is
made twice, with the missing labels as bad and as good for the challenger as they can be (Manski 1990), and
decides only where both agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from monitoring.bootstrap import Resamples, units_of
from monitoring.cost import Prices
from monitoring.gates import Check, Status
from monitoring.measured import Measured
from monitoring.series import PairedDay

if TYPE_CHECKING:
    from monitoring.performance import Performance

NOT_IDENTIFIED = "NOT_IDENTIFIED"


@dataclass(frozen=True)
class WeightedRates:
    """Weighted recall and precision of one model; none without positives, or without alerts."""

    recall: float | None
    precision: float | None


def weighted_rates(y: ArrayLike, flagged: ArrayLike, weight: ArrayLike) -> WeightedRates:
    """Recall and precision where each row stands for ``weight`` rows (1/propensity)."""
    truth, flag, w = np.asarray(y, dtype=bool), np.asarray(flagged, dtype=bool), np.asarray(weight, dtype=float)
    hits, positives, alerts = (float(w[mask].sum()) for mask in (truth & flag, truth, flag))
    return WeightedRates(hits / positives if positives else None, hits / alerts if alerts else None)


def label_weights(
    action: Iterable[str | None], propensity: ArrayLike, really: Iterable[str | None], labelled: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """How many events each row stands for, and how many are missing with it: (weight, unseen).

    Blocked, and a draw could have let it through: others stand for it (0, 0). Blocked without a draw, or by
    somebody else than the model: nobody stands for it (0, 1), unless some source labelled it. Released by
    somebody else than the draw: its own label counts where there is no draw, else those of the draw do,
    because whom people release is no matter of chance.

    Args:
        action: what the answer asked for; none where no intervention was declared.
        propensity: chance of having been let through; NaN is 1.
        really: what was reported to have been done; none where nothing was.
        labelled: whether a label is known.
    """
    asked, done = np.array(list(action), dtype=object), np.array(list(really), dtype=object)
    p = np.nan_to_num(np.asarray(propensity, dtype=float), nan=1.0)
    known = np.asarray(labelled, dtype=bool)
    flagged = asked == "block"
    blocked = np.where(pd.isna(done), flagged, done == "block")
    stands_for = np.where(asked == "explore", 1.0 / np.where(p > 0.0, p, 1.0), 1.0)
    represented = flagged & (p > 0.0)
    weight = np.where(represented | (blocked & ~known), 0.0, stands_for)
    unseen = np.where(~represented & blocked & ~known, stands_for, 0.0)
    return weight, unseen


def bounded_day(day: PairedDay, false_alarm: float, *, good: bool) -> PairedDay:
    """The day with its missing labels as good, or as bad, for the challenger as they can be.

    Bad: what only the champion flagged was positive, what only the challenger flagged was not. What both
    flagged tells nothing about who is better; it was positive in the bad case, which dilutes a gain.
    """
    lost = day.unseen
    if lost is None:
        return day
    if good:
        return replace(
            day, rows=day.rows + lost.total, positives=day.positives + lost.b, tp_b=day.tp_b + lost.b,
            fp_a=day.fp_a + lost.a + lost.both, fp_b=day.fp_b + lost.both,
            cost_a=day.cost_a + lost.missed_b + false_alarm * (lost.a + lost.both),
            cost_b=day.cost_b + false_alarm * lost.both,
        )  # fmt: skip
    return replace(
        day, rows=day.rows + lost.total, positives=day.positives + lost.a + lost.both,
        tp_a=day.tp_a + lost.a + lost.both, tp_b=day.tp_b + lost.both, fp_b=day.fp_b + lost.b,
        cost_b=day.cost_b + lost.missed_a + false_alarm * lost.b,
    )  # fmt: skip


def agreed_checks(
    bad: Sequence[Check], good: Sequence[Check], unseen: float, opposed: Collection[str] = ()
) -> tuple[Check, ...]:
    """Checks that hold in both cases; the others lack evidence, however long one watches.

    Args:
        bad, good: the same checks in both cases.
        unseen: events whose labels are missing.
        opposed: names of checks whose figure has another sign in either case: watching longer tells nothing.
    """
    found, open_ones = [], []
    for low, high in zip(bad, good, strict=True):
        if low.status == high.status and (low.status != "INSUFFICIENT" or low.name not in opposed):
            found.append(low)
            continue
        open_ones.append(low.name.replace("_", " "))
        detail = f"{NOT_IDENTIFIED}: {low.detail}; or {high.detail}"
        found.append(Check(low.name, low.value, low.threshold, low.margin, "INSUFFICIENT", detail))
    detail = f"{unseen:.0f} blocked events have no label; every bound holds whatever they were"
    if open_ones:
        detail = (
            f"{NOT_IDENTIFIED}: {unseen:.0f} blocked events have no label, and {', '.join(open_ones)} hang on what "
            "they were: declare an exploration_share, or report what was really done to POST /actions"
        )
    status: Status = "INSUFFICIENT" if open_ones else "PASS"
    return (Check("identification", float(len(open_ones)), 0.0, None, status, detail), *found)


def measure_weighted(
    y: ArrayLike, flagged: ArrayLike, weight: ArrayLike, prices: Prices, *, days: ArrayLike | None = None,
    repetitions: int = 200, seed: int = 7,
) -> Performance:  # fmt: skip
    """What decisions achieved where rows stand for others: rates and cost, with resampled intervals.

    Counts are of the rows that were seen; rates and cost are of those they stand for.

    Args:
        y, flagged, weight: of rows with a label.
        prices: what mistakes cost.
        days: business day of each row; from 20 on they are resampled, else rows are.
        repetitions, seed: of the bootstrap.
    """
    from monitoring.performance import Performance  # it needs scipy.stats, which a verdict does without

    truth, flag, w = np.asarray(y, dtype=bool), np.asarray(flagged, dtype=bool), np.asarray(weight, dtype=float)
    by_day = days is not None and len(np.unique(np.asarray(days))) >= 20
    units = units_of(np.arange(len(truth)), np.asarray(days) if by_day else None, seed)
    resamples = Resamples.draw(max(1, units.count), repetitions, seed)

    def rate(top: np.ndarray, below: np.ndarray) -> Measured:
        total = float(w[below].sum())
        if not total:
            return Measured(None)
        drawn = [resamples.sums(units.totals(w * mask)) for mask in (top, below)]
        samples = np.divide(drawn[0], drawn[1], out=np.full_like(drawn[0], np.nan), where=drawn[1] > 0.0)
        return resamples.interval(float(w[top].sum()) / total, samples[~np.isnan(samples)])

    cost = w * prices.of_rows(truth, flag)
    every = np.ones(len(truth), dtype=bool)
    metrics = {
        "recall": rate(truth & flag, truth),
        "precision": rate(truth & flag, flag),
        "false_positive_rate": rate(~truth & flag, ~truth),
        "alert_rate": rate(flag, every),
        "prevalence": rate(truth, every),
        "cost": resamples.interval(float(cost.sum()), resamples.sums(units.totals(cost))),
    }
    return Performance(len(truth), int(truth.sum()), int(flag.sum()), metrics, "days" if by_day else "rows")
