"""How the labels of a use case are read: its label policy, its calendar, and what its interventions hide."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.core.calendar import BusinessCalendar
from monitoring.policies import LabelPolicy


@dataclass(frozen=True)
class LabelRules:
    """When a label is final, and for which events there can be one.

    Attributes:
        policy: maturity, meaning of an absent label, ranks of sources.
        calendar: what a day is.
        selective: whether flagged events are blocked, so that nobody learns their labels.
    """

    policy: LabelPolicy
    calendar: BusinessCalendar
    selective: bool = False
