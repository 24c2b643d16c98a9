"""What the registry says of one model, read without MLflow: importing it takes longer than a whole look may.

An MLflow server is asked over HTTP; where MLflow is a database of its own, its tables are read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from monitoring.core.hosts import is_encrypted

_DELETED = "Deleted_Internal"


class RegistryUnread(Exception):
    """The registry cannot be read; the text says why, without an address."""


@dataclass(frozen=True)
class RegistryFacts:
    """Aliases of a model, and its versions that are there."""

    aliases: Mapping[str, str]
    versions: frozenset[str]


def read_registry(uri: str, model: str, timeout_s: float) -> RegistryFacts:
    """Aliases and versions of a model.

    Raises:
        RegistryUnread: it does not answer, or not in a way that is understood.
    """
    if uri.startswith(("http://", "https://")):
        return _read_http(uri, model, timeout_s)
    if uri.startswith(("sqlite:", "postgresql")):
        return _read_tables(uri, model, timeout_s)
    raise RegistryUnread(f"no way to read an MLflow of the kind {uri.partition(':')[0]!r}")


def _read_http(uri: str, model: str, timeout_s: float) -> RegistryFacts:
    login = (os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    base = uri.rstrip("/") + "/api/2.0/mlflow"
    try:
        with httpx.Client(
            timeout=timeout_s,
            trust_env=False,
            verify=is_encrypted(uri),
            headers=headers,
            auth=login if login[0] else None,
        ) as client:
            model_response = client.get(f"{base}/registered-models/get", params={"name": model})
            if model_response.status_code == 404:
                return RegistryFacts({}, frozenset())
            model_response.raise_for_status()
            query: dict[str, str | int] = {"filter": f"name='{model}'", "max_results": 1000}
            versions = client.get(f"{base}/model-versions/search", params=query).raise_for_status()
            aliases = model_response.json()["registered_model"].get("aliases", [])
            version_rows = versions.json().get("model_versions", [])
    except httpx.HTTPStatusError as exc:
        raise RegistryUnread(f"it answered {exc.response.status_code}") from None
    except (httpx.HTTPError, ValueError, KeyError) as exc:
        raise RegistryUnread(f"it gave no usable answer ({type(exc).__name__})") from None
    return RegistryFacts(
        {str(row["alias"]): str(row["version"]) for row in aliases},
        frozenset(str(row["version"]) for row in version_rows),
    )


def _read_tables(uri: str, model: str, timeout_s: float) -> RegistryFacts:
    from pathlib import Path

    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    parsed = make_url(uri)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        return RegistryFacts({}, frozenset())
    options: dict[str, Any] = (
        {"timeout": timeout_s} if parsed.get_backend_name() == "sqlite" else {"connect_timeout": 2}
    )
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = create_engine(parsed, poolclass=NullPool, connect_args=options)
    try:
        with engine.connect() as connection:
            aliases = connection.execute(
                text("SELECT alias, version FROM registered_model_aliases WHERE name = :name"), {"name": model}
            ).all()
            versions = connection.execute(
                text("SELECT version FROM model_versions WHERE name = :name AND current_stage <> :gone"),
                {"name": model, "gone": _DELETED},
            ).all()
    except SQLAlchemyError as exc:
        raise RegistryUnread(f"its tables cannot be read ({type(exc).__name__})") from None
    finally:
        engine.dispose()
    return RegistryFacts({str(a): str(v) for a, v in aliases}, frozenset(str(v) for (v,) in versions))
