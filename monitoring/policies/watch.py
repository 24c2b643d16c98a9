"""How a new champion is watched. Apart from the judging, because a use-case file is read without scipy."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from monitoring.core.durations import Duration, parse_duration
from monitoring.policies import Count, Policy, Positive


class WatchPolicy(Policy):
    """How long a new champion is watched, and what takes it out of the champion's role."""

    automatic: bool = True
    """Whether a failed guard rolls back by itself; else it is written into the chain and nothing more."""
    period: Duration = Field(default=parse_duration("7d"), validate_default=True)
    """How long after its promotion a version is watched. Its cost is judged on these days as they mature."""
    max_error_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.01
    """Largest share of requests that may fail."""
    max_p99_ms: Positive = 100.0
    """Largest 99th percentile of the time of an answer, in milliseconds."""
    alert_rate_band: tuple[Positive, Positive] = (0.5, 2.0)
    """Allowed ratio of its alert rate to the one that is expected."""
    score_psi: Positive = 0.25
    """Largest population stability index of its scores against those it gave in shadow."""
    min_events: Count = 200
    """Events below which a guard says nothing."""
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    """Level of the bound on matured cost, over all looks together."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.alert_rate_band[0] < self.alert_rate_band[1]:
            raise ValueError(f"alert_rate_band {list(self.alert_rate_band)} must rise")
        return self
