"""A window aggregate is one class and one row: declared, computed online and offline, and documented by it."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bentos.features.plan import FeaturePlan
from bentos.schema.event_schema import EventSchema
from bentos.usecase.definition import UseCase
from bentos.windows.aggregates import AGGREGATES, FrameWindows, ValueAggregate
from bentos.windows.memory import MemoryWindows
from bentos.windows.series import ABSENT
from tests.support.builders import NOON, card_event, case, label_frame, window

HOUR = timedelta(hours=1)
WINDOWS_PAGE = Path(__file__).parents[4] / "docs/explanation/windows.md"


class Median(ValueAggregate):
    """The middle known value."""

    name, accepts, empty = "median", "numbers", "missing"

    def of_values(self, known: list[int]) -> float:
        return float(np.median(known)) / self.scale if known else math.nan

    def offline(self, windows: FrameWindows) -> Any:
        values = windows.values().tolist()
        own = [[values[at]] if self.own else [] for at in range(len(values))]
        inside = [values[low:high] + mine for low, high, mine in zip(windows.low, windows.high, own, strict=True)]
        return np.array([self.of_values([v for v in window if v != ABSENT]) for window in inside])


def median_case() -> UseCase:
    return case(features=[window("middle", "card", "median", "6h", column="fee")])


def test_an_aggregate_of_ones_own_is_declared_built_and_read_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGGREGATES, "median", Median)
    usecase = median_case()
    plan, schema = FeaturePlan.of(usecase), EventSchema.of(usecase)
    plan = FeaturePlan.from_json(plan.to_json())
    fees = [5.0, None, 1.0, 9.0, 2.5]
    events = [schema.event(card_event(n, HOUR * n, fee=fee)) for n, fee in enumerate(fees)]
    built = plan.build(schema.frame(events), label_frame(), NOON)["middle"].tolist()
    assert built == [5.0, 5.0, 3.0, 5.0, 3.75]
    read = plan.rows(events, MemoryWindows(plan.specs))[:, 0].tolist()
    assert read == built


def test_the_aggregate_of_another_installation_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(Exception, match="'count', 'sum', 'mean', 'min', 'max', 'std', 'distinct'"):
        median_case()


@pytest.mark.parametrize("aggregate", AGGREGATES.values(), ids=list(AGGREGATES))
def test_each_aggregate_has_its_row_in_the_documentation(aggregate: Any) -> None:
    itself = "yes" if aggregate.includes_current else "no"
    meaning = aggregate.__doc__.rstrip(".")
    row = f"| `{aggregate.name}` | {aggregate.accepts} | {meaning} | {itself} | {aggregate.empty} |"
    assert row in WINDOWS_PAGE.read_text().splitlines()
