"""Steps of flows: within a Prefect run a step is a task run that says what it works on, elsewhere a plain call.

A task run is given a function without parameters: Prefect walks whatever a task is called with, to its last row, and
frames are neither hashed nor stored. Prefect is not imported here before a run of it has.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from string import Formatter
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from flows.errors import NothingToDo

if TYPE_CHECKING:
    from prefect import Task

P = ParamSpec("P")
R = TypeVar("R")

QUIET: Final = "Nothing to do"
"""Name of the state of a run, or of a step, that found nothing to do."""
RETRIES: Final = 3
RETRY_SECONDS: Final = (2.0, 10.0, 30.0)
JITTER: Final = 0.5

_plain: ContextVar[bool] = ContextVar("incumbent_plain_steps", default=False)


def step(
    *, name: str, run_name: str, tags: tuple[str, ...] = (), retried: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a step of a flow of a function; outside a Prefect run the function itself is called.

    Args:
        name, tags: of the task; its description is the first sentence of the function's docstring.
        run_name: what the task run is called, a format string over the arguments: ``read {source.origin}``.
        retried: whether it is tried again after a database, a registry or a file system was away for a moment; for
            steps that only read, or whose repetition changes nothing.

    Raises:
        TypeError: when the function is defined, if the run name speaks of something that is no argument.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = {str(field).partition(".")[0] for _, field, *_ in Formatter().parse(run_name) if field is not None}
        if unknown := names - set(inspect.signature(function).parameters):
            raise TypeError(f"the run name of {function.__qualname__} speaks of {sorted(unknown)}: no parameters of it")

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if not within_run():
                return function(*args, **kwargs)
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            text = run_name.format(**bound.arguments)
            description = (inspect.getdoc(function) or name).partition("\n\n")[0].replace("\n", " ")
            options: dict[str, Any] = {"name": name, "description": description, "tags": tags}

            quiet: list[NothingToDo] = []

            def work() -> R:
                try:
                    return function(*args, **kwargs)
                except NothingToDo as exc:  # an end of the flow, but no fault of the step
                    quiet.append(exc)
                    return cast(R, _nothing_to_do(exc))

            result = cast(R, _task(work, retried, options | {"task_run_name": lambda: text})())
            if quiet:
                raise quiet[0]
            return result

        return call

    return decorate


def within_run() -> bool:
    """Whether this code runs in a flow run of Prefect's whose steps are tasks."""
    context = sys.modules.get("prefect.context")
    return context is not None and context.FlowRunContext.get() is not None and not _plain.get()


@contextmanager
def plain_steps() -> Iterator[None]:
    """Make no task runs while the block runs: a flow that looks each minute would fill the server with them."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def _nothing_to_do(exc: NothingToDo) -> Any:
    """A state that Prefect takes in the place of a result."""
    from prefect.states import Completed

    return Completed(name=QUIET, message=str(exc), data=None)


def _task(work: Callable[[], Any], retried: bool, options: dict[str, Any]) -> Task[[], Any]:
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    if retried:
        options |= {
            "retries": RETRIES,
            "retry_delay_seconds": list(RETRY_SECONDS),
            "retry_jitter_factor": JITTER,
            "retry_condition_fn": _is_transient,
        }
    return cast("Task[[], Any]", task(cache_policy=NO_CACHE, persist_result=False, **options)(work))


def _is_transient(task: object, run: object, state: Any) -> bool:
    """Whether the fault may be over in a moment; what is wrong with a request stays wrong."""
    from bentos.errors import RegistryUnavailable, WindowsUnavailable
    from flows.errors import SourceUnavailable
    from monitoring.errors import StoreUnavailable

    return isinstance(state.data, RegistryUnavailable | WindowsUnavailable | SourceUnavailable | StoreUnavailable)
