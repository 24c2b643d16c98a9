"""Champion and challenger on the same matured events: daily series, deciding bounds, money.

Both models score the same events, so everything is paired, and the unit is the matured day. The
bounds that decide are anytime-valid (:mod:`monitoring.stats.anytime`), because people look every day.
All other figures are an :class:`~monitoring.comparison.secondary_figures.Appendix` that no decision reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd

from monitoring.comparison.daily_series import FrozenDay, LateLabels, PairedDay, Unseen, count_late_labels
from monitoring.comparison.discordance import discordant_groups
from monitoring.comparison.paired_rows import PairedRows
from monitoring.comparison.plan import ComparisonPlan
from monitoring.comparison.secondary_figures import Appendix, build_appendix
from monitoring.core.measured import Measurement, StoredResult
from monitoring.performance.cost import Prices, prices_of
from monitoring.policies import CostModel
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.anytime import AnytimeT, anytime_ratio, anytime_t
from monitoring.stats.bootstrap import Bootstrap
from monitoring.stats.group_sequential import lan_demets_mean, lan_demets_ratio
from monitoring.stats.intervals import clustered_ratio, mean_interval

BESIDE_THE_DECISION = (
    "result.appendix",
    "result.recall_champion",
    "result.recall_challenger",
    "result.cost_champion",
    "result.cost_challenger",
    "result.late",
)
"""Parts of a comparison in JSON that are not used in the decision."""

APPENDIX_BOOTSTRAP: Final = Bootstrap(2000)
"""Of the figures that decide nothing."""


@dataclass(frozen=True)
class PairedResult(StoredResult):
    """What a comparison found; :func:`monitoring.comparison.judge.judge_comparison` makes a verdict of it.

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
        late: what became known of frozen days since they were frozen; it changes nothing above.
        method: the rule behind the bounds, ``anytime`` or ``lan_demets``.
        unseen: blocked events whose labels nobody will learn and no draw stands for.
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
    recall_champion: Measurement
    recall_challenger: Measurement
    cost_champion: Measurement
    cost_challenger: Measurement
    currency: str
    cost_cap: float | None
    unscored: int
    challenger_errors: int
    series: tuple[PairedDay, ...]
    appendix: Appendix | None = None
    late: LateLabels = field(default_factory=LateLabels)
    method: str = "anytime"
    unseen: float = 0.0

    def column(self, name: str) -> np.ndarray:
        """One figure of all days, for example ``saving`` or ``tp_b``."""
        return np.array([getattr(day, name) for day in self.series], dtype=float)


def compare_paired(
    paired: pd.DataFrame,
    plan: ComparisonPlan,
    as_of: datetime,
    *,
    frozen: Sequence[FrozenDay] = (),
    appendix: bool = True,
    bootstrap: Bootstrap = APPENDIX_BOOTSTRAP,
) -> PairedResult:
    """Compare two models that scored the same events.

    No row at all gives a result of zero days, which no verdict promotes.

    Args:
        paired: matured rows only, one per event: ``day`` (business day), ``score_a``, ``flag_a``,
            ``score_b``, ``flag_b``, ``y`` (0/1), plus the columns of ``plan.columns``. ``a`` is the champion,
            ``b`` the challenger. ``attrs["counts"]`` of the prediction log, where present, tells how many
            events the challenger did not score.
        plan: costs with their cap, level, margins, minimum evidence, entity, segments.
        as_of: business time of the comparison.
        frozen: days that were judged before; they enter as they were, and no day up to the last of them
            is read from ``paired`` again.
        appendix: whether to compute the figures that decide nothing.
        bootstrap: of their intervals.
    """
    cost, policy = plan.cost_model, plan.promotion_policy
    prices, cap = _capped_prices(paired, cost, plan.cost_cap)
    rows = PairedRows.of(paired, prices, plan.entity)
    series = _append_days(frozen, _series(rows))
    saving = np.array([d.saving for d in series])
    recall_gains = np.array([d.tp_b - d.tp_a for d in series])
    alarm_rises = np.array([d.fp_b - d.fp_a for d in series])
    positives = np.array([d.positives for d in series])
    negatives = np.array([d.rows - d.positives for d in series])
    counts = paired.attrs.get("counts")
    return PairedResult(
        champion=plan.champion,
        challenger=plan.challenger,
        as_of=as_of,
        days=len(series),
        rows=round(sum(d.rows for d in series)),
        positives=round(sum(d.positives if d.seen is None else d.seen for d in series)),
        saving=bounded_mean(saving, policy),
        recall_gain=bounded_ratio(recall_gains, positives, policy),
        false_positive_rate_rise=bounded_ratio(alarm_rises, negatives, policy),
        recall_champion=_share(clustered_ratio([d.tp_a for d in series], positives)),
        recall_challenger=_share(clustered_ratio([d.tp_b for d in series], positives)),
        cost_champion=_total([d.cost_a for d in series]),
        cost_challenger=_total([d.cost_b for d in series]),
        currency=cost.currency,
        cost_cap=cap,
        unscored=int(getattr(counts, "unscored_b", 0)),
        challenger_errors=int(getattr(counts, "errors_b", 0)),
        series=series,
        appendix=build_appendix(
            rows, saving, policy, plan.top_k, bootstrap,
            alert_rate=plan.alert_rate, groups=discordant_groups(paired, rows, plan.segments, plan.amount),
        ) if appendix and len(paired) and "weight" not in paired else None,
        late=count_late_labels(paired, frozen),
        method=policy.method,
        unseen=float(sum(d.unseen.total for d in series if d.unseen is not None)),
    )  # fmt: skip


def replace_series(result: PairedResult, series: Sequence[PairedDay], policy: PromotionPolicy) -> PairedResult:
    """The same comparison on other daily totals: everything that decides is worked out again."""
    positives = np.array([d.positives for d in series])
    recall_gains = np.array([d.tp_b - d.tp_a for d in series])
    alarm_rises = np.array([d.fp_b - d.fp_a for d in series])
    negatives = np.array([d.rows - d.positives for d in series])
    return replace(
        result,
        series=tuple(series),
        saving=bounded_mean(np.array([d.saving for d in series]), policy),
        recall_gain=bounded_ratio(recall_gains, positives, policy),
        false_positive_rate_rise=bounded_ratio(alarm_rises, negatives, policy),
        recall_champion=_share(clustered_ratio([d.tp_a for d in series], positives)),
        recall_challenger=_share(clustered_ratio([d.tp_b for d in series], positives)),
        cost_champion=_total([d.cost_a for d in series]),
        cost_challenger=_total([d.cost_b for d in series]),
    )


def bounded_mean(values: np.ndarray, policy: PromotionPolicy) -> AnytimeT:
    """The mean of a daily series with bounds by the rule of the policy."""
    level, planned = policy.alpha, float(policy.planned_days)
    if policy.method == "lan_demets":
        return lan_demets_mean(values, level, policy.decision_days, planned)
    return anytime_t(values, level, planned)


def bounded_ratio(x: np.ndarray, y: np.ndarray, policy: PromotionPolicy) -> AnytimeT:
    """The d where sum(x) = d sum(y), with bounds by the rule of the policy."""
    level, planned = policy.alpha, float(policy.planned_days)
    if policy.method == "lan_demets":
        return lan_demets_ratio(x, y, level, policy.decision_days, planned)
    return anytime_ratio(x, y, level, planned)


def _append_days(frozen: Sequence[FrozenDay], new_days: tuple[PairedDay, ...]) -> tuple[PairedDay, ...]:
    """The frozen days as they are, then what is later than the last of them."""
    last_frozen_day = max((frozen_day.day.day for frozen_day in frozen), default=None)
    return (
        *(frozen_day.day for frozen_day in frozen),
        *(day for day in new_days if last_frozen_day is None or day.day > last_frozen_day),
    )


def _capped_prices(paired: pd.DataFrame, cost: CostModel, cap: float | None) -> tuple[Prices, float | None]:
    """Prices of the rows, amounts capped so that one huge loss does not decide alone, and the cap that holds."""
    if not isinstance(cost.false_negative, str):
        return prices_of(cost), None
    return prices_of(cost, paired, math.inf if cap is None else cap), cap


def _series(rows: PairedRows) -> tuple[PairedDay, ...]:
    """Daily totals, oldest day first."""
    masks = ("all", "y", "hit_a", "hit_b", "alarm_a", "alarm_b")
    counts = np.array([rows.daily(name) for name in masks]).T.tolist()
    money = np.array([rows.by_day(rows.cost_a), rows.by_day(rows.cost_b)]).T.tolist()
    days = [pd.Timestamp(day).date() for day in rows.days]
    selection = _unseen_by_day(rows) if rows.weight is not None else [(None, None)] * len(days)
    return tuple(
        PairedDay(day, n, p, tp_a, tp_b, fp_a, fp_b, cost_a, cost_b, seen_positives, unseen)
        for day, (n, p, tp_a, tp_b, fp_a, fp_b), (cost_a, cost_b), (seen_positives, unseen) in zip(
            days, counts, money, selection, strict=True
        )
    )


def _unseen_by_day(rows: PairedRows) -> list[tuple[int | None, Unseen | None]]:
    """Positives that were seen on each day, and what has no label."""
    assert rows.weight is not None
    assert rows.unseen is not None
    assert rows.missed is not None
    size = len(rows.days)
    seen_positives = np.bincount(rows.day, weights=rows.y & (rows.weight > 0.0), minlength=size).astype(int).tolist()
    flags = rows.kind & 6
    unseen_events = [np.bincount(rows.day, weights=rows.unseen * (flags == side), minlength=size) for side in (2, 4, 6)]
    missed_money = [
        np.bincount(rows.day, weights=rows.unseen * rows.missed * (flags == k), minlength=size) for k in (2, 4)
    ]
    unseen_by_day = np.array([*unseen_events, *missed_money]).T.tolist()
    return [
        (positives, Unseen(*figures) if sum(figures[:3]) else None)
        for positives, figures in zip(seen_positives, unseen_by_day, strict=True)
    ]


def _share(figure: Measurement) -> Measurement:
    """A linearised interval ends where shares do."""
    if figure.low is None or figure.high is None:
        return figure
    return Measurement(figure.value, max(0.0, figure.low), min(1.0, figure.high))


def _total(daily: list[float]) -> Measurement:
    """Sum over the days; its interval is that of the daily mean, times the number of days."""
    test, n = mean_interval(daily), len(daily)
    if test.mean is None or test.low is None or test.high is None:
        return Measurement(None if test.mean is None else test.mean * n)
    return Measurement(test.mean * n, test.low * n, test.high * n)
