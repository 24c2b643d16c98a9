"""Groups and slices under both models of a comparison: the same matured events, each model's own decisions."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from monitoring.core.measured import StoredResult
from monitoring.performance.fairness import FairnessReport, assess_fairness
from monitoring.policies import FairnessPolicy


@dataclass(frozen=True)
class GroupEffects(StoredResult):
    """Both reports on the same events.

    Attributes:
        champion, challenger: labels of the models.
        rows: events that both scored.
        a, b: what champion and challenger did to each group; the same groups in the same order.
    """

    champion: str
    challenger: str
    rows: int
    a: FairnessReport
    b: FairnessReport


def compare_groups(
    paired: pd.DataFrame, policy: FairnessPolicy, champion: str, challenger: str, *, labelled: bool = True
) -> GroupEffects | None:
    """Compare the groups under each model's decisions; none without rows or declared columns.

    Args:
        paired: matured events: ``flag_a``, ``flag_b``, ``y`` and the columns that the policy names; where flagged
            events are blocked also ``weight`` and ``unseen``, how many each stands for with and without a label.
        policy: columns, limits and minimum counts.
        champion, challenger: labels.
        labelled: whether ``y`` says anything; if not only rates of flags are compared.
    """
    columns = list(dict.fromkeys((*policy.sensitive, *policy.slices)))
    if not columns or paired.empty:
        return None
    y = paired["y"].fillna(0).astype(int) if labelled else pd.Series(0, index=paired.index)
    # Who was flagged is known of every row, so what it stands for counts whether or not its label is known.
    weight = paired["weight"] + paired["unseen"] if "weight" in paired else None
    a, b = (
        assess_fairness(paired[columns], y, paired[f"flag_{side}"], policy, labelled=labelled, weight=weight)
        for side in "ab"
    )
    return GroupEffects(champion, challenger, len(paired), a, b)
