"""What a file says of decisions and of what was done: flags, blocked events, the draw that let some through."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from bentos.usecase.definition import UseCase
from flows.errors import FlowRefused
from monitoring.stats.label_weights import label_weights

FLAGS: Final[dict[str, tuple[str, ...]]] = {
    "champion_flag": ("champion_flag", "flag_a"),
    "challenger_flag": ("challenger_flag", "flag_b"),
}
"""Decisions that were made, for rules that no single threshold gives (a threshold by the amount)."""
ACTION_ROLES: Final[dict[str, tuple[str, ...]]] = {"action": ("action",), "propensity": ("propensity",)}
"""What was done with an event, looked for where the use case blocks flagged events."""
ACTIONS: Final = ("block", "let_through", "explore")


def optional_roles(usecase: UseCase) -> dict[str, tuple[str, ...]]:
    """Roles that a file may have columns for, and their usual names."""
    return FLAGS | (ACTION_ROLES if usecase.intervention.blocks_flagged else {})


def read_flags(table: pd.DataFrame, column_by_role: dict[str, str], file: Path) -> dict[str, np.ndarray] | None:
    """``flag_a`` and ``flag_b`` as the file has them; none where it has none.

    Raises:
        FlowRefused: only one side has a column, or a value is neither 0 nor 1.
    """
    roles = [role for role in FLAGS if role in column_by_role]
    if not roles:
        return None
    if len(roles) == 1:
        raise FlowRefused(
            f"{file} has decisions of one model only ({column_by_role[roles[0]]}); name the other column too, with "
            "--champion-flag and --challenger-flag, or rename it and give thresholds"
        )
    flags = {}
    for role, side in zip(FLAGS, "ab", strict=True):
        values = table[column_by_role[role]]
        if not values.isin((0, 1)).all():
            raise FlowRefused(
                f"column {column_by_role[role]} of {file} must hold 1 where the model flagged the event, else 0"
            )
        flags[f"flag_{side}"] = values.to_numpy(dtype=bool)
    return flags


def read_actions(table: pd.DataFrame, column_by_role: dict[str, str], file: Path) -> dict[str, np.ndarray]:
    """``action`` and ``propensity`` as far as the file has them.

    Raises:
        FlowRefused: an action that is none, or a propensity outside 0..1, or without an action.
    """
    if "action" not in column_by_role:
        if "propensity" in column_by_role:
            raise FlowRefused(
                f"{file} has {column_by_role['propensity']}, but no column that says what was done; see --action"
            )
        return {}
    action = table[column_by_role["action"]].to_numpy(dtype=object)
    if not pd.Series(action).isin(ACTIONS).all():
        raise FlowRefused(
            f"column {column_by_role['action']} of {file} must hold one of {', '.join(ACTIONS)} in every row"
        )
    if "propensity" not in column_by_role:
        if (action == "explore").any():
            raise FlowRefused(f"{file} has explored events, but not the chance they had; see --propensity")
        return {"action": action, "propensity": np.where(action == "block", 0.0, 1.0)}
    chance = pd.to_numeric(table[column_by_role["propensity"]], errors="coerce").to_numpy(dtype=float)
    if not ((chance >= 0.0) & (chance <= 1.0)).all() or ((action == "explore") & (chance == 0.0)).any():
        raise FlowRefused(
            f"column {column_by_role['propensity']} of {file} must hold the chance of being let through, 0 to 1"
        )
    return {"action": action, "propensity": chance}


def weigh_rows(usecase: UseCase, rows: pd.DataFrame, has_label: np.ndarray) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows that stand for something, with ``weight`` and ``unseen``, and what a reader must know.

    Args:
        usecase: says what the absence of a label means.
        rows: with both flags, ``y``, and ``action`` and ``propensity`` where the file has them. Where it has not,
            what the champion flagged is taken for blocked.
        has_label: whether a label is known of each row.
    """
    notes: tuple[str, ...] = ()
    if "action" not in rows:
        flagged = rows["flag_a"].to_numpy(dtype=bool)
        rows = rows.assign(action=np.where(flagged, "block", "let_through"), propensity=np.where(flagged, 0.0, 1.0))
        notes = ("no column says what was done: what the champion flags is taken for blocked; see --action",)
    weight, unseen = label_weights(rows["action"], rows["propensity"], [None] * len(rows), has_label)
    absent_is_negative = usecase.label.absent_after_maturity == "negative"
    stands_for_some = has_label & (weight > 0.0) | (absent_is_negative & (weight > 0.0)) | (unseen > 0.0)
    rows = rows.drop(columns=["action", "propensity"]).assign(weight=weight, unseen=unseen)
    return rows[stands_for_some], notes
