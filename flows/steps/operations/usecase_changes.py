"""Adding a use case to a home and retiring it: the line in the chain of decisions, and its deployments in Prefect."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from flows.errors import StackError
from flows.workspace.installation import Home
from monitoring.exporter.catalogue import RETIRED

RENAMED: Final = "usecase.renamed"


def record_usecase(reference: str, kind: str, reason: str, paused: Sequence[str] = ()) -> None:
    """Append to the chain that a use case was added to this home, or retired.

    Args:
        reference: name or file of the use case.
        kind: :data:`~monitoring.exporter.catalogue.ADDED` or :data:`~monitoring.exporter.catalogue.RETIRED`; the
            exporter tells nothing more of one that is retired.
        reason: as given.
        paused: names of the deployments that were paused.
    """
    _append_decision(reference, kind, {"reason": reason, "paused": list(paused)})


def record_renaming(reference: str, before: str, after: str, reason: str) -> None:
    """Append to the chain that people call a use case something else; its id, which the line stands under, stays.

    Args:
        reference: name or file of the use case.
        before, after: its name until now, and from now on.
        reason: as given.
    """
    _append_decision(reference, RENAMED, {"reason": reason, "before": before, "after": after})


def _append_decision(reference: str, kind: str, payload: dict[str, Any]) -> None:
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(reference)
    full_payload = {"reference": reference, "model": workspace.model} | payload
    with closing(workspace.store) as store:
        store.decisions.append(workspace.usecase.name, kind, full_payload, workspace.actor, datetime.now(UTC))


def paused_at_retirement(reference: str) -> frozenset[str]:
    """Return the names of the deployments that were paused when the use case retired last."""
    from flows.workspace.workspace import open_workspace

    workspace = open_workspace(reference)
    with closing(workspace.store) as store:
        last = store.decisions.last(workspace.usecase.name, (RETIRED,))
    return frozenset(last.payload["paused"]) if last is not None else frozenset()


def pause_deployments(home: Home, usecase: str) -> list[str]:
    """Pause the deployments of a use case that are not paused; return their names. Their schedules stay as they are.

    Raises:
        StackError: the Prefect server does not answer.
    """
    with _deployments(home, usecase) as (client, deployments):
        unpaused = [deployment for deployment in deployments if not deployment.paused]
        for deployment in unpaused:
            client.pause_deployment(deployment.id)
    return [deployment.name for deployment in unpaused]


def resume_deployments(home: Home, usecase: str, names: Collection[str]) -> None:
    """Let the named deployments of a use case go on.

    Raises:
        StackError: the Prefect server does not answer.
    """
    with _deployments(home, usecase) as (client, deployments):
        for deployment in deployments:
            if deployment.name in names:
                client.resume_deployment(deployment.id)


@contextmanager
def _deployments(home: Home, usecase: str) -> Iterator[tuple[Any, list[Any]]]:
    """A client of the Prefect server, and the deployments of a use case there."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
    from prefect.exceptions import PrefectHTTPStatusError

    prefix, tags = home.settings.deployment_name(usecase, ""), {usecase, home.settings.env}
    name_filter = DeploymentFilter(name=DeploymentFilterName(like_=prefix))
    try:
        with get_client(sync_client=True) as client:
            deployments = client.read_deployments(deployment_filter=name_filter, limit=200)
            # The server matches any part of a name: fraud-eu-training is none of fraud's.
            yield (
                client,
                [
                    deployment
                    for deployment in deployments
                    if deployment.name.startswith(prefix) and tags <= set(deployment.tags)
                ],
            )
    except (httpx.HTTPError, PrefectHTTPStatusError) as exc:
        raise StackError(f"the Prefect server does not answer ({type(exc).__name__}); try again") from exc
