"""The work pool on a Prefect server: made once; later only its job template follows this program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows.stack.parts import POOL

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

TEMPLATE = Path(__file__).with_name("prefect-pool.json")
"""What a run may ask of the worker: nothing. Prefect's own template lets it name a command and an environment."""
_TYPE = "process"


def make_work_pool(client: SyncPrefectClient) -> Literal["new", "changed", "as it was"]:
    """Make the work pool, or bring its job template up to date.

    Whether it is paused, its concurrency limit and its description are a person's. A pool of another type (a
    cluster's) has a template of its own and is left alone. ``prefect work-pool create --overwrite`` resets all of it.
    """
    from prefect.exceptions import PrefectHTTPStatusError

    template = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    path = {"name": POOL}
    try:
        pool = client.request("GET", "/work_pools/{name}", path_params=path).json()
    except PrefectHTTPStatusError as exc:
        if exc.response.status_code != 404:
            raise
        client.request("POST", "/work_pools/", json={"name": POOL, "type": _TYPE, "base_job_template": template})
        return "new"
    if pool["type"] != _TYPE or pool["base_job_template"] == template:
        return "as it was"
    client.request("PATCH", "/work_pools/{name}", path_params=path, json={"base_job_template": template})
    return "changed"
