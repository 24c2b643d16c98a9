"""``prefect.yaml`` as values: one declaration for each deployment, filled in for one use case in one environment.

Entrypoints are modules of the installed package and nothing is pulled, so deploying works from any folder; names come
from a function, because Prefect fills an unset variable with the empty text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import yaml
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.templating import apply_values

from flows.workspace.installation import PROJECT

_FORMER_CRONS = {
    "training": "0 4 * * 1",
    "tuning": "0 3 1 * *",
    "evaluation": "0 5 * * 1",
    "drift": "30 1 * * *",
    "comparison": "0 2 * * *",
    "scoring": "0 1 * * *",
    "retraining": "30 3 * * *",
}
"""Times of schedules before declarations were kept on the server; some of them no clock change leaves alone."""
_FORMER_PARAMETERS: dict[str, dict[str, Any]] = {"promotion": {"preview": True, "reason": ""}}


@dataclass(frozen=True)
class Declaration:
    """One deployment as the file has it.

    Attributes:
        name: of the deployment, for example ``prod-fraud-training``.
        flow: name of its flow.
        kept: fields in which a person's change wins over the file's: parameters, tags, pool, job variables,
            concurrency, description, and ``schedules`` by slug.
        entrypoint: module and function of the flow.
        version: digest of the flow's code and form.
        triggers: automations that start it, as Prefect's triggers have them.
    """

    name: str
    flow: str
    kept: dict[str, Any]
    entrypoint: str
    version: str
    triggers: list[dict[str, Any]]

    def fixed(self) -> dict[str, Any]:
        """Fields that only the file decides: entrypoint, form, version. The flow is imported, which takes seconds."""
        flow: Flow[..., Any] = load_flow_from_entrypoint(self.entrypoint)
        return {
            "entrypoint": self.entrypoint,
            "version": self.version,
            "parameter_openapi_schema": parameter_schema(flow).model_dump(mode="json", exclude_unset=True),
            "enforce_parameter_schema": True,
            "pull_steps": [],
        }

    @property
    def former(self) -> dict[str, Any]:
        """The kept fields as an earlier version of the file had them, for a server that does not know."""
        crons = _FORMER_CRONS.get(self.flow)
        schedules = {
            slug: schedule | {"parameters": {}, "schedule": schedule["schedule"] | ({"cron": crons} if crons else {})}
            for slug, schedule in self.kept["schedules"].items()
        }
        parameters = self.kept["parameters"] | _FORMER_PARAMETERS.get(self.flow, {})
        return self.kept | {"parameters": parameters, "schedules": schedules}


def read_declarations(values: dict[str, Any], file: Path = PROJECT / "prefect.yaml") -> list[Declaration]:
    """The deployments of the file, with ``values`` (see :func:`flows.workspace.installation.deployment_values`) filled
    in.
    """
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [_declaration(raw, {"workspace": values}) for raw in content["deployments"]]


def refuse_prefect_deploy() -> NoReturn:
    """Stop ``prefect deploy``, as the build step of the file, with one sentence.

    Prefect's own command would switch schedules and automations back to the file's state.
    """
    raise SystemExit(
        "refused: prefect deploy would undo what people switched on and changed; run instead: incumbent deploy "
        "(it reads INCUMBENT_ENV, INCUMBENT_HOME, INCUMBENT_USECASE and PREFECT_API_URL)"
    )


def _declaration(raw: dict[str, Any], values: dict[str, Any]) -> Declaration:
    triggers = [_trigger(item, values) for item in raw.get("triggers", ())]
    fields = apply_values({key: value for key, value in raw.items() if key != "triggers"}, values)
    limit = fields["concurrency_limit"]
    defaults = {
        "description": fields["description"],
        "tags": fields["tags"],
        "parameters": fields["parameters"],
        "work_pool_name": fields["work_pool"]["name"],
        "job_variables": fields["work_pool"].get("job_variables", {}),
        "concurrency_limit": limit["limit"],
        "concurrency_options": {"collision_strategy": limit["collision_strategy"]},
        "schedules": {item["slug"]: _schedule(item) for item in fields.get("schedules", ())},
    }
    entrypoint = str(fields["entrypoint"])
    return Declaration(
        fields["name"], entrypoint.rpartition(".")[2], defaults, entrypoint, _version(entrypoint), triggers
    )


def _version(entrypoint: str) -> str:
    """A digest of the product's version, the flow's module and the types of its form; nothing is imported."""
    digest = hashlib.sha256(version("incumbent").encode())
    for module in (entrypoint.rpartition(".")[0], "flows.runs.parameters", __name__):
        spec = find_spec(module)
        if spec is not None and spec.origin is not None:
            digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()[:16]


def _schedule(fields: dict[str, Any]) -> dict[str, Any]:
    timing = {"cron": fields["cron"], "timezone": fields["timezone"], "day_or": True}
    return {"schedule": timing, "active": fields["active"], "parameters": fields.get("parameters", {})}


def _trigger(raw: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    # Templates of its parameters are filled in by the server, from the event.
    fields: dict[str, Any] = apply_values({key: value for key, value in raw.items() if key != "parameters"}, values)
    return fields | {"parameters": raw["parameters"]}
