"""Short drills against real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.steps.drill_log import drill_log
from flows.steps.drill_swap import drill_swap

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_what_was_answered_is_stored_once_although_worker_and_scribe_are_killed(tmp_path: Path) -> None:
    found = drill_log(tmp_path, print, kills=("scribe", "both"), pause=2.0, connections=4)
    assert found["answered"] == found["stored"] > 0
    assert (found["lost"], found["duplicated"], found["wrong"]) == (0, 0, 0)
    assert found["accounting"]["balanced"]
    assert found["kills"] == 3


def test_changes_of_office_under_load_fail_no_request_and_mix_no_answer(tmp_path: Path) -> None:
    found = drill_swap(tmp_path, print, flips=11, versions=6)
    assert (found["flips"], found["failed"], found["mixed"]) == (11, 0, 0)
    assert found["requests"] > 0
