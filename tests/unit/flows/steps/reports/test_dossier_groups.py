"""Groups of both models: the same matured events, each model's own decisions."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd
import pytest

from bentos.usecase.definition import UseCase
from bentos.usecase.options import InterventionPolicy
from flows.steps.reports.dossier import compare_both_groups
from monitoring.comparison.group_effects import compare_groups
from monitoring.policies import FairnessPolicy
from monitoring.reports.dossier import groups_section
from monitoring.store import Store, memory_store
from tests.support.builders import fraud
from tests.support.log.logged import CHALLENGER, CHAMPION, at, label, scored, shadowed

POLICY = FairnessPolicy(
    sensitive=("amount",), slices=("terminal_id",), edges={"amount": (100.0,)}, min_rows=5, min_positives=2
)


def case(**changes: object) -> UseCase:
    return fraud().model_copy(update={"fairness": POLICY, **changes})


@pytest.fixture
def store() -> Iterator[Store]:
    """Forty events of two sizes; the champion flags large ones, the challenger the frauds; one is not shadowed."""
    made = memory_store()
    for number in range(1, 41):
        large, bad = number % 2 == 0, number % 5 == 0
        body = {"amount": 250.0 if large else 20.0, "terminal_id": f"t{number % 4 == 0}"}
        made.log.append([scored(number, number / 100, decision=large, body=json.dumps(body).encode())])
        if number < 40:
            made.shadow.append([shadowed(number, decision=bad)])
        made.labels.add([label(number, int(bad), day=2)], fraud().label)
    yield made
    made.close()


def test_both_models_are_shown_on_the_events_that_both_scored(store: Store) -> None:
    found = compare_both_groups(store, case(), CHAMPION, CHALLENGER, at(20))
    assert found is not None
    assert found.rows == 39
    small, large = ({s.group: s for s in report.slices}["below 100"] for report in (found.a, found.b))
    assert (small.flagged, small.recall.value) == (0, 0.0)
    assert (large.flagged, large.recall.value) == (4, 1.0)
    assert {c.measure for c in found.a.comparisons} == {c.measure for c in found.b.comparisons}
    parity = [next(c for c in report.comparisons if c.measure == "parity") for report in (found.a, found.b)]
    assert abs(parity[0].difference.value or 0.0) == 1.0
    assert abs(parity[1].difference.value or 0.0) < 0.1
    assert {s.group for s in found.a.slices if s.column == "terminal_id"} == {"tTrue", "tFalse"}


def test_the_section_names_both_models_and_every_group(store: Store) -> None:
    found = compare_both_groups(store, case(), CHAMPION, CHALLENGER, at(20))
    assert found is not None
    html = groups_section(found)
    for part in ("39 matured events", CHAMPION, CHALLENGER, "parity of amount", "terminal_id tTrue", "below 100"):
        assert part in html, part
    assert "FAIL" in html


def test_nothing_declared_matured_or_scored_by_both_has_no_groups(store: Store) -> None:
    assert compare_both_groups(store, fraud(), CHAMPION, CHALLENGER, at(20)) is None
    assert compare_both_groups(store, case(), CHAMPION, CHALLENGER, at(2)) is None
    assert compare_both_groups(store, case(), CHAMPION, "dev-fraud/9", at(20)) is None


def test_where_flagged_events_are_blocked_only_rates_of_flags_are_compared(store: Store) -> None:
    found = compare_both_groups(
        store, case(intervention=InterventionPolicy(blocks_flagged=True)), CHAMPION, CHALLENGER, at(20)
    )  # fmt: skip
    assert found is not None
    assert {s.recall.value for s in (*found.a.slices, *found.b.slices)} == {None}
    assert sum(s.flagged for s in found.a.slices if s.column == "amount") == 19


def test_rows_without_any_declared_column_are_no_groups() -> None:
    rows = pd.DataFrame({"flag_a": [True], "flag_b": [False], "y": [1]})
    assert compare_groups(rows, FairnessPolicy(), "a", "b") is None


def test_an_explored_event_stands_for_the_blocked_ones_in_the_rates_of_a_group(store: Store) -> None:
    # Ten large events were asked to be blocked, one in ten by a draw let through; the champion flagged them all.
    for number in range(50, 60):
        let_through = number == 50
        body = json.dumps({"amount": 250.0, "terminal_id": "t"}).encode()
        asked = {"action": "explore" if let_through else "block", "propensity": 0.1}
        store.log.append([scored(number, number / 100, decision=True, body=body, **asked)])
        store.shadow.append([shadowed(number, decision=False)])
    store.labels.add([label(50, 1, day=2)], fraud().label)
    blocking = case(intervention=InterventionPolicy(blocks_flagged=True, exploration_share=0.1))
    found = compare_both_groups(store, blocking, CHAMPION, CHALLENGER, at(20))
    assert found is not None
    large = next(s for s in found.a.slices if s.group == "100 and above")
    # Nineteen earlier large events stand for themselves, the one of the draw for ten.
    assert (large.rows, large.flagged, large.flag_share.value) == (20, 20, 1.0)
    small = next(s for s in found.b.slices if s.group == "100 and above")
    assert small.flag_share.value == pytest.approx(3 / 29)
