"""``[tuning]``: which training parameters are searched, on what budget, judged how.

Declared here because it is part of the use-case file; the search itself is a matter of the flows, and
what serves a model never needs its library.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from bentos.usecase.options import TrainingPolicy
from monitoring.core.durations import Duration, parse_duration
from monitoring.policies import Count, Policy, Positive

Number = TypeVar("Number", int, float)


class Span(Policy, Generic[Number]):
    """Numbers to try: from ``low`` to ``high``, both included, or one of ``choices``."""

    low: Number | None = None
    """Smallest value."""
    high: Number | None = None
    """Largest value."""
    log: bool = False
    """Whether values are spread by their logarithm, as many below as above the geometric mean."""
    choices: tuple[Number, ...] = ()
    """The values themselves, in the place of a range."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.choices:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("choices alone, or low and high")
        elif self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("low and high, with low below high, or choices")
        elif self.log and self.low <= 0:
            raise ValueError("a low above 0 where log is true")
        return self

    def holds(self, value: Any) -> bool:
        """Whether that value can be tried."""
        if self.choices:
            return value in self.choices
        assert self.low is not None
        assert self.high is not None
        return bool(self.low <= value <= self.high)

    @property
    def edges(self) -> tuple[Any, ...]:
        """The values furthest out."""
        return self.choices or (self.low, self.high)


class Methods(Policy):
    """Tree methods to try."""

    choices: Annotated[tuple[Literal["hist", "exact", "approx"], ...], Field(min_length=1)]
    """The methods."""

    def holds(self, value: Any) -> bool:
        """Whether that value can be tried."""
        return value in self.choices

    @property
    def edges(self) -> tuple[Any, ...]:
        """All of them."""
        return self.choices


class SearchSpace(Policy):
    """What is tried of each training parameter; one that is left out keeps the file's value."""

    trees: Span[int] | None = None
    """Boosting rounds."""
    max_depth: Span[int] | None = None
    """Depth of a tree."""
    learning_rate: Span[float] | None = None
    """Shrinkage of each tree."""
    tree_method: Methods | None = None
    """How splits are searched."""
    max_bin: Span[int] | None = None
    """Bins of the hist method."""
    base_score: Span[float] | None = None
    """Score before the first tree."""
    min_child_weight: Span[float] | None = None
    """Smallest sum of hessians in a leaf."""
    subsample: Span[float] | None = None
    """Share of rows a tree sees."""
    colsample_bytree: Span[float] | None = None
    """Share of features a tree sees."""

    @property
    def spans(self) -> dict[str, Span[int] | Span[float] | Methods]:
        """Parameter to what is tried of it, in the order above."""
        pairs = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: span for name, span in pairs if span is not None}

    @model_validator(mode="after")
    def _within_training(self) -> Self:
        if not self.spans:
            raise ValueError(f"a range for one parameter or more: {', '.join(type(self).model_fields)}")
        for name, span in self.spans.items():
            for value in span.edges:
                try:
                    TrainingPolicy(**{name: value})
                except ValidationError as exc:
                    reason = exc.errors(include_url=False)[0]["msg"]
                    raise ValueError(f"values of {name} that [training] may hold, not {value!r}: {reason}") from exc
        return self


class TuningPolicy(Policy):
    """How ``incumbent tune`` searches for training parameters."""

    trials: Count | None = None
    """Settings to try, the file's own included; none leaves the end to ``minutes``."""
    minutes: Positive | None = None
    """How long to search; what is under way then is finished. None leaves the end to ``trials``."""
    folds: Annotated[int, Field(ge=2, le=20)] = 4
    """Folds that each setting is measured on; timed data takes fewer where the history is shorter."""
    fold: Duration = Field(default=parse_duration("7d"), validate_default=True)
    """Length of the days that a fold of timed data is measured on; it trains on ``[split] train``."""
    metric: Literal["average_precision", "auc_roc"] = "average_precision"
    """What is made large: the mean over the folds, of scores before calibration."""
    pruning: bool = True
    """Whether a setting is given up that lies below the median of earlier ones after some of its folds."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 2
    """Settings that are chosen and measured side by side; those of one round do not learn from each other."""
    space: SearchSpace
    """What is tried."""

    @model_validator(mode="after")
    def _budget_and_fold(self) -> Self:
        if self.trials is None and self.minutes is None:
            raise ValueError("a budget: trials, minutes, or both")
        if self.fold < timedelta(days=1):
            raise ValueError("a fold of a day or more")
        return self
