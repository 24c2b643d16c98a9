"""Names of flow runs: what is done, for which model, at which business time (``train dev-fraud until 2026-05-14``)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

import httpx
from prefect.context import FlowRunContext

from bentos.errors import IncumbentError
from flows.errors import FlowError


class RunName:
    """What the runs of a flow are called; Prefect calls it when a run begins, a scheduled one too.

    Args:
        pattern: with ``{model}``, ``{time}`` and names of parameters.
        time: the parameter with the business time; none where the flow has none.
    """

    def __init__(self, pattern: str, time: str | None) -> None:
        self._pattern = pattern
        self._time = time

    def __call__(self) -> str:
        """Return the name of the present run."""
        context = FlowRunContext.get()
        return self.of({} if context is None else context.parameters or {})

    def of(self, parameters: Mapping[str, Any], as_of: datetime | None = None) -> str:
        """Return the name of a run with these parameters, where it has worked out its business time with that."""
        at = as_of or (parameters.get(self._time) if self._time else None) or _due()
        words = {**parameters, "model": _model(parameters.get("usecase")), "time": time_text(at)}
        return self._pattern.format(**words)


def rename_run(as_of: datetime) -> None:
    """Name the present run by the business time that it has worked out; a server that is away keeps the first name."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return
    from prefect.client.orchestration import get_client

    name = context.flow_run.name = cast("RunName", context.flow.flow_run_name).of(context.parameters or {}, as_of)
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_name(context.flow_run.id, name)


def time_text(at: datetime) -> str:
    """A business time as people write it: the date alone where it is midnight in UTC."""
    moment = at if at.tzinfo is None else at.astimezone(UTC)
    return f"{moment:%Y-%m-%d}" if (moment.hour, moment.minute) == (0, 0) else f"{moment:%Y-%m-%d %H:%M} UTC"


def _due() -> datetime:
    """When the present run was due; of a run that nobody planned, now."""
    context = FlowRunContext.get()
    run = None if context is None else context.flow_run
    due = None if run is None else run.expected_start_time
    return datetime.now(UTC) if due is None else due


def _model(reference: str | None) -> str:
    """``dev-fraud``; the reference itself where it cannot be read: the run then says why."""
    from bentos.settings import read_settings
    from bentos.usecase.loading import load_usecase
    from flows.workspace.installation import Home
    from flows.workspace.roster import resolve_usecase

    try:
        settings = read_settings()
        return settings.model_name(load_usecase(resolve_usecase(Home(settings), reference or settings.usecase)).name)
    except (IncumbentError, FlowError, OSError):
        return reference or "the use case"
