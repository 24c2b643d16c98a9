"""The job templates of our work pools: what they ask for is declared, and nothing in them is a way to run a command."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from jsonschema import Draft202012Validator
from prefect.client.orchestration import PrefectClient
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessJobConfiguration

from flows.workspace.installation import PROJECT

FILES = {
    "kubernetes": PROJECT / "deploy" / "prefect-kubernetes-job.json",
    "process": PROJECT / "flows" / "stack" / "prefect-pool.json",
}
TEMPLATES: dict[str, dict[str, Any]] = {kind: json.loads(file.read_text()) for kind, file in FILES.items()}
DOCKERFILE = (PROJECT / "deploy" / "flows.Dockerfile").read_text().replace("\\\n    ", "")
HARMFUL: list[dict[str, Any]] = [
    {"command": "touch /tmp/owned"},
    {"env": {"LD_PRELOAD": "/tmp/owned.so"}},
    {"env.PYTHONPATH": "/tmp"},
    {"working_dir": "/tmp"},
    {"image": "attacker/image"},
    {"job_manifest": {}},
]


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_placeholder_is_declared_and_every_variable_is_used(kind: str) -> None:
    template = TEMPLATES[kind]
    Draft202012Validator.check_schema(template["variables"])
    asked = set(re.findall(r"{{ (\w+) }}", json.dumps(template["job_configuration"])))
    assert asked == set(template["variables"]["properties"])


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("variables", HARMFUL, ids=lambda variables: next(iter(variables)))
def test_a_variable_that_could_run_a_command_is_unknown_and_fills_no_place(
    kind: str, variables: dict[str, Any]
) -> None:
    template = TEMPLATES[kind]
    assert not Draft202012Validator(template["variables"]).is_valid(variables)
    assert apply_values(template["job_configuration"], variables) == apply_values(template["job_configuration"], {})


@pytest.mark.parametrize("variables", HARMFUL, ids=lambda variables: next(iter(variables)))
def test_prefects_own_worker_takes_neither_command_nor_environment_from_a_run(variables: dict[str, Any]) -> None:
    class NoBlocks:
        """A client that has nothing to look up."""

    found = asyncio.run(
        ProcessJobConfiguration.from_template_and_values(
            TEMPLATES["process"], variables, client=cast(PrefectClient, NoBlocks())
        )
    )
    assert (found.command, found.env, found.working_dir) == (None, {}, None)


def test_a_kubernetes_job_holds_the_image_the_home_and_the_secret() -> None:
    template = TEMPLATES["kubernetes"]
    defaults = {name: kind["default"] for name, kind in template["variables"]["properties"].items()}
    job = apply_values(template["job_configuration"], defaults)
    pod = job["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "args" not in container
    assert "command" not in container
    assert container["image"] == "incumbent-flows:0.1.0"
    assert container["volumeMounts"][0]["name"] == pod["volumes"][0]["name"]
    assert f"INCUMBENT_HOME={container['volumeMounts'][0]['mountPath']}" in DOCKERFILE
    assert f"--uid {pod['securityContext']['runAsUser']}" in DOCKERFILE


def test_no_deployment_asks_for_a_job_variable() -> None:
    definitions = yaml.safe_load(Path(PROJECT / "prefect.yaml").read_text())
    pools = [deployment["work_pool"] for deployment in definitions["deployments"]]
    assert pools
    assert all(set(pool) == {"name"} for pool in pools)
