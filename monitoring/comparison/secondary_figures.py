"""Figures of a comparison that are shown and not used in the decision.

Fixed-sample intervals and tests err one time in four when people look every day; they are here for
readers who expect them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from monitoring.comparison.discordance import DiscordantGroup
from monitoring.comparison.paired_rows import PairedRows
from monitoring.core.measured import Measurement
from monitoring.performance.card_precision import ranked_precision
from monitoring.policies.promotion import PromotionPolicy
from monitoring.stats.bootstrap import MIN_DAYS, Bootstrap, Resamples, Units, mean_bootstrap
from monitoring.stats.intervals import (
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
    unpaired_factor,
    unpaired_t_p,
)
from monitoring.stats.ranking import (
    DeLong,
    Ranking,
    RankTable,
    average_precision,
    delong,
    precision_at_recall,
    ranked_auc,
    recall_at_false_positive_rate,
)

NOT_USED = "not used in the decision"
LEGACY_NOTE = (
    "The customary unpaired t-test on daily recalls ignores that both models saw the same events. "
    "It needs about {factor:.3g} times the data{where}, and a day without positives leaves it undefined."
)
_CUSTOMARY_FACTOR = 4.25


RECALL_FLOOR, ALARM_LIMIT = 0.8, 0.2
"""The operating points at which rankings are customarily compared, whatever the promoted thresholds are."""
LOWER_THRESHOLD = "At equal alerts the challenger catches no more: its gain is a lower threshold."


@dataclass(frozen=True)
class PairedFigure:
    """One figure of both models with the interval of the difference b - a."""

    a: float | None
    b: float | None
    difference: Measurement


@dataclass(frozen=True)
class Appendix:
    """Secondary figures.

    Attributes:
        recall, precision, false_positive_rate: pooled ratios, linearised and clustered by day, or by
            entity where that is wider.
        saving: one-sample t of the daily saving. ``saving_sign_flip_p`` and ``saving_bootstrap`` are its
            distribution-free companions.
        legacy_p: unpaired t-test of daily recalls; see ``LEGACY_NOTE``.
        legacy_factor: how many times the data that test needs at these recalls and this discordance.
        mcnemar, bonett_price, tango: on positives caught by one model only. ``tango_p`` is the one-sided
            non-inferiority p at the policy's recall margin (0 without one).
        delong: AUC with DeLong's interval. ``auc``, ``average_precision``, ``card_precision``: days are
            resampled, from 20 days on.
        matched: recall of both at ``matched_alerts`` alerts; a lower threshold alone gains nothing here.
        discordant_false_alarms: false alarms of the challenger only, of the champion only.
        precision_at_recall: the best precision of both where at least ``RECALL_FLOOR`` is caught.
        recall_at_alarms: the best recall of both where at most ``ALARM_LIMIT`` of negatives are flagged.
        groups: where the models disagree, by segment and by amount.
        note: says that none of this is used in the decision.
        clustered_by: ``entity`` where entities recur and gave a wider interval of the recall, else ``day``.
    """

    recall: RatioDifference
    precision: RatioDifference
    false_positive_rate: RatioDifference
    saving: MeanTest
    saving_sign_flip_p: float | None
    saving_bootstrap: Measurement
    legacy_p: float | None
    mcnemar: McNemar
    bonett_price: Measurement
    tango: Measurement
    tango_p: float | None
    delong: DeLong | None
    average_precision: PairedFigure
    card_precision: PairedFigure | None
    matched: RatioDifference
    matched_alerts: int
    discordant_false_alarms: tuple[int, int]
    auc: PairedFigure = PairedFigure(None, None, Measurement(None))
    groups: tuple[DiscordantGroup, ...] = ()
    clustered_by: str = "day"
    note: str = NOT_USED
    precision_at_recall: PairedFigure = PairedFigure(None, None, Measurement(None))
    recall_at_alarms: PairedFigure = PairedFigure(None, None, Measurement(None))
    legacy_factor: float | None = None

    @property
    def legacy_note(self) -> str:
        """What is wrong with the unpaired test, with its price here where that is known."""
        if self.legacy_factor is None:
            return LEGACY_NOTE.format(factor=_CUSTOMARY_FACTOR, where="")
        return LEGACY_NOTE.format(factor=self.legacy_factor, where=" here")

    @property
    def gains_by_threshold_alone(self) -> bool:
        """Whether the challenger catches more at its own threshold, and no more at equal alerts."""
        matched = self.matched.difference
        return matched is not None and matched <= 0.0 < (self.recall.difference or 0.0)


def build_appendix(
    rows: PairedRows,
    saving: np.ndarray,
    policy: PromotionPolicy,
    top_k: int,
    bootstrap: Bootstrap,
    *,
    alert_rate: float | None = None,
    groups: tuple[DiscordantGroup, ...] = (),
) -> Appendix:
    """All secondary figures; ``saving`` is the daily series."""
    repetitions, seed = bootstrap.repetitions, bootstrap.seed
    only_b, only_a = rows.total(5), rows.total(3)
    positives = int(rows.y.sum())
    rankings = (Ranking.of(rows.score_a), Ranking.of(rows.score_b))
    alerts, flags = matched_flags(rows, rankings, alert_rate)
    rows_at_equal_alerts = rows.matched(flags)
    margin = policy.recall_non_inferiority_margin or 0.0
    tango_p = float(special.ndtr(-tango_t(only_b, only_a, positives, -margin))) if positives else None
    recall = compare_ratio(rows, "hit_a", "y", "hit_b", "y")
    auc_test = delong(rows.y, rows.score_a, rows.score_b, rankings=rankings)
    ranking_figures = _ranking_figures(rows, rankings, auc_test, repetitions, seed)
    precision_at_floor, recall_at_limit = _operating_point_figures(rows, rankings)
    return Appendix(
        recall=recall,
        precision=compare_ratio(rows, "hit_a", "flag_a", "hit_b", "flag_b"),
        false_positive_rate=compare_ratio(rows, "alarm_a", "miss", "alarm_b", "miss"),
        saving=mean_interval(saving),
        saving_sign_flip_p=sign_flip_p(saving, seed),
        saving_bootstrap=mean_bootstrap(saving, repetitions, seed),
        legacy_p=legacy_p(rows),
        legacy_factor=_legacy_factor(recall, only_b + only_a, positives),
        mcnemar=mcnemar(only_b, only_a),
        bonett_price=bonett_price(only_b, only_a, positives),
        tango=tango_interval(only_b, only_a, positives),
        tango_p=tango_p,
        delong=auc_test,
        card_precision=_card_precision(rows, rankings, top_k, repetitions, seed),
        matched=compare_ratio(rows_at_equal_alerts, "hit_matched_a", "y", "hit_matched_b", "y"),
        matched_alerts=alerts,
        discordant_false_alarms=(rows.total(4), rows.total(2)),
        groups=groups,
        clustered_by="day" if recall.clusters == len(rows.days) else "entity",
        average_precision=ranking_figures["average_precision"],
        auc=ranking_figures["auc"],
        precision_at_recall=precision_at_floor,
        recall_at_alarms=recall_at_limit,
    )


def compare_ratio(rows: PairedRows, x_a: str, y_a: str, x_b: str, y_b: str) -> RatioDifference:
    """Difference of two pooled ratios, clustered by day, or by entity where they recur and that is wider."""
    by_day = clustered_ratio_difference(rows.daily(x_a), rows.daily(y_a), rows.daily(x_b), rows.daily(y_b))
    if rows.entity is None or rows.entities is None or len(rows.entities) == len(rows.entity):
        return by_day
    totals = [rows.of_entities(name) for name in (x_a, y_a, x_b, y_b)]
    by_entity = clustered_ratio_difference(totals[0], totals[1], totals[2], totals[3])
    return by_entity if by_entity.low is not None and by_entity.width > by_day.width else by_day


def legacy_p(rows: PairedRows) -> float | None:
    """The unpaired t-test on daily recalls, ``None`` when a day has no positive."""
    positives = rows.daily("y")
    if len(positives) < 2 or not positives.all():
        return None
    recalls = [rows.daily(name) / positives for name in ("hit_a", "hit_b")]
    return unpaired_t_p(recalls[1], recalls[0])


def matched_flags(
    rows: PairedRows, rankings: tuple[Ranking, Ranking], alert_rate: float | None = None
) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
    """What each flags with no more alerts than the champion raised, or than the declared share allows.

    Without a declared share the champion's flags stay its own. A model whose threshold goes by the amount ranks
    by what an alert is expected to save, as its own decisions do.
    """
    merits = ((rows.score_a, rows.merit_a, rankings[0]), (rows.score_b, rows.merit_b, rankings[1]))
    merit_rankings = [
        (score, ranking) if merit is None else (merit, Ranking.of(merit)) for score, merit, ranking in merits
    ]
    if alert_rate is None:
        alerts, champion_flags = rows.total(2, 3, 6, 7), rows.kind & 2 == 2
        return alerts, (champion_flags, merit_rankings[1][0] >= _cut(merit_rankings[1][1], alerts))
    alerts = int(alert_rate * len(rows.y))
    flags = [values >= _cut(ranking, alerts) for values, ranking in merit_rankings]
    return alerts, (flags[0], flags[1])


def _cut(ranking: Ranking, budget: int) -> float:
    """The lowest score that flags no more than ``budget`` rows; equal scores are flagged together."""
    fitting_runs = int(np.searchsorted(ranking.ends, budget - 1, side="right"))
    return float(ranking.score[ranking.ends[fitting_runs - 1]]) if fitting_runs else np.inf


def _legacy_factor(recall: RatioDifference, discordant: int, positives: int) -> float | None:
    """How many times the data the unpaired test needs at the recalls and the discordance that were seen."""
    if not positives or recall.a is None or recall.b is None:
        return None
    return unpaired_factor(recall.a, recall.b, discordant / positives)


def _operating_point_figures(rows: PairedRows, rankings: tuple[Ranking, Ranking]) -> tuple[PairedFigure, PairedFigure]:
    """Both models at the customary operating points of a ranking."""
    score_rankings = tuple(zip((rows.score_a, rows.score_b), rankings, strict=True))
    precision = [precision_at_recall(rows.y, score, RECALL_FLOOR, ranking) for score, ranking in score_rankings]
    recall = [recall_at_false_positive_rate(rows.y, score, ALARM_LIMIT, ranking) for score, ranking in score_rankings]
    return _pair_figures(*precision), _pair_figures(*recall)


def _pair_figures(a: float | None, b: float | None) -> PairedFigure:
    """A figure of both models without an interval."""
    return PairedFigure(a, b, Measurement(None if a is None or b is None else b - a))


def _ranking_figures(
    rows: PairedRows, rankings: tuple[Ranking, Ranking], auc_test: DeLong | None, repetitions: int, seed: int
) -> dict[str, PairedFigure]:
    """AUC and average precision of both, with day-block intervals of the difference."""
    values = {
        "average_precision": [average_precision(rows.y, rows.score_a, ranking) for ranking in rankings],
        "auc": [ranked_auc(rows.y, ranking) for ranking in rankings] if auc_test is None else [auc_test.a, auc_test.b],
    }
    is_resampled = len(rows.days) >= MIN_DAYS
    units = Units(rows.day, len(rows.days), True)
    tables = [RankTable.of(rows.y, rows.score_a, units, ranking) for ranking in rankings] if is_resampled else []
    figures = {}
    for name, (a, b) in values.items():

        def samples(resamples: Resamples, figure: str = name) -> np.ndarray:
            return np.asarray(getattr(tables[1], figure)(resamples) - getattr(tables[0], figure)(resamples))

        figures[name] = PairedFigure(a, b, _difference(a, b, len(rows.days), samples, repetitions, seed))
    return figures


def _card_precision(
    rows: PairedRows, rankings: tuple[Ranking, Ranking], top_k: int, repetitions: int, seed: int
) -> PairedFigure | None:
    if rows.entity is None or rows.entities is None:
        return None
    a, b = (ranked_precision(rows.entity, rows.entities, rows.day, rows.y, ranking, top_k) for ranking in rankings)
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
) -> Measurement:
    """b - a with its day-block interval; fewer than 20 days are too few to resample."""
    if a is None or b is None:
        return Measurement(None)
    if days < MIN_DAYS:
        return Measurement(b - a)
    resamples = Resamples.draw(days, repetitions, seed)
    return resamples.interval(b - a, samples(resamples))
