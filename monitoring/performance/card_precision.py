"""Card precision@k: how many of the k entities on top of a day's list are truly compromised."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from monitoring.stats.ranking import Ranking


@dataclass(frozen=True)
class CardPrecision:
    """Precision of the top k entities a day.

    Attributes:
        value: mean over days; ``None`` without a day.
        daily: precision of each day, oldest first.
        short_days: days with fewer than k entities; their denominator stays k.
    """

    value: float | None
    daily: tuple[float, ...]
    short_days: int


def card_precision(
    entity: ArrayLike,
    day: ArrayLike,
    y: ArrayLike,
    score: ArrayLike,
    k: int = 100,
    known_entities: Collection[str] = (),
) -> CardPrecision:
    """Per day take each entity's maximum score, drop those already found, count positives in the top k.

    As in the Fraud Detection Handbook: an entity is compromised on a day when one of its rows of that
    day is positive; one that was found (in the top k and compromised) leaves the later days. Equal
    scores at the border are ordered by a stable hash of the entity, not by the order of the table.

    Args:
        entity: name of each row's entity (a card or customer).
        day: business day of each row.
        y: 0/1 of each row.
        score: score of each row.
        k: length of the daily list.
        known_entities: entities that are known to be compromised before the first day.
    """
    codes, names = pd.factorize(np.asarray(entity, dtype=object))
    days, _ = pd.factorize(np.asarray(day), sort=True)
    return ranked_precision(codes, names, days, np.asarray(y) == 1, Ranking.of(score), k, known_entities)


def ranked_precision(
    codes: np.ndarray,
    names: ArrayLike,
    days: np.ndarray,
    y: np.ndarray,
    ranking: Ranking,
    k: int,
    known_entities: Collection[str] = (),
) -> CardPrecision:
    """:func:`card_precision` of entities and days that are numbered from 0, with the scores sorted already.

    Only the top of each day is looked at, so a million rows cost one pass.
    """
    entities = np.asarray(names, dtype=object)
    if not len(codes):
        return CardPrecision(None, (), 0)
    eligible = ~np.isin(entities, np.asarray(list(known_entities), dtype=object))
    compromised = np.unique(days[y].astype(np.int64) * len(entities) + codes[y])
    by_day = ranking.order[np.argsort(days[ranking.order].astype(np.uint16), kind="stable")]
    # Places in the ranking, so that a run of equal scores is never cut in two.
    score = np.empty(len(codes))
    score[ranking.order] = ranking.score
    bounds = np.concatenate(([0], np.cumsum(np.bincount(days))))
    daily, short_days = [], 0
    for number, (start, end) in enumerate(itertools.pairwise(bounds.tolist())):
        rows = by_day[start:end]
        top_entities = _top_entities(codes[rows], score[rows], eligible, entities, k)
        caught = top_entities[np.isin(number * len(entities) + top_entities, compromised)]
        daily.append(len(caught) / k)
        short_days += len(top_entities) < k
        eligible[caught] = False
    return CardPrecision(float(np.mean(daily)), tuple(daily), short_days)


def _top_entities(codes: np.ndarray, score: np.ndarray, eligible: np.ndarray, names: np.ndarray, k: int) -> np.ndarray:
    """The k living entities with the highest scores of one day, whose rows come by falling score."""
    size = min(len(codes), 4 * k)
    while True:
        # Rows that equal the last one belong to the border too.
        size = int(np.searchsorted(-score, -score[size - 1], side="right"))
        candidates, best_row = np.unique(codes[:size], return_index=True)
        is_eligible = eligible[candidates]
        if np.count_nonzero(is_eligible) >= k or size >= len(codes):
            break
        size = min(len(codes), 4 * size)
    candidates, best_row = candidates[is_eligible], best_row[is_eligible]
    tie = pd.util.hash_array(names[candidates].astype(str).astype(object))
    return np.asarray(candidates[np.lexsort((tie, -score[best_row]))][:k])
