"""Champion and challenger on the same matured events: daily series, intervals, money."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import pandas as pd

from monitoring.measured import Measured, digest_of, from_plain, to_plain
from monitoring.policies import CostModel, PromotionPolicy


@dataclass(frozen=True)
class PairedResult:
    """Everything a comparison found; :func:`monitoring.comparison.judge_comparison` turns it into a verdict."""

    champion: str
    challenger: str
    as_of: datetime
    days: int
    rows: int
    positives: int
    recall_champion: Measured
    recall_challenger: Measured
    cost_champion: Measured
    cost_challenger: Measured

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return digest_of(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` wrote."""
        return from_plain(cls, data)


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
    repetitions: int = 2000,
    seed: int = 7,
) -> PairedResult:
    """Compare two models that scored the same events.

    Args:
        paired: matured rows only, one per event: ``day`` (business day), ``score_a``, ``threshold_a``,
            ``flag_a``, ``score_b``, ``threshold_b``, ``flag_b``, ``y`` (0/1), plus the cost column and the
            entity column where they are used. ``a`` is the champion, ``b`` the challenger.
        cost: what mistakes cost; a column name reads that column.
        policy: level, margins, minimum evidence.
        champion, challenger: labels of the versions.
        as_of: business time of the comparison.
        entity: column that recurs (a card), for entity clustering and card precision.
        top_k: alerts a day of card precision.
        cost_cap: largest amount that enters a cost; none takes ``policy.cost_cap_quantile`` of these rows.
        repetitions, seed: of the bootstrap figures in the appendix.

    Raises:
        InsufficientEvidence: when there is no row at all.
    """
    raise NotImplementedError
