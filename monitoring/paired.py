"""Champion and challenger on the same matured events: daily series, deciding bounds, money.

Both models score the same events, so everything is paired, and the unit is the matured day. The
bounds that decide are anytime-valid (:mod:`monitoring.sequential`), because people look every day.
All other figures are an :class:`~monitoring.appendix.Appendix` that no decision reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pandas as pd

from monitoring.appendix import Appendix, PairedRows, build_appendix
from monitoring.cost import Prices, prices_of
from monitoring.intervals import clustered_ratio, mean_interval
from monitoring.measured import Measured, Stored
from monitoring.policies import CostModel, PromotionPolicy
from monitoring.sequential import AnytimeT, anytime_ratio, anytime_t


@dataclass(frozen=True)
class PairedDay:
    """One matured business day. ``a`` is the champion, ``b`` the challenger; costs in the policy's currency."""

    day: date
    rows: int
    positives: int
    tp_a: int
    tp_b: int
    fp_a: int
    fp_b: int
    cost_a: float
    cost_b: float

    @property
    def saving(self) -> float:
        """Money that the challenger would have saved that day."""
        return self.cost_a - self.cost_b


@dataclass(frozen=True)
class PairedResult(Stored):
    """What a comparison found; :func:`monitoring.comparison.judge_comparison` makes a verdict of it.

    Attributes:
        champion, challenger: labels of the versions.
        as_of: business time of the comparison.
        days, rows, positives: matured evidence.
        saving: money saved a day by the challenger, anytime-valid. Decides.
        recall_gain: difference of pooled recalls, anytime-valid. Decides.
        false_positive_rate_rise: difference of pooled false-positive rates, anytime-valid. Decides.
        recall_champion, recall_challenger: pooled recalls with day-clustered intervals.
        cost_champion, cost_challenger: total cost over the days, with an interval from the daily costs.
        currency: of every cost.
        cost_cap: largest amount that entered a cost, or none.
        unscored: answered events that lack the challenger's score.
        challenger_errors: those of them at which the challenger failed.
        series: the days, oldest first.
        appendix: figures that are not used in the decision; none when not asked for.
    """

    champion: str
    challenger: str
    as_of: datetime
    days: int
    rows: int
    positives: int
    saving: AnytimeT
    recall_gain: AnytimeT
    false_positive_rate_rise: AnytimeT
    recall_champion: Measured
    recall_challenger: Measured
    cost_champion: Measured
    cost_challenger: Measured
    currency: str
    cost_cap: float | None
    unscored: int
    challenger_errors: int
    series: tuple[PairedDay, ...]
    appendix: Appendix | None = None

    def column(self, name: str) -> np.ndarray:
        """One figure of all days, for example ``saving`` or ``tp_b``."""
        return np.array([getattr(day, name) for day in self.series], dtype=float)


def compare_paired(
    paired: pd.DataFrame,
    cost: CostModel,
    policy: PromotionPolicy,
    *,
    champion: str,
    challenger: str,
    as_of: datetime,
    entity: str | None = None,
    top_k: int = 100,
    cost_cap: float | None = None,
    appendix: bool = True,
    repetitions: int = 2000,
    seed: int = 7,
) -> PairedResult:
    """Compare two models that scored the same events.

    No row at all gives a result of zero days, which no verdict promotes.

    Args:
        paired: matured rows only, one per event: ``day`` (business day), ``score_a``, ``flag_a``,
            ``score_b``, ``flag_b``, ``y`` (0/1), plus the cost column and the entity column where they are
            used. ``a`` is the champion, ``b`` the challenger. ``attrs["counts"]`` of the prediction log,
            where present, tells how many events the challenger did not score.
        cost: what mistakes cost; a column name reads that column.
        policy: level, margins, minimum evidence.
        champion, challenger: labels of the versions.
        as_of: business time of the comparison.
        entity: column that recurs (a card), for entity clustering and card precision.
        top_k: entities a day of card precision.
        cost_cap: largest amount that enters a cost. Declare it beforehand (from the reference); without
            one, ``policy.cost_cap_quantile`` of these rows is taken.
        appendix: whether to compute the figures that decide nothing.
        repetitions, seed: of their bootstrap.
    """
    prices, cap = _prices(paired, cost, policy, cost_cap)
    rows = PairedRows.of(paired, prices, entity)
    series = _series(rows)
    saving = np.array([d.saving for d in series])
    gained = np.array([d.tp_b - d.tp_a for d in series])
    raised = np.array([d.fp_b - d.fp_a for d in series])
    positives = np.array([d.positives for d in series])
    negatives = np.array([d.rows - d.positives for d in series])
    level, planned = policy.alpha, float(policy.planned_days)
    counts = paired.attrs.get("counts")
    return PairedResult(
        champion=champion,
        challenger=challenger,
        as_of=as_of,
        days=len(series),
        rows=len(paired),
        positives=int(positives.sum()),
        saving=anytime_t(saving, level, planned),
        recall_gain=anytime_ratio(gained, positives, level, planned),
        false_positive_rate_rise=anytime_ratio(raised, negatives, level, planned),
        recall_champion=clustered_ratio([d.tp_a for d in series], positives),
        recall_challenger=clustered_ratio([d.tp_b for d in series], positives),
        cost_champion=_total([d.cost_a for d in series]),
        cost_challenger=_total([d.cost_b for d in series]),
        currency=cost.currency,
        cost_cap=cap,
        unscored=int(getattr(counts, "unscored_b", 0)),
        challenger_errors=int(getattr(counts, "errors_b", 0)),
        series=series,
        appendix=build_appendix(rows, saving, policy, top_k, repetitions, seed) if appendix and len(paired) else None,
    )


def _prices(
    paired: pd.DataFrame, cost: CostModel, policy: PromotionPolicy, cap: float | None
) -> tuple[Prices, float | None]:
    """Prices of the rows, amounts capped so that one huge loss does not decide alone."""
    if not isinstance(cost.false_negative, str):
        return prices_of(cost), None
    if cap is None and len(paired):
        cap = float(paired[cost.false_negative].quantile(policy.cost_cap_quantile))
    return prices_of(cost, paired, cap), cap


def _series(rows: PairedRows) -> tuple[PairedDay, ...]:
    """Daily totals, oldest day first."""
    hit, miss = rows.y, ~rows.y
    flags = (np.ones(len(hit)), hit, hit & rows.flag_a, hit & rows.flag_b, miss & rows.flag_a, miss & rows.flag_b)
    counts = np.array([rows.by_day(flag) for flag in flags]).T.round().astype(int).tolist()
    money = np.array([rows.by_day(rows.cost_a), rows.by_day(rows.cost_b)]).T.tolist()
    days = [pd.Timestamp(day).date() for day in rows.days]
    return tuple(
        PairedDay(day, n, p, tp_a, tp_b, fp_a, fp_b, cost_a, cost_b)
        for day, (n, p, tp_a, tp_b, fp_a, fp_b), (cost_a, cost_b) in zip(days, counts, money, strict=True)
    )


def _total(daily: list[float]) -> Measured:
    """Sum over the days; its interval is that of the daily mean, times the number of days."""
    test, n = mean_interval(daily), len(daily)
    if test.mean is None or test.low is None or test.high is None:
        return Measured(None if test.mean is None else test.mean * n)
    return Measured(test.mean * n, test.low * n, test.high * n)
