"""What champion and challenger do to each group, on the newest matured events that both of them scored."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bentos.usecase.definition import UseCase
from flows.steps.split import back
from monitoring.comparison.group_effects import BothGroups, both_groups
from monitoring.core.calendar import TimeWindow

if TYPE_CHECKING:
    from monitoring.store import Store

DAYS = timedelta(days=28)


def groups_of_both(
    store: Store, usecase: UseCase, champion: str, challenger: str, as_of: datetime
) -> BothGroups | None:
    """Both models by group; none where nothing is declared or no matured event was scored by both.

    Where flagged events are blocked only rates of flags are compared, as in the drift check.
    """
    columns = dict.fromkeys((*usecase.fairness.sensitive, *usecase.fairness.slices))
    if not columns:
        return None
    end = usecase.calendar.matured_until(as_of, usecase.label.matures_after)
    blocks = usecase.intervention.blocks_flagged
    rows = store.log.paired(
        usecase.name, champion, challenger, TimeWindow(back(usecase.calendar, end, DAYS), end), as_of, usecase.label,
        usecase.calendar, {name: usecase.column(name).type for name in columns}, blocks,
    )  # fmt: skip
    return both_groups(rows, usecase.fairness, champion, challenger, labelled=not blocks)
