"""Our flows as Prefect runs them: a refusal is one sentence in the run's state, and nothing to do is a quiet end."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, ParamSpec, TypeVar, cast

import httpx
from prefect import Flow, flow, get_run_logger
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed

from flows.errors import FlowError, NothingToDo
from flows.runs.run_name import RunName
from flows.runs.run_progress import RunProgress
from flows.workspace.progress import shown_by
from flows.workspace.step import QUIET, plain_steps

P = ParamSpec("P")
R = TypeVar("R")

SCHEDULED = "scheduled"
"""The reason of what a schedule starts."""

_ENGINES = ("prefect.flow_runs", "prefect.task_runs")

log = logging.getLogger("incumbent.flows")


def operation(
    run_name: str, *, time: str | None = "as_of", each_minute: bool = False
) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a flow of a function; outside a Prefect run the function itself is called, with its errors.

    Its name is the function's, its description the first line of the docstring.

    Args:
        run_name: what its runs are called, with ``{model}`` and ``{time}``; see :class:`~flows.runs.run_name.RunName`.
        time: the parameter with the business time; none where the flow has none.
        each_minute: whether it looks so often that its quiet runs are not worth keeping.
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        name = function.__name__
        description = (inspect.getdoc(function) or name).partition("\n")[0]

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            if FlowRunContext.get() is None:
                return function(*args, **kwargs)
            try:
                with told_to_prefect(name), plain_steps() if each_minute else nullcontext():
                    return function(*args, **kwargs)
            except NothingToDo as exc:
                get_run_logger().info("%s: %s", name, exc.message)
                if each_minute:
                    forget_quiet_runs()
                # Prefect takes a returned state in the place of a result.
                return cast(R, Completed(name=QUIET, message=str(exc), data=None))
            except _refusals() as exc:
                return cast(R, Failed(message=" ".join(str(exc).split()), data=exc))

        # Prefect reads types where the function stands, and the names of another module mean nothing there.
        run.__annotations__ = inspect.get_annotations(function, eval_str=True)
        run.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]  # a function takes one
        return flow(name=name, description=description, flow_run_name=RunName(run_name, time))(run)

    return decorate


@contextmanager
def told_to_prefect(name: str) -> Iterator[None]:
    """While the block runs its log lines and its progress are those of the Prefect run.

    Prefect's engine logs whatever ends a run or a step a second time, with a traceback; a refusal has its sentence.
    """
    for engine in _ENGINES:
        logging.getLogger(engine).addFilter(_needs_its_traceback)
    ours, handler = logging.getLogger("incumbent"), RunLog()
    before, level, propagates = ours.handlers, ours.level, ours.propagate
    ours.handlers = [handler]  # a run below another one logs for itself alone
    ours.setLevel(logging.INFO)
    ours.propagate = False  # Prefect's own logger writes the line to the console too
    try:
        with shown_by(RunProgress(name)):
            yield
    finally:
        ours.handlers = before
        ours.setLevel(level)
        ours.propagate = propagates


class RunLog(logging.Handler):
    """Hands our log lines to the logger of the Prefect run, or of the task run that is under way."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._run = get_run_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Log one line; threads of our own have no run context, so theirs go to the flow run."""
        logger = self._run if FlowRunContext.get() is None else get_run_logger()
        logger.log(record.levelno, "%s", self.format(record))


def is_scheduled(*parameters: str) -> bool:
    """Whether a schedule started this run, and nobody chose a value for any of these parameters.

    Prefect forgets the parameters of a schedule when somebody switches it on or off, so a flow that must do
    something else when nobody watches asks here.
    """
    context = FlowRunContext.get()
    run = None if context is None else context.flow_run
    return run is not None and bool(run.auto_scheduled) and not set(parameters) & set(run.parameters or {})


@contextmanager
def quiet_when_scheduled(*errors: type[Exception]) -> Iterator[None]:
    """Take these errors for nothing to do where a schedule started the run; a person is told of them."""
    try:
        yield
    except errors as exc:
        if is_scheduled():
            raise NothingToDo(str(exc)) from exc
        raise


def forget_quiet_runs() -> None:
    """Delete the earlier runs of this deployment that found nothing to do; this one goes with the next."""
    context = FlowRunContext.get()
    run = None if context is None else context.flow_run
    if run is None or run.deployment_id is None:
        return
    from prefect.client.orchestration import get_client

    filters: dict[str, Any] = {
        "deployment_id": {"any_": [str(run.deployment_id)]},
        "state": {"name": {"any_": [QUIET]}},
    }
    # What is left over now is deleted by the next look, or by the server's own retention.
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.request("POST", "/flow_runs/bulk_delete", json={"flow_runs": filters})


def _needs_its_traceback(record: logging.LogRecord) -> bool:
    """Prefect's engine logs whatever ends a run a second time, with a traceback; the state has a refusal's sentence."""
    return not (record.exc_info and isinstance(record.exc_info[1], _refusals()))


def _refusals() -> tuple[type[Exception], ...]:
    """The bases of the rooms' error trees: errors with a text that is safe to show."""
    from bentos.errors import IncumbentError
    from monitoring.errors import MonitoringError

    return (FlowError, IncumbentError, MonitoringError)
