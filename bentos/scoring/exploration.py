"""Which flagged events are let through all the same, so that somebody learns what they were.

A blocked event never earns a label, so a team that blocks every alert can never see that a challenger
would have been right to let it pass. A declared share of the flagged events is let through by a sticky
hash of event id and salt: a retry gets the same action, and anybody can work it out again. The chance
is logged with the event and weights it in every estimate (:mod:`monitoring.stats.label_weights`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from monitoring.rollout.sample_ratio import sticky_share
from monitoring.store.database.records import ModelAction

if TYPE_CHECKING:
    from bentos.usecase.options import InterventionPolicy

BLOCK: Final[ModelAction] = "block"
LET_THROUGH: Final[ModelAction] = "let_through"
EXPLORE: Final[ModelAction] = "explore"


class Explorer:
    """Says what is to be done with an answered event.

    Args:
        share: of the flagged events that are let through.
        salt: of the draw; another salt draws other events.
    """

    def __init__(self, share: float, salt: str) -> None:
        self._share = share
        self._salt = salt

    @classmethod
    def of(cls, policy: InterventionPolicy) -> Explorer | None:
        """The explorer that a use case asks for; none where nothing is blocked, which costs nothing."""
        return cls(policy.exploration_share, policy.salt) if policy.blocks_flagged else None

    def action(self, event_id: str, flagged: bool) -> tuple[ModelAction, float]:
        """What is to be done, and the chance that the event was let through."""
        if not flagged:
            return LET_THROUGH, 1.0
        if self._share > 0.0 and sticky_share(self._salt, event_id) < self._share:
            return EXPLORE, self._share
        return BLOCK, self._share
