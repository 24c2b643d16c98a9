"""The job template of a Kubernetes work pool: what it asks for is declared, and it holds what a run needs."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from prefect.utilities.templating import apply_values

from flows.home import PROJECT

TEMPLATE = json.loads((PROJECT / "deploy" / "prefect-kubernetes-job.json").read_text())
VARIABLES = TEMPLATE["variables"]


def filled(**values: Any) -> dict[str, Any]:
    """The job of one run: defaults, then what a deployment says."""
    defaults = {name: kind["default"] for name, kind in VARIABLES["properties"].items() if "default" in kind}
    found: dict[str, Any] = apply_values(TEMPLATE["job_configuration"], defaults | values)
    return found


def test_every_placeholder_is_declared_and_every_variable_is_used() -> None:
    Draft202012Validator.check_schema(VARIABLES)
    asked = set(re.findall(r"{{ (\w+) }}", json.dumps(TEMPLATE["job_configuration"])))
    assert asked == set(VARIABLES["properties"])


def test_a_job_holds_the_image_the_home_and_the_environment_of_the_deployments() -> None:
    definitions = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["definitions"]
    variables = definitions["pool"]["job_variables"]
    assert set(variables) <= set(VARIABLES["properties"])
    job = filled(name="training", labels={"a": "b"}, command="python -m prefect.engine", **variables)
    pod = job["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["env"] == variables["env"]
    assert container["image"] == "incumbent-flows:0.1.0"
    assert container["volumeMounts"][0]["name"] == pod["volumes"][0]["name"]
    assert f"INCUMBENT_HOME={container['volumeMounts'][0]['mountPath']}" in (
        PROJECT / "deploy" / "flows.Dockerfile"
    ).read_text().replace("\\\n    ", "")
    assert f"--uid {pod['securityContext']['runAsUser']}" in (PROJECT / "deploy" / "flows.Dockerfile").read_text()
