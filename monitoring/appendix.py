"""Figures of a comparison that are shown and not used in the decision.

Fixed-sample intervals and tests err one time in four when people look every day; they are here for
readers who expect them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from monitoring.bootstrap import MIN_DAYS, Resamples, Units, mean_bootstrap
from monitoring.cost import Prices, capacity_cut
from monitoring.entities import card_precision
from monitoring.intervals import (
    McNemar,
    MeanTest,
    RatioDifference,
    bonett_price,
    clustered_ratio_difference,
    mcnemar,
    mean_interval,
    sign_flip_p,
    tango_interval,
    tango_t,
)
from monitoring.measured import Measured, finite
from monitoring.policies import PromotionPolicy
from monitoring.ranking import DeLong, RankTable, average_precision, delong

NOT_USED = "not used in the decision"
LEGACY_NOTE = (
    "The customary unpaired t-test on daily recalls ignores that both models saw the same events. "
    "It needs about 4.25 times the data, and a day without positives leaves it undefined."
)


@dataclass(frozen=True)
class PairedRows:
    """The rows of a comparison as arrays, and the sums that everything is made of."""

    y: np.ndarray
    flag_a: np.ndarray
    flag_b: np.ndarray
    score_a: np.ndarray
    score_b: np.ndarray
    cost_a: np.ndarray
    cost_b: np.ndarray
    day: np.ndarray
    days: np.ndarray
    entity: np.ndarray | None
    entities: np.ndarray | None

    @classmethod
    def of(cls, paired: pd.DataFrame, prices: Prices, entity: str | None) -> PairedRows:
        """Read the columns once."""
        y = paired["y"].to_numpy() == 1
        flags = [paired[f"flag_{side}"].to_numpy(dtype=bool) for side in "ab"]
        scores = [paired[f"score_{side}"].to_numpy(dtype=float) for side in "ab"]
        day, days = pd.factorize(paired["day"], sort=True)
        code, names = pd.factorize(paired[entity]) if entity is not None else (None, None)
        costs = [prices.of_rows(y, flag) for flag in flags]
        return cls(
            y, flags[0], flags[1], scores[0], scores[1], costs[0], costs[1],
            day, np.asarray(days), code, None if names is None else np.asarray(names, dtype=object),
        )  # fmt: skip

    def by_day(self, values: np.ndarray) -> np.ndarray:
        """Daily totals."""
        return np.bincount(self.day, weights=values, minlength=len(self.days))

    def by_entity(self, values: np.ndarray) -> np.ndarray:
        """Totals of each entity; empty without an entity column."""
        if self.entity is None or self.entities is None:
            return np.empty(0)
        return np.bincount(self.entity, weights=values, minlength=len(self.entities))


@dataclass(frozen=True)
class PairedFigure:
    """One figure of both models with the interval of the difference b - a."""

    a: float | None
    b: float | None
    difference: Measured


@dataclass(frozen=True)
class Appendix:
    """Secondary figures.

    Attributes:
        recall, precision, false_positive_rate: pooled ratios, linearised and clustered by day, or by
            entity where that is wider.
        saving: one-sample t of the daily saving. ``saving_sign_flip_p`` and ``saving_bootstrap`` are its
            distribution-free companions.
        legacy_p: unpaired t-test of daily recalls; see ``LEGACY_NOTE``.
        mcnemar, bonett_price, tango: on positives caught by one model only. ``tango_p`` is the one-sided
            non-inferiority p at the policy's recall margin (0 without one).
        delong: AUC. ``average_precision``, ``card_precision``: resampled by day from 20 days on.
        matched: recall at the champion's number of alerts; a lower threshold alone gains nothing here.
        discordant_false_alarms: false alarms of the challenger only, of the champion only.
    """

    recall: RatioDifference
    precision: RatioDifference
    false_positive_rate: RatioDifference
    saving: MeanTest
    saving_sign_flip_p: float | None
    saving_bootstrap: Measured
    legacy_p: float | None
    mcnemar: McNemar
    bonett_price: Measured
    tango: Measured
    tango_p: float | None
    delong: DeLong | None
    average_precision: PairedFigure
    card_precision: PairedFigure | None
    matched: RatioDifference
    matched_alerts: int
    discordant_false_alarms: tuple[int, int]


def build_appendix(
    rows: PairedRows, saving: np.ndarray, policy: PromotionPolicy, top_k: int, repetitions: int, seed: int
) -> Appendix:
    """All secondary figures; ``saving`` is the daily series."""
    y, miss = rows.y, ~rows.y
    only_b, only_a = int(np.sum(y & rows.flag_b & ~rows.flag_a)), int(np.sum(y & rows.flag_a & ~rows.flag_b))
    positives = int(y.sum())
    alerts, flag_matched = matched_flags(rows)
    margin = policy.recall_non_inferiority_margin or 0.0
    tango_p = float(stats.norm.sf(tango_t(only_b, only_a, positives, -margin))) if positives else None
    return Appendix(
        recall=ratio_of(rows, y & rows.flag_a, y, y & rows.flag_b, y),
        precision=ratio_of(rows, y & rows.flag_a, rows.flag_a, y & rows.flag_b, rows.flag_b),
        false_positive_rate=ratio_of(rows, miss & rows.flag_a, miss, miss & rows.flag_b, miss),
        saving=mean_interval(saving),
        saving_sign_flip_p=sign_flip_p(saving, seed),
        saving_bootstrap=mean_bootstrap(saving, repetitions, seed),
        legacy_p=legacy_p(rows),
        mcnemar=mcnemar(only_b, only_a),
        bonett_price=bonett_price(only_b, only_a, positives),
        tango=tango_interval(only_b, only_a, positives),
        tango_p=tango_p,
        delong=delong(y, rows.score_a, rows.score_b),
        average_precision=_average_precision(rows, repetitions, seed),
        card_precision=_card_precision(rows, top_k, repetitions, seed),
        matched=ratio_of(rows, y & rows.flag_a, y, y & flag_matched, y),
        matched_alerts=alerts,
        discordant_false_alarms=(
            int(np.sum(miss & rows.flag_b & ~rows.flag_a)),
            int(np.sum(miss & rows.flag_a & ~rows.flag_b)),
        ),
    )


def ratio_of(rows: PairedRows, x_a: np.ndarray, y_a: np.ndarray, x_b: np.ndarray, y_b: np.ndarray) -> RatioDifference:
    """Difference of two pooled ratios, clustered by day or by entity, whichever interval is wider."""
    by_day = _clustered(rows.by_day, x_a, y_a, x_b, y_b)
    if rows.entity is None:
        return by_day
    by_entity = _clustered(rows.by_entity, x_a, y_a, x_b, y_b)
    return by_entity if by_entity.low is not None and by_entity.width > by_day.width else by_day


def _clustered(
    total: Callable[[np.ndarray], np.ndarray], x_a: np.ndarray, y_a: np.ndarray, x_b: np.ndarray, y_b: np.ndarray
) -> RatioDifference:
    return clustered_ratio_difference(total(x_a), total(y_a), total(x_b), total(y_b))


def legacy_p(rows: PairedRows) -> float | None:
    """The unpaired t-test on daily recalls, ``None`` when a day has no positive."""
    positives = rows.by_day(rows.y)
    if len(positives) < 2 or not positives.all():
        return None
    recalls = [rows.by_day(rows.y & flag) / positives for flag in (rows.flag_a, rows.flag_b)]
    if all(np.ptp(recall) == 0.0 for recall in recalls):
        return None
    return finite(float(stats.ttest_ind(recalls[1], recalls[0]).pvalue))


def matched_flags(rows: PairedRows) -> tuple[int, np.ndarray]:
    """The champion's number of alerts, and the challenger's flags with no more alerts than that."""
    alerts = int(rows.flag_a.sum())
    return alerts, np.asarray(rows.score_b >= capacity_cut(rows.score_b, alerts))


def _average_precision(rows: PairedRows, repetitions: int, seed: int) -> PairedFigure:
    a, b = (average_precision(rows.y, score) for score in (rows.score_a, rows.score_b))
    units = Units(rows.day, len(rows.days), True)

    def samples(resamples: Resamples) -> np.ndarray:
        tables = [RankTable.of(rows.y, score, units) for score in (rows.score_a, rows.score_b)]
        return np.asarray(tables[1].average_precision(resamples) - tables[0].average_precision(resamples))

    return PairedFigure(a, b, _difference(a, b, len(rows.days), samples, repetitions, seed))


def _card_precision(rows: PairedRows, top_k: int, repetitions: int, seed: int) -> PairedFigure | None:
    if rows.entity is None or rows.entities is None:
        return None
    names = rows.entities[rows.entity]
    a, b = (card_precision(names, rows.day, rows.y, score, top_k) for score in (rows.score_a, rows.score_b))
    daily = np.array(b.daily) - np.array(a.daily)

    def samples(resamples: Resamples) -> np.ndarray:
        return np.asarray(resamples.sums(daily) / len(daily))

    return PairedFigure(a.value, b.value, _difference(a.value, b.value, len(rows.days), samples, repetitions, seed))


def _difference(
    a: float | None,
    b: float | None,
    days: int,
    samples: Callable[[Resamples], np.ndarray],
    repetitions: int,
    seed: int,
) -> Measured:
    """b - a with its day-block interval; fewer than 20 days are too few to resample."""
    if a is None or b is None:
        return Measured(None)
    if days < MIN_DAYS:
        return Measured(b - a)
    resamples = Resamples.draw(days, repetitions, seed)
    return resamples.interval(b - a, samples(resamples))
