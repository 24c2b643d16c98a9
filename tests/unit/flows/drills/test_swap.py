"""The drills' own reckoning; the drills themselves are in the longer suite."""

from __future__ import annotations

import json

import pytest

from flows.commands.platform.drill import shortfalls
from flows.drills.load.run_load import RecordedAnswer
from flows.drills.swap import FLIPS, VERSIONS, itinerary, swap_waits
from flows.errors import StackError


def said(at: float, version: str) -> RecordedAnswer:
    model = {"name": "m", "version": version, "alias": "champion"}
    body = {"event_id": "e", "score": 0.5, "decision": False, "threshold": 0.6, "model": model}
    return RecordedAnswer(at, "e", 200, json.dumps(body).encode())


@pytest.mark.parametrize(("versions", "flips"), [(VERSIONS, FLIPS), (3, 40), (2, 12)])
def test_nobody_is_promoted_who_is_in_office_and_every_rollback_has_a_way_back(versions: int, flips: int) -> None:
    here, previous = 0, None
    order = itinerary(versions, flips)
    for wanted in order:
        if wanted is None:
            assert previous is not None
            here, previous = previous, None
        else:
            assert wanted != here
            here, previous = wanted, here
    assert len(order) == flips


def test_a_hundred_changes_bring_at_least_twenty_versions_that_were_never_served() -> None:
    order = itinerary(VERSIONS, FLIPS)
    assert len({wanted for wanted in order if wanted is not None} - {0}) >= 20
    assert order.count(None) >= 5


def test_a_wait_ends_with_the_first_answer_after_the_move() -> None:
    answers = [said(1.0, "1"), said(2.5, "2"), said(2.6, "2"), said(5.0, "1")]
    assert swap_waits([(2.0, "2"), (4.0, "1")], answers) == [0.5, 1.0]


def test_a_version_that_never_answers_is_an_error() -> None:
    with pytest.raises(StackError, match="never answered"):
        swap_waits([(2.0, "2")], [said(1.0, "2")])


@pytest.mark.parametrize(
    ("change", "words"),
    [({}, ""), ({"slowest_s": 2.1}, "2.1 s"), ({"unseen": 19}, "only 19"), ({"unseen": 3, "flips": 11}, "")],
)
def test_a_slow_swap_and_too_few_new_versions_are_faults(change: dict[str, float], words: str) -> None:
    found = {"flips": 100, "unseen": 20, "slowest_s": 2.0} | change
    assert words in " ".join(shortfalls("swap", found))
    assert bool(shortfalls("swap", found)) == bool(words)
    assert shortfalls("log", found) == []
