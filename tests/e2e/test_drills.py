"""Short drills against real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.commands.platform.drill import GUARDS
from flows.drills.harmful_models import HARMS
from flows.drills.load.temporary_postgresql import temporary_postgresql
from flows.drills.outage import drill_outage
from flows.drills.prediction_log import drill_log
from flows.drills.rollback import drill_rollback
from flows.drills.swap import drill_swap
from tests.support.processes.postgresql import programs

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


@pytest.mark.needs_postgresql
def test_what_was_answered_is_stored_once_on_postgresql_although_worker_and_scribe_are_killed(tmp_path: Path) -> None:
    programs()
    with temporary_postgresql() as server:
        found = drill_log(tmp_path, print, kills=("both", "worker"), pause=2.0, connections=4, database_url=server.url)
    assert found["answered"] == found["stored"] > 0
    assert (found["lost"], found["duplicated"], found["wrong"], found["kills"]) == (0, 0, 0, 3)
    assert found["accounting"]["balanced"]


@pytest.mark.parametrize("where", ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_postgresql)])
def test_answers_go_on_while_the_database_is_away_for_a_minute(tmp_path: Path, where: str) -> None:
    if where == "postgresql":
        programs()
    found = drill_outage(tmp_path, print, seconds=60.0, postgresql=where == "postgresql", connections=4)
    assert found["answered"] == found["stored"] > found["answered_meanwhile"] > 0
    assert (found["lost"], found["duplicated"], found["wrong"], found["failed"]) == (0, 0, 0, 0)
    assert found["accounting"]["balanced"]


@pytest.mark.parametrize("guard", GUARDS)
def test_a_version_that_harms_is_out_of_office_within_a_minute_without_a_person(tmp_path: Path, guard: str) -> None:
    found = drill_rollback(tmp_path, print, guards=(guard,), limit=60.0)
    one = found["guards"][guard]
    assert one["fired"] == [HARMS[guard].check]
    assert one["harmed"] > 0
    assert found["failed_otherwise"] == 0
    assert found["failed_requests"] == (one["harmed"] if guard == "errors" else 0)
