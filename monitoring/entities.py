"""Card precision@k: how many of the k entities on top of a day's list are truly compromised."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


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
    entity: ArrayLike, day: ArrayLike, y: ArrayLike, score: ArrayLike, k: int = 100, known: Collection[str] = ()
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
        known: entities that are known to be compromised before the first day.
    """
    table = _daily_maximum(entity, day, y, score)
    if not len(table):
        return CardPrecision(None, (), 0)
    found = np.isin(table["entity"].to_numpy(), np.asarray(list(known), dtype=object))
    alive = np.ones(table["code"].max() + 1, dtype=bool)
    alive[table["code"].to_numpy()[found]] = False
    codes, hits = table["code"].to_numpy(), table["y"].to_numpy(dtype=bool)
    daily, short = [], 0
    bounds = np.append(np.flatnonzero(np.diff(table["day"].to_numpy(), prepend=-1)), len(table))
    for start, end in itertools.pairwise(bounds.tolist()):
        listed = np.flatnonzero(alive[codes[start:end]])[:k] + start
        caught = listed[hits[listed]]
        daily.append(len(caught) / k)
        short += len(listed) < k
        alive[codes[caught]] = False
    return CardPrecision(float(np.mean(daily)), tuple(daily), short)


def _daily_maximum(entity: ArrayLike, day: ArrayLike, y: ArrayLike, score: ArrayLike) -> pd.DataFrame:
    """One row per day and entity: highest score, whether compromised; ordered by day, then rank."""
    codes, names = pd.factorize(np.asarray(entity, dtype=object))
    days, _ = pd.factorize(np.asarray(day), sort=True)
    cell = days.astype(np.int64) * max(1, len(names)) + codes
    order = np.argsort(cell, kind="stable")
    if not len(order):
        return pd.DataFrame({"day": [], "code": [], "entity": [], "y": [], "score": []})
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    top = np.maximum.reduceat(np.asarray(score, dtype=float)[order], starts)
    hit = np.maximum.reduceat(np.asarray(y, dtype=np.int8)[order], starts)
    day_of, code = days[order][starts], codes[order][starts]
    tie = pd.util.hash_array(np.asarray(names, dtype=object).astype(str).astype(object))[code]
    rank = np.lexsort((tie, -top, day_of))
    columns = {"day": day_of, "code": code, "entity": np.asarray(names, dtype=object)[code], "y": hit, "score": top}
    return pd.DataFrame(columns).iloc[rank].reset_index(drop=True)
