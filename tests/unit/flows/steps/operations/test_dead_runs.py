"""A run whose process is gone is closed by the next look, whoever looks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.steps.drift.retraining_due import training_runs
from flows.steps.operations.dead_runs import close_dead_runs, death_reason, this_process
from monitoring.store import Run, open_store

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)


def a_training(payload: dict[str, object] | None = None, message: str = "", hours: float = 1) -> Run:
    return Run(
        "one", "fraud", "training", "running", NOW - timedelta(hours=hours), message=message, payload=payload or {}
    )


def test_a_training_that_is_killed_blocks_nobody_and_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    script = textwrap.dedent(f"""
        import sys, time
        from datetime import UTC, datetime
        from flows.steps.operations.dead_runs import this_process
        from monitoring.store import Run, open_store
        now = datetime.now(UTC)
        run = Run("one", "fraud", "training", "running", now, payload=this_process(now))
        open_store({url!r}).runs.put(run)
        print("trains", flush=True)
        time.sleep(600)
    """)
    with (
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as training,
        closing(open_store(url)) as store,
    ):
        try:
            assert training.stdout is not None
            assert training.stdout.readline() == "trains\n"
            now = datetime.now(UTC)
            assert training_runs(store, "fraud", now)
            os.kill(training.pid, signal.SIGKILL)
            training.wait()
            assert not training_runs(store, "fraud", now)
            run = store.runs.latest("fraud", "training")
            assert run is not None
            assert run.state == "killed"
            assert run.message.startswith(f"killed: its process {training.pid} is gone")
            assert close_dead_runs(store, "fraud", now) == []
        finally:
            training.kill()


def test_a_living_run_however_long_is_not_closed() -> None:
    assert death_reason(a_training(this_process(NOW), hours=30), NOW) is None


def test_a_process_id_that_is_used_again_is_not_taken_for_the_run() -> None:
    payload = this_process(NOW)
    payload["process"] |= {"born": "another"}
    assert str(death_reason(a_training(payload), NOW)).startswith("killed: ")


@pytest.mark.parametrize(("minutes", "dead"), [(1, False), (14, False), (16, True)])
def test_a_run_of_another_machine_is_dead_once_nothing_was_heard_of_it(minutes: int, dead: bool) -> None:
    payload = this_process(NOW - timedelta(minutes=minutes))
    payload["process"] |= {"host": "another machine"}
    assert (death_reason(a_training(payload), NOW) is not None) == dead


def test_a_run_that_waits_for_a_person_is_left_alone_and_one_of_an_earlier_version_ends_after_six_hours() -> None:
    assert death_reason(a_training(message="suspended: waits for a person", hours=100), NOW) is None
    assert death_reason(a_training(hours=5), NOW) is None
    assert str(death_reason(a_training(hours=7), NOW)).startswith("killed: nothing was heard of it")
