"""Deployments on a Prefect server: made from ``prefect.yaml``, and what a person changed there stays.

What the file said at the last deploy is kept beside each deployment, in a variable of the server. A field that
differs from it was changed by a person and is left alone; the others follow the file. Where nothing differs,
nothing is sent, so runs that are already planned stay planned.

``python -m flows.stack.deployments`` makes the work pool, deploys and ends: a job of the stack, so that a deployment
that fails is said and tried again beside a service that goes on answering.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import httpx

from flows.errors import FlowRefused
from flows.stack.deployment_file import Declaration, read_declarations
from flows.stack.parts import POOL
from flows.stack.work_pool import make_work_pool
from flows.workspace.installation import deployment_values

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient

Change = Literal["new", "changed", "as it was"]

_ABSENT: Final = object()
_LONG: Final = 64


@dataclass(frozen=True)
class DeploymentMemory:
    """What the server remembers of the file.

    Attributes:
        declared: marks of the kept fields at the last deploy; None where the server knows none.
        before: marks of the deploy before, while the last one may have been cut short; else None.
        triggers: mark of the automations.
    """

    declared: dict[str, Any] | None
    before: dict[str, Any] | None
    triggers: str | None


def deploy(make_pool: bool = False) -> dict[str, Change]:
    """Make or update every deployment of the file for one use case in one environment.

    Args:
        make_pool: whether to make the work pool first, or bring its job template up to date.

    Returns:
        What became of the work pool and of each deployment, by name.

    Raises:
        FlowRefused: no Prefect server is known or answers, the work pool is not there, or promotions need approval
            and the server would let anybody approve.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL

    if not (address := PREFECT_API_URL.value()):
        raise FlowRefused("no Prefect server is known; set PREFECT_API_URL, or run: incumbent up")
    declarations = read_declarations(deployment_values())
    try:
        with get_client(sync_client=True) as client:
            pool: dict[str, Change] = {f"work pool {POOL}": make_work_pool(client)} if make_pool else {}
            return pool | {declaration.name: deploy_declaration(client, declaration) for declaration in declarations}
    except PrefectHTTPStatusError as exc:
        raise FlowRefused(f"the Prefect server at {address} refused: {exc.response.text[:300]}") from exc
    except httpx.HTTPError as exc:
        raise FlowRefused(f"the Prefect server at {address} does not answer: {exc}") from exc


def deploy_declaration(client: SyncPrefectClient, declaration: Declaration) -> Change:
    """Make one deployment, or bring it up to the file where no person changed it."""
    variable = _MemoryVariable(client, declaration.name)
    deployment = _read(client, declaration)
    if deployment is None:
        _put_triggers(client, _create(client, declaration), declaration, None)
        variable.end(declaration)
        return "new"
    return _update(client, declaration, variable, deployment)


def _update(
    client: SyncPrefectClient, declaration: Declaration, variable: _MemoryVariable, deployment: dict[str, Any]
) -> Change:
    memory = variable.read()
    adopt = memory.declared is None
    present = _present(deployment, declaration, adopt)
    target = merge_fields(memory, declaration, present)
    fixed_fields = declaration.fixed() if deployment["version"] != declaration.version else {}
    fields = {name: value for name, value in target.items() if name != "schedules" and present.get(name) != value}
    timing = _schedule_changes(deployment, target["schedules"], adopt)
    is_outdated = (
        memory.declared is None or memory.before is not None or memory.triggers != _digest(declaration.triggers)
    )
    if not (fields or fixed_fields or timing or is_outdated or memory.declared != marks_of(declaration.kept)):
        return "as it was"
    variable.begin(declaration, memory)
    if fields or fixed_fields:
        client.request("PATCH", "/deployments/{id}", path_params={"id": deployment["id"]}, json=fields | fixed_fields)
    for change in timing:
        change(client, deployment["id"])
    if memory.triggers != _digest(declaration.triggers):
        _put_triggers(client, deployment["id"], declaration, memory.triggers)
    variable.end(declaration)
    return "changed" if fields or fixed_fields or timing else "as it was"


def merge_fields(memory: DeploymentMemory, declaration: Declaration, present: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a deployment should have: the file's, and a person's where a person changed them.

    Args:
        memory: what the server remembers of the file.
        declaration: the file of now.
        present: the fields as the server has them.
    """
    if memory.declared is None:
        bases = [marks_of(_guess_former(declaration, present))]
    else:
        bases = [memory.declared] if memory.before is None else [memory.before, memory.declared]
    schedules = {
        # Prefect forgets the parameters of a schedule that is switched on or off: none were taken away on purpose.
        slug: schedule
        | {"parameters": schedule["parameters"] or declaration.kept["schedules"].get(slug, {}).get("parameters", {})}
        for slug, schedule in present["schedules"].items()
    }
    is_interrupted = memory.before is not None
    return cast("dict[str, Any]", _merge(bases, {**present, "schedules": schedules}, declaration.kept, is_interrupted))


def _guess_former(declaration: Declaration, present: Mapping[str, Any]) -> dict[str, Any]:
    former = declaration.former
    ours = {name: present[name] for name in ("job_variables", "description", "tags")}
    return former | ours


def _merge(bases: list[Any], ours: Any, theirs: Any, is_interrupted: bool) -> Any:
    """A value of the server, or the file's where the server's is one that the file had before."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        parts = {
            key: _merge(
                [base.get(key, _ABSENT) if isinstance(base, dict) else _ABSENT for base in bases],
                ours.get(key, _ABSENT), theirs.get(key, _ABSENT), is_interrupted,
            )
            for key in [*ours, *(key for key in theirs if key not in ours)]
        }  # fmt: skip
        return {key: value for key, value in parts.items() if value is not _ABSENT}
    mark = marks_of(ours)
    if not is_interrupted and marks_of(theirs) == bases[-1]:
        return ours  # the file says what it said before: whatever the server has now, somebody chose
    return theirs if any(mark is base or mark == base for base in bases) else ours


def marks_of(value: Any) -> Any:
    """A value with long texts and lists replaced by digests, so that it can be remembered and compared."""
    if isinstance(value, dict):
        return {key: marks_of(item) for key, item in value.items()}
    if isinstance(value, list) or (isinstance(value, str) and len(value) > _LONG):
        return _digest(value)
    return value


def _digest(value: Any) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


class _MemoryVariable:
    """The variable of the server that remembers what the file said of one deployment."""

    def __init__(self, client: SyncPrefectClient, deployment: str) -> None:
        self._client = client
        self._name = f"deployed_{''.join(c if c.isalnum() else '_' for c in deployment.lower())}"

    def read(self) -> DeploymentMemory:
        variable = self._client.read_variable_by_name(self._name)
        value = variable.value if variable is not None and isinstance(variable.value, dict) else {}
        return DeploymentMemory(value.get("declared"), value.get("before"), value.get("triggers"))

    def begin(self, declaration: Declaration, memory: DeploymentMemory) -> None:
        """Before the deployment is touched: both states may be found after a crash."""
        last_fields = memory.before or memory.declared
        if last_fields is not None:
            self._write(declaration, last_fields, memory.triggers)

    def end(self, declaration: Declaration) -> None:
        self._write(declaration, None, _digest(declaration.triggers))

    def _write(self, declaration: Declaration, last_fields: dict[str, Any] | None, triggers: str | None) -> None:
        value = {"declared": marks_of(declaration.kept), "before": last_fields, "triggers": triggers}
        body = {"name": self._name, "value": value, "tags": ["incumbent"]}
        if self._client.read_variable_by_name(self._name) is None:
            self._client.request("POST", "/variables/", json=body)
        else:
            self._client.request("PATCH", "/variables/name/{name}", path_params={"name": self._name}, json=body)


def _present(deployment: Mapping[str, Any], declaration: Declaration, adopt: bool) -> dict[str, Any]:
    limit = deployment.get("global_concurrency_limit") or {}
    options = deployment.get("concurrency_options") or {}
    present = {
        name: deployment.get(name) for name in ("description", "tags", "parameters", "work_pool_name", "job_variables")
    }
    present["concurrency_limit"] = limit.get("limit")
    present["concurrency_options"] = {name: options[name] for name in ("collision_strategy",) if name in options}
    present["schedules"] = {
        slug: {name: schedule[name] for name in ("schedule", "active", "parameters")}
        for slug, schedule in _by_slug(deployment, declaration.kept["schedules"], adopt).items()
    }
    return present


def _by_slug(deployment: Mapping[str, Any], declared: Mapping[str, Any], adopt: bool) -> dict[str, Any]:
    """The schedules of the file on the server; ``adopt`` takes over one without a slug, from an earlier version."""
    schedules = deployment["schedules"]
    by_slug = {schedule["slug"]: schedule for schedule in schedules if schedule["slug"] in declared}
    without_slug = [schedule for schedule in schedules if schedule["slug"] is None]
    missing = [slug for slug in declared if slug not in by_slug]
    if adopt and len(without_slug) == 1 and len(missing) == 1:
        by_slug[missing[0]] = without_slug[0]
    return by_slug


_ScheduleChange = Callable[["SyncPrefectClient", str], None]


def _schedule_changes(
    deployment: Mapping[str, Any], schedules: Mapping[str, Any], adopt: bool
) -> list[_ScheduleChange]:
    by_slug = _by_slug(deployment, schedules, adopt)
    changes: list[_ScheduleChange] = []
    for slug, schedule in schedules.items():
        current = by_slug.get(slug)
        if current is None:
            changes.append(_creation(slug, schedule))
        elif current["slug"] != slug or any(current[name] != schedule[name] for name in schedule):
            changes.append(_alteration(str(current["id"]), {"slug": slug, **schedule}))
    return changes


def _creation(slug: str, schedule: Mapping[str, Any]) -> _ScheduleChange:
    def create(client: SyncPrefectClient, deployment: str) -> None:
        client.request(
            "POST", "/deployments/{id}/schedules", path_params={"id": deployment}, json=[{"slug": slug, **schedule}]
        )

    return create


def _alteration(schedule: str, fields: Mapping[str, Any]) -> _ScheduleChange:
    def alter(client: SyncPrefectClient, deployment: str) -> None:
        path = {"id": deployment, "schedule_id": schedule}
        client.request("PATCH", "/deployments/{id}/schedules/{schedule_id}", path_params=path, json=dict(fields))

    return alter


def _read(client: SyncPrefectClient, declaration: Declaration) -> dict[str, Any] | None:
    from prefect.exceptions import PrefectHTTPStatusError

    path = {"flow_name": declaration.flow, "deployment_name": declaration.name}
    try:
        answer = client.request("GET", "/deployments/name/{flow_name}/{deployment_name}", path_params=path)
    except PrefectHTTPStatusError as exc:
        if exc.response.status_code == 404:
            return None
        raise
    return dict(answer.json())


def _create(client: SyncPrefectClient, declaration: Declaration) -> str:
    fields = dict(declaration.kept)
    schedules = [{"slug": slug, **schedule} for slug, schedule in fields.pop("schedules").items()]
    flow: UUID = client.create_flow_from_name(declaration.flow)
    body = {"flow_id": str(flow), "name": declaration.name, "schedules": schedules, **fields, **declaration.fixed()}
    return str(client.request("POST", "/deployments/", json=body).json()["id"])


def _put_triggers(
    client: SyncPrefectClient, deployment: str, declaration: Declaration, last_digest: str | None
) -> None:
    """Make the automations that are missing and bring the others up to the file; whether they are on stays."""
    from uuid import UUID

    from prefect.events import DeploymentTriggerTypes
    from pydantic import TypeAdapter

    for raw in declaration.triggers:
        trigger = TypeAdapter(DeploymentTriggerTypes).validate_python(raw)
        trigger.set_deployment_id(UUID(deployment))
        core = trigger.as_automation()
        automations = client.request(
            "POST", "/automations/filter", json={"automations": {"name": {"any_": [core.name]}}}
        ).json()  # fmt: skip
        if not automations and last_digest is None:
            client.create_automation(core)
        for automation in automations if last_digest is not None else ():
            body = core.model_dump(mode="json") | {"enabled": automation["enabled"]}
            client.request("PUT", "/automations/{id}", path_params={"id": automation["id"]}, json=body)


def main() -> int:
    """Make the work pool and deploy; 1, with a sentence, where that is refused."""
    try:
        for name, change in deploy(make_pool=True).items():
            sys.stdout.write(f"{name}: {change}\n")
    except FlowRefused as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
