"""``prefect.yaml`` as text: what needs no server."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.workspace.installation import PURPOSES

FILE = Path(__file__).resolve().parents[4] / "prefect.yaml"
FLOWS = {
    "training", "evaluation", "drift", "comparison", "promotion", "rollback", "scoring", "labels", "retraining",
    "canary", "tuning",
}  # fmt: skip


def deployments() -> list[dict[str, Any]]:
    content = yaml.safe_load(FILE.read_text())
    found: list[dict[str, Any]] = content["deployments"]
    return found


def flow_of(deployment: dict[str, Any]) -> Any:
    module, _, name = deployment["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_every_flow_has_one_deployment() -> None:
    assert sorted(d["entrypoint"].rpartition(".")[2] for d in deployments()) == sorted(FLOWS)


@pytest.mark.parametrize("deployment", deployments(), ids=lambda d: d["entrypoint"])
def test_a_deployment_is_named_by_environment_use_case_and_flow(deployment: dict[str, Any]) -> None:
    flow = deployment["entrypoint"].rpartition(".")[2]
    assert deployment["name"] == "{{ workspace.env }}-{{ workspace.name }}-" + flow
    assert flow_of(deployment).name == flow


@pytest.mark.parametrize("deployment", deployments(), ids=lambda d: d["entrypoint"])
def test_a_deployment_has_help_tags_a_limit_and_no_running_schedule(deployment: dict[str, Any]) -> None:
    assert len(deployment["description"]) > 40
    # A template inside a list would be dropped without a word.
    assert deployment["tags"].removeprefix("{{ workspace.tags.").removesuffix(" }}") in PURPOSES
    assert deployment["concurrency_limit"]["limit"] == 1
    assert all(schedule["active"] is False for schedule in deployment.get("schedules", []))


@pytest.mark.parametrize("deployment", deployments(), ids=lambda d: d["entrypoint"])
def test_every_field_of_a_form_has_help_and_a_default(deployment: dict[str, Any]) -> None:
    from prefect.utilities.callables import parameter_schema

    schema = parameter_schema(flow_of(deployment)).model_dump()
    assert schema["required"] == []
    for name, field in schema["properties"].items():
        assert "default" in field, name
        assert len(field.get("description", "")) > 15, name
    for part in schema["definitions"].values():
        assert all(field.get("description") for field in part["properties"].values())


@pytest.mark.parametrize("deployment", deployments(), ids=lambda d: d["entrypoint"])
def test_its_parameters_are_those_of_the_flow(deployment: dict[str, Any]) -> None:
    known = inspect.signature(flow_of(deployment).fn).parameters
    assert set(deployment["parameters"]) <= set(known)
    for schedule in [{}, *deployment.get("schedules", [])]:
        given = deployment["parameters"] | schedule.get("parameters", {})
        assert flow_of(deployment).validate_parameters(given).items() >= given.items()


@pytest.mark.parametrize("flow", ["promotion", "rollback"])
def test_a_change_of_office_previews_by_default(flow: str) -> None:
    found = next(d for d in deployments() if d["entrypoint"].endswith(f".{flow}"))
    assert found["parameters"].get("preview", True) is True
    assert inspect.signature(flow_of(found).fn).parameters["preview"].default is True


def test_a_rollback_is_never_scheduled() -> None:
    found = next(d for d in deployments() if d["entrypoint"].endswith(".rollback"))
    assert "schedules" not in found


@pytest.mark.parametrize("deployment", deployments(), ids=lambda d: d["entrypoint"])
def test_a_flow_reads_from_top_to_bottom_on_one_screen(deployment: dict[str, Any]) -> None:
    lines, _ = inspect.getsourcelines(flow_of(deployment).fn)
    assert len(lines) <= 40


def test_a_scheduled_promotion_promotes_and_gives_a_reason() -> None:
    found = next(d for d in deployments() if d["entrypoint"].endswith(".promotion"))
    (schedule,) = found["schedules"]
    assert schedule["parameters"] == {"preview": False, "reason": "scheduled"}
    # Chosen for every run of the deployment, a preview would be chosen for the schedule's as well.
    assert "preview" not in found["parameters"]


def test_every_schedule_has_a_slug_of_its_own_in_its_deployment() -> None:
    for found in deployments():
        slugs = [schedule["slug"] for schedule in found.get("schedules", [])]
        assert len(set(slugs)) == len(slugs)


def test_a_worker_reads_a_time_that_a_form_sends() -> None:
    found = next(d for d in deployments() if d["entrypoint"].endswith(".drift"))
    read = flow_of(found).validate_parameters({"as_of": "2026-03-01T00:00:00+00:00"})
    assert read["as_of"].year == 2026
