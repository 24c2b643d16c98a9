"""Run a deployment through the Prefect server and wait for its end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from bentos.settings import Settings
from flows.errors import StackError

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class SubmittedRun:
    """A run of a deployment that was asked for."""

    flow: str
    run_id: Any


def submit_run(settings: Settings, usecase: str, flow: str, **parameters: object) -> SubmittedRun:
    """Ask for a run of ``<env>-<usecase>-<flow>`` with these parameters; it starts as soon as a worker is free."""
    name = f"{flow}/{settings.deployment_name(usecase, flow)}"
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(name)
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    return SubmittedRun(flow, run.id)


def wait_for_run(submitted: SubmittedRun, patience: float = 600.0) -> str:
    """Wait for the end of a run and return the message of its final state.

    Raises:
        StackError: it failed, crashed, was cancelled, or is not over in time.
    """
    deadline = time.monotonic() + patience
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            run = cast(FlowRun, client.read_flow_run(submitted.run_id))
            if run.state is not None and run.state.is_final():
                message = run.state.message or ""
                if not run.state.is_completed():
                    raise StackError(f"the {submitted.flow} run ended {run.state.name}: {message}")
                return message
            time.sleep(POLL_SECONDS)
    raise StackError(f"the {submitted.flow} run is not over after {patience:.0f} s")
