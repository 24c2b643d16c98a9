"""Steps outside a Prefect run are plain calls; within one they are tasks that walk no argument."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from bentos.errors import RegistryUnavailable
from flows.errors import FlowRefused, NothingToDo, SourceUnavailable
from flows.workspace import step as module
from flows.workspace.step import QUIET, plain_steps, step, within_run
from monitoring.errors import RowRefused, StoreUnavailable


@step(name="add", run_name="add {amount} to {frame.shape[0]} rows", retried=True)
def add(frame: pd.DataFrame, amount: int = 1) -> pd.DataFrame:
    """Add an amount to every row."""
    return frame + amount


def test_outside_a_run_a_step_is_the_function_with_its_errors() -> None:
    @step(name="fail", run_name="fail")
    def fail() -> None:
        raise FlowRefused("the folder is empty; give another")

    assert add(pd.DataFrame({"a": [1]}), amount=2)["a"].tolist() == [3]
    assert add.__doc__ == "Add an amount to every row."
    with pytest.raises(FlowRefused, match=r"^refused: the folder is empty"):
        fail()


def test_a_run_name_that_speaks_of_no_argument_is_refused_where_the_step_is_defined() -> None:
    with pytest.raises(TypeError, match=r"the run name of .*read speaks of \['house'\]"):

        @step(name="read", run_name="read {house.model} of {source}")
        def read(workspace: object, source: str) -> None:
            raise AssertionError


def test_importing_and_calling_a_step_imports_no_prefect() -> None:
    code = (
        "import sys\n"
        "from flows.workspace.step import step\n"
        "assert step(name='n', run_name='n')(lambda: 7)() == 7\n"
        "print(sum(name.partition('.')[0] == 'prefect' for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout == "0\n"


class Context:
    """Stands where Prefect keeps the context of the run that is under way."""

    @staticmethod
    def get() -> object:
        return object()


@pytest.mark.parametrize(
    ("fault", "again"),
    [
        (RegistryUnavailable("MLflow is away"), True),
        (StoreUnavailable("the database is locked"), True),
        (SourceUnavailable("the file server is away"), True),
        (RowRefused("the row has no id"), False),
        (FlowRefused("no reason was given"), False),
        (ValueError("a bug"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_a_fault_that_may_be_over_in_a_moment_is_tried_again(fault: Exception, again: bool) -> None:
    from prefect.states import Failed

    assert module._is_transient(None, None, Failed(data=fault)) is again


def test_a_task_is_never_cached_nor_stored_and_takes_no_arguments() -> None:
    from prefect.cache_policies import NO_CACHE

    task = module._task(lambda: 1, True, {"name": "add"})
    assert (task.cache_policy, task.persist_result, task.retries) == (NO_CACHE, False, module.RETRIES)
    assert task.retry_jitter_factor == module.JITTER
    assert not task.isasync
    assert module._task(lambda: 1, False, {"name": "promote"}).retries == 0


def test_flows_that_look_each_minute_make_no_task_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import prefect.context

    monkeypatch.setattr(prefect.context, "FlowRunContext", Context)
    assert within_run()
    with plain_steps():
        assert not within_run()
        assert add(pd.DataFrame({"a": [1]}))["a"].tolist() == [2]
    assert within_run()


def test_nothing_to_do_is_a_completed_state_with_its_reason() -> None:
    state = module._nothing_to_do(NothingToDo("no challenger"))
    assert (state.type.value, state.name, state.message) == ("COMPLETED", QUIET, "nothing_to_do: no challenger")
