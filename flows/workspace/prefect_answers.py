"""What the Prefect server says of deployments, planned runs and workers. It is only asked, and never waited for long.

Prefect's own client is not used: importing it costs a small process three seconds and 100 MB.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self
from uuid import uuid4

import httpx

from monitoring.core.hosts import is_encrypted

TIMEOUT_S: Final = 3.0
_FORGERY_HEADER: Final = "Prefect-Csrf-Token"
_FORGERY_CLIENT: Final = "Prefect-Csrf-Client"
_WAITS: Final = ("Scheduled", "Late", "Pending")
"""States of a run that nobody has begun; one that waits for another of its kind is in none of them."""


class PrefectUnreachable(Exception):
    """The server gave no usable answer; the text says why, without a password."""


@dataclass(frozen=True)
class ScheduledDeployment:
    """One deployment, as far as its schedule matters.

    Attributes:
        id, name: of the deployment.
        flow: last part of the name, for example ``comparison``.
        active: whether it has a schedule that is on, and is not paused itself.
        changed_at: when the newest of its schedules, or itself, was changed.
        parameters: of each schedule that is on, over those of the deployment.
        crons: of each schedule that is on.
    """

    id: str
    name: str
    flow: str
    active: bool
    changed_at: datetime
    parameters: tuple[Mapping[str, Any], ...]
    crons: tuple[str, ...]

    @classmethod
    def of(cls, data: Mapping[str, Any], prefix: str) -> Self:
        """From the server's JSON."""
        active = [schedule for schedule in data.get("schedules", ()) if schedule.get("active")]
        times = [_time(schedule["updated"]) for schedule in active if schedule.get("updated")]
        return cls(
            str(data["id"]),
            str(data["name"]),
            str(data["name"]).removeprefix(prefix),
            bool(active) and not data.get("paused", False),
            max([*times, _time(data["updated"])]),
            tuple({**(data.get("parameters") or {}), **(schedule.get("parameters") or {})} for schedule in active),
            tuple(
                str(schedule["schedule"].get("cron") or schedule["schedule"].get("interval", "")) for schedule in active
            ),
        )


class PrefectServer:
    """A Prefect server's API, read only.

    Args:
        url: of the API, ``http://host:port/api``.
        auth: ``user:password`` where the server asks for it.
        timeout_s: of each question.
    """

    def __init__(self, url: str, auth: str = "", timeout_s: float = TIMEOUT_S) -> None:
        user, colon, password = auth.partition(":")
        self._client = httpx.Client(
            base_url=url.rstrip("/") + "/",
            auth=(user, password) if colon else None,
            timeout=timeout_s,
            trust_env=False,
            verify=is_encrypted(url),
        )

    @classmethod
    def from_environment(cls, timeout_s: float = TIMEOUT_S) -> Self | None:
        """The server that this process is told of; none without one."""
        url = os.environ.get("PREFECT_API_URL", "")
        return cls(url, os.environ.get("PREFECT_API_AUTH_STRING", ""), timeout_s) if url else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def deployments(self, prefix: str) -> list[ScheduledDeployment]:
        """Deployments whose name begins with ``prefix``, for example ``dev-fraud-``."""
        rows = self.ask("deployments/filter", {"deployments": {"name": {"like_": prefix}}, "limit": 200})
        matches = [row for row in rows if str(row["name"]).startswith(prefix)]
        return sorted((ScheduledDeployment.of(row, prefix) for row in matches), key=lambda row: row.name)

    def planned(self, deployment: str, after: datetime) -> list[datetime]:
        """When the next runs of a deployment are due after a time, soonest first; at most three."""
        runs = self._runs(deployment, {"after_": after.isoformat()}, limit=3)
        return [_time(run["expected_start_time"]) for run in runs]

    def unstarted(self, deployment: str, before: datetime) -> list[datetime]:
        """When runs of a deployment were due that nobody has begun, oldest first."""
        runs = self._runs(deployment, {"before_": before.isoformat()}, limit=10)
        return [_time(run["expected_start_time"]) for run in runs]

    def due(self, deployment: str, after: datetime, before: datetime) -> int:
        """How many runs of a deployment, whatever became of them, were due in a span."""
        times = {"after_": after.isoformat(), "before_": before.isoformat()}
        filters = {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": {"expected_start_time": times}}
        return int(self.ask("flow_runs/count", filters))

    def workers(self, pool: str) -> list[tuple[str, str, datetime | None]]:
        """Name, status and last sign of life of each worker of a pool."""
        rows = self.ask(f"work_pools/{pool}/workers/filter", {"limit": 50})
        return [
            (
                str(row["name"]),
                str(row.get("status")),
                _time(row["last_heartbeat_time"]) if row.get("last_heartbeat_time") else None,
            )
            for row in rows
        ]

    def pool(self, name: str) -> Mapping[str, Any]:
        """The work pool, with its base job template."""
        return dict(self.ask(f"work_pools/{name}"))

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One question: POST with a body, GET without.

        Raises:
            PrefectUnreachable: no answer, or not the wanted one.
        """
        try:
            answer = self._client.get(path) if body is None else self._post(path, body)
            if answer.status_code == 401:
                raise PrefectUnreachable(
                    "it asks for a login that this process does not have (PREFECT_API_AUTH_STRING)"
                )
            answer.raise_for_status()
            return answer.json()
        except httpx.HTTPStatusError as exc:
            raise PrefectUnreachable(f"it answered {exc.response.status_code}") from None
        except (httpx.HTTPError, ValueError) as exc:
            raise PrefectUnreachable(f"it does not answer ({type(exc).__name__})") from None

    def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """A POST, with a token against forged requests where the server wants one; this client keeps it."""
        answer = self._client.post(path, json=body)
        if answer.status_code == 403 and _FORGERY_HEADER not in self._client.headers:
            client = str(uuid4())
            token = self._client.get("csrf-token", params={"client": client})
            token.raise_for_status()
            self._client.headers.update({_FORGERY_HEADER: str(token.json()["token"]), _FORGERY_CLIENT: client})
            answer = self._client.post(path, json=body)
        return answer

    def _runs(self, deployment: str, times: Mapping[str, str], limit: int) -> Sequence[Mapping[str, Any]]:
        body = {
            "deployments": {"id": {"any_": [deployment]}},
            "flow_runs": {"expected_start_time": times, "state": {"name": {"any_": list(_WAITS)}}},
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": limit,
        }
        runs: list[Mapping[str, Any]] = self.ask("flow_runs/filter", body)
        return runs


SETTLING: Final = timedelta(minutes=3)
"""How long the server may take to plan runs after a schedule was changed or a run was begun."""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
